// What a TLS client says of itself before anything is encrypted: the server name and the protocols of its ClientHello
// (RFC 8446 4.1.2 and 5.1, RFC 6066 3, RFC 7301 3.1). Strict: what a TLS server would refuse is not taken for TLS here.
import { regName } from './bytes.ts'

export interface ClientHello {
  /** Lower case; '' where the client sent none. */
  readonly serverName: string
  readonly alpn: readonly string[]
}

/** Bytes of a handshake message; post-quantum key shares make about 2,000. */
const maxMessage = 16_384
const maxRecord = 16_384
/** Records of one message. More is no client's habit, and each look walks over all of them. */
const maxRecords = 64
/** legacy_version, random, and the least of session id, cipher suites and compression methods. */
const minMessage = 2 + 32 + 1 + (2 + 2) + (1 + 1)

const handshakeRecord = 22
const clientHello = 1
const serverNameExtension = 0
const alpnExtension = 16

/**
 * Looks at buf[start, end) from its first byte on and keeps nothing; the result is made of new strings. 'more': all is
 * well so far, ask again with more bytes; 'opaque': not TLS, or broken.
 */
export function readClientHello(buf: Buffer, start: number, end: number): ClientHello | 'more' | 'opaque' {
  // A client may cut the message into several records, within its first four bytes too.
  const parts: Buffer[] = []
  let have = 0
  let size = 0
  for (let at = start; ;) {
    const length = recordLength(buf, at, end)
    if (length <= 0) return length === 0 ? 'more' : 'opaque'
    const from = at + 5
    const to = Math.min(from + length, end)
    for (let i = from; i < to && have + i - from < 4; i++) {
      const place = have + i - from
      if (place === 0 && buf[i] !== clientHello) return 'opaque'
      if (place > 0) size = size * 256 + buf[i]!
    }
    have += to - from
    parts.push(buf.subarray(from, to))
    if (have >= 4) {
      if (size < minMessage || size > maxMessage) return 'opaque'
      // Nothing may follow in the record: the next message belongs to the server.
      if (have - (to - from) + length > 4 + size) return 'opaque'
      if (have === 4 + size) return parse(parts.length === 1 ? parts[0]! : Buffer.concat(parts))
    }
    if (to < from + length) return 'more'
    if (parts.length === maxRecords) return 'opaque'
    at = to
  }
}

/** The length of the record's body; 0: not known yet; -1: no handshake record. */
function recordLength(buf: Buffer, at: number, end: number): number {
  const there = end - at
  if (there > 0 && buf[at] !== handshakeRecord) return -1
  if (there > 1 && buf[at + 1] !== 3) return -1
  if (there > 2 && buf[at + 2]! > 4) return -1
  if (there < 5) return 0
  const length = buf.readUInt16BE(at + 3)
  return length === 0 || length > maxRecord ? -1 : length
}

/** The whole message with its four bytes of header. */
function parse(message: Buffer): ClientHello | 'opaque' {
  if (message[4] !== 3) return 'opaque'
  let at = 4 + 2 + 32
  const session = message[at]!
  if (session > 32) return 'opaque'
  at += 1 + session
  if (at + 2 > message.length) return 'opaque'
  const suites = message.readUInt16BE(at)
  if (suites < 2 || suites % 2 !== 0) return 'opaque'
  at += 2 + suites
  if (at + 1 > message.length) return 'opaque'
  const compressions = message[at]!
  if (compressions === 0) return 'opaque'
  at += 1 + compressions
  // Before TLS 1.3 a hello might have no extensions at all.
  if (at === message.length) return { serverName: '', alpn: [] }
  if (at + 2 > message.length || message.readUInt16BE(at) !== message.length - at - 2) return 'opaque'
  return extensions(message, at + 2)
}

function extensions(message: Buffer, from: number): ClientHello | 'opaque' {
  const seen = new Set<number>()
  let serverName: string | null = ''
  let alpn: string[] | null = []
  for (let at = from; at < message.length;) {
    if (at + 4 > message.length) return 'opaque'
    const type = message.readUInt16BE(at)
    const body = at + 4
    const end = body + message.readUInt16BE(at + 2)
    if (end > message.length || seen.has(type)) return 'opaque'
    seen.add(type)
    if (type === serverNameExtension) serverName = hostName(message, body, end)
    else if (type === alpnExtension) alpn = protocolNames(message, body, end)
    if (serverName === null || alpn === null) return 'opaque'
    at = end
  }
  return { serverName, alpn }
}

/** A list of exactly one host name, as everybody sends it; null: anything else. */
function hostName(message: Buffer, from: number, end: number): string | null {
  if (end - from < 6 || message.readUInt16BE(from) !== end - from - 2) return null
  if (message[from + 2] !== 0 || message.readUInt16BE(from + 3) !== end - from - 5) return null
  if (end - from - 5 > 255) return null
  for (let i = from + 5; i < end; i++) if (regName[message[i]!] === 0) return null
  return message.latin1Slice(from + 5, end).toLowerCase()
}

function protocolNames(message: Buffer, from: number, end: number): string[] | null {
  if (end - from < 4 || message.readUInt16BE(from) !== end - from - 2) return null
  const names: string[] = []
  for (let at = from + 2; at < end;) {
    const next = at + 1 + message[at]!
    if (next === at + 1 || next > end) return null
    names.push(message.latin1Slice(at + 1, next))
    at = next
  }
  return names
}
