// Why a message was refused: negative codes, so that the parsers return them without allocating or throwing.
// 0 means "incomplete" and -1 means "more to come", so faults begin at -2.

export const Fault = {
  method: -2,
  target: -3,
  version: -4,
  requestLine: -5,
  targetTooLong: -6,
  bareLf: -7,
  bareCr: -8,
  fold: -9,
  emptyName: -10,
  name: -11,
  value: -12,
  headTooLarge: -13,
  tooManyHeaders: -14,
  contentLength: -15,
  duplicateContentLength: -16,
  transferCoding: -17,
  duplicateTransferCoding: -18,
  lengthAndCoding: -19,
  codingOnOldVersion: -20,
  missingHost: -21,
  duplicateHost: -22,
  host: -23,
  hostMismatch: -24,
  connection: -25,
  upgradeWithBody: -26,
  expectation: -27,
  unknownMethod: -28,
  unknownVersion: -29,
  unknownCoding: -30,
  bodyForbidden: -31,
  statusLine: -32,
  emptyLines: -33,
  upgrade: -34,
  chunkSize: -40,
  chunkOverflow: -41,
  chunkExtension: -42,
  chunkLine: -43,
  chunkOverhead: -44,
  trailer: -45,
  trailerTooLarge: -46,
  forbiddenTrailer: -47,
  // HTTP/2: what makes a message malformed (RFC 9113 8.1.1), a stream error.
  /** A pseudo field that is unknown, given twice, out of order or out of place. */
  pseudo: -50,
  missingPseudo: -51,
  /** A field that belongs to a connection, or TE other than `trailers` (RFC 9113 8.2.2). */
  connectionField: -52,
  scheme: -53,
  protocol: -54,
  status: -55,
  /** A priority that depends on its own stream (RFC 7540 5.3.1). */
  dependency: -56,
  // HPACK: the connection is beyond repair (COMPRESSION_ERROR).
  hpackIndex: -60,
  hpackInteger: -61,
  hpackTruncated: -62,
  hpackHuffman: -63,
  hpackTableSize: -64,
} as const

export type FaultCode = (typeof Fault)[keyof typeof Fault]

// Everything that is not here is a plain 400.
const statuses: Partial<Record<FaultCode, number>> = {
  [Fault.targetTooLong]: 414,
  [Fault.headTooLarge]: 431,
  [Fault.tooManyHeaders]: 431,
  [Fault.trailerTooLarge]: 431,
  [Fault.chunkOverflow]: 413,
  [Fault.expectation]: 417,
  [Fault.unknownMethod]: 501,
  [Fault.unknownCoding]: 501,
  [Fault.unknownVersion]: 505,
}

const names = new Map<number, string>(
  Object.entries(Fault).map(([name, code]) => [
    code,
    name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
  ]),
)

/** The status of the local reply to a request refused with this code: 400, 413, 414, 417, 431, 501 or 505. */
export function faultStatus(code: number): number {
  return statuses[code as FaultCode] ?? 400
}

/** A short stable word for logs, metrics and the reply's details: `duplicate_content_length`. */
export function faultName(code: number): string {
  return names.get(code) ?? 'unknown'
}
