// What stands in every HTTP/2 frame (RFC 9113 4.1, 6, 7): types, flags, settings, error codes.

export const headerBytes = 9
/** The largest payload that we take and send: SETTINGS_MAX_FRAME_SIZE as it is without a word from us. */
export const maxPayload = 16384
/**
 * The largest DATA payload that we send: with its header it fills one TLS record, so that a peer that reads record by record
 * gets whole frames.
 */
export const maxData = maxPayload - headerBytes
/** The largest window and the largest increment (RFC 9113 6.9.1). */
export const maxWindow = 0x7fffffff
/** Every window before SETTINGS or WINDOW_UPDATE say otherwise. */
export const initialWindow = 65535

/** What a client sends before its first frame (RFC 9113 3.4). */
export const preface: Buffer = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')

export const Type = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const

export const Flag = {
  endStream: 0x1,
  ack: 0x1,
  endHeaders: 0x4,
  padded: 0x8,
  priority: 0x20,
} as const

export const Setting = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
  /** RFC 8441 3. */
  enableConnectProtocol: 8,
} as const

/** Error codes of RST_STREAM and GOAWAY (RFC 9113 7). */
export const Code = {
  noError: 0,
  protocolError: 1,
  internalError: 2,
  flowControlError: 3,
  settingsTimeout: 4,
  streamClosed: 5,
  frameSizeError: 6,
  refusedStream: 7,
  cancel: 8,
  compressionError: 9,
  connectError: 10,
  enhanceYourCalm: 11,
  inadequateSecurity: 12,
  http11Required: 13,
  /** Never on the wire: the connection went away under the stream. */
  gone: -1,
} as const

const names = new Map<number, string>(
  Object.entries(Code).map(([name, code]) => [
    code,
    name.replaceAll(/[A-Z]|(?<=p)11/g, (part) => `_${part.toLowerCase()}`),
  ]),
)

/** A short stable word for logs and metrics: `refused_stream`. */
export function codeName(code: number): string {
  return names.get(code) ?? `code_${code}`
}

/** Writes a frame's header to out[at…]; returns the place of the payload. */
export function writeHeader(
  out: Buffer,
  at: number,
  length: number,
  type: number,
  flags: number,
  id: number,
): number {
  out[at] = length >>> 16
  out[at + 1] = length >>> 8
  out[at + 2] = length
  out[at + 3] = type
  out[at + 4] = flags
  return writeWord(out, at + 5, id)
}

/** Writes 32 bits to out[at…]; returns the place behind. */
export function writeWord(out: Buffer, at: number, word: number): number {
  out[at] = word >>> 24
  out[at + 1] = word >>> 16
  out[at + 2] = word >>> 8
  out[at + 3] = word
  return at + 4
}

/** 32 bits without a sign. */
export function readWord(buf: Buffer, at: number): number {
  return ((buf[at]! << 24) | (buf[at + 1]! << 16) | (buf[at + 2]! << 8) | buf[at + 3]!) >>> 0
}

/** 31 bits: a stream id, a window's increment. The first bit is reserved and ignored. */
export function readId(buf: Buffer, at: number): number {
  return ((buf[at]! & 0x7f) << 24) | (buf[at + 1]! << 16) | (buf[at + 2]! << 8) | buf[at + 3]!
}
