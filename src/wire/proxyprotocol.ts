// The PROXY protocol (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt): what a balancer says of a connection
// before its first byte. Versions 1 and 2 are read, version 2 is written. Nothing is guessed: the caller knows whether a
// header must be there.
import { crc32c } from './crc32c.ts'
import { ipBytes, ipText } from './ip.ts'

export interface Endpoint {
  /** IPv4 dotted, IPv6 in groups; not shortened. */
  readonly address: string
  readonly port: number
}

export interface Tlv {
  readonly type: number
  readonly value: Buffer
}

export interface ProxyHeader {
  /** Null: nobody is told of (LOCAL, UNKNOWN, AF_UNSPEC, UNIX): the connection speaks for itself. */
  readonly source: Endpoint | null
  readonly destination: Endpoint | null
  /** Copies, in the order sent, without padding and checksum. What they claim is not proven. */
  readonly tlvs: readonly Tlv[]
  /** Bytes of the header: what the client itself sent begins behind. */
  readonly length: number
}

/** Types of TLVs. `principal` is ztunnel's and Istio's for the SPIFFE id of the caller, of the range for custom use. */
export const tlvTypes = { crc32c: 0x03, noop: 0x04, principal: 0xd0 } as const

const signature = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1')
const fixedBytes = 16
/** Addresses and TLVs together. The largest in use, an SSL TLV with a client certificate, stays below. */
const maxBody = 4096
/** The bytes of a version 1 header with its end. */
const maxLine = 107
const wordV1 = 'PROXY '

/** Bytes of the addresses by family: unspecified, IPv4, IPv6, UNIX. */
const addressBytes = [0, 12, 36, 216] as const

/**
 * Looks at buf[start, end) and keeps nothing. 'more': all is well so far, ask again with more bytes; 'broken': no header, or
 * a wrong one.
 */
export function readProxyHeader(buf: Buffer, start: number, end: number): ProxyHeader | 'more' | 'broken' {
  if (start === end) return 'more'
  return buf[start] === signature[0] ? readBinary(buf, start, end) : readLine(buf, start, end)
}

function readBinary(buf: Buffer, start: number, end: number): ProxyHeader | 'more' | 'broken' {
  const there = end - start
  const compared = Math.min(there, signature.length)
  if (buf.compare(signature, 0, compared, start, start + compared) !== 0) return 'broken'
  const isLocal = buf[start + 12] === 0x20
  if (there > 12 && !isLocal && buf[start + 12] !== 0x21) return 'broken'
  const family = buf[start + 13]! >> 4
  // Datagrams do not come over a stream.
  if (there > 13 && !isLocal && (family > 3 || (buf[start + 13]! & 15) > 1)) return 'broken'
  if (there < fixedBytes) return 'more'
  const length = buf.readUInt16BE(start + 14)
  const addresses = isLocal ? 0 : addressBytes[family]!
  if (length > maxBody || length < addresses) return 'broken'
  if (there < fixedBytes + length) return 'more'
  const body = start + fixedBytes
  // Of LOCAL only the length counts: health checks of the balancer itself.
  if (isLocal) return { source: null, destination: null, tlvs: [], length: fixedBytes + length }
  const tlvs = readTlvs(buf, start, body + addresses, body + length)
  if (tlvs === null) return 'broken'
  const rest = { tlvs, length: fixedBytes + length }
  if (family === 1) return { ...endpoints(buf, body, 4), ...rest }
  if (family === 2) return { ...endpoints(buf, body, 16), ...rest }
  return { source: null, destination: null, ...rest }
}

function endpoints(buf: Buffer, at: number, size: 4 | 16): Pick<ProxyHeader, 'source' | 'destination'> {
  const ports = at + 2 * size
  return {
    source: { address: ipText(buf, at, size), port: buf.readUInt16BE(ports) },
    destination: { address: ipText(buf, at + size, size), port: buf.readUInt16BE(ports + 2) },
  }
}

/** Null: they do not fill the header to its end, or its checksum is wrong. */
function readTlvs(buf: Buffer, start: number, from: number, end: number): Tlv[] | null {
  const found: Tlv[] = []
  for (let at = from; at < end;) {
    if (at + 3 > end) return null
    const type = buf[at]!
    const value = at + 3
    at = value + buf.readUInt16BE(value - 2)
    if (at > end) return null
    if (type === tlvTypes.crc32c) {
      if (at - value !== 4 || !isSummed(buf, start, value, end)) return null
    } else if (type !== tlvTypes.noop) found.push({ type, value: Buffer.from(buf.subarray(value, at)) })
  }
  return found
}

/** The checksum is made over the whole header with zeros in its own place. */
function isSummed(buf: Buffer, start: number, place: number, end: number): boolean {
  const header = Buffer.from(buf.subarray(start, end))
  header.fill(0, place - start, place - start + 4)
  return crc32c(header) === buf.readUInt32BE(place)
}

/** `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n`. After UNKNOWN anything up to the end of the line is passed over. */
function readLine(buf: Buffer, start: number, end: number): ProxyHeader | 'more' | 'broken' {
  const compared = Math.min(end - start, wordV1.length)
  if (buf.latin1Slice(start, start + compared) !== wordV1.slice(0, compared)) return 'broken'
  const limit = Math.min(end, start + maxLine)
  const feed = buf.subarray(start, limit).indexOf(10)
  if (feed < 0) return end - start < maxLine ? 'more' : 'broken'
  if (buf[start + feed - 1] !== 13) return 'broken'
  const rest = { tlvs: [], length: feed + 1 }
  const line = buf.latin1Slice(start + wordV1.length, start + feed - 1)
  if (/^UNKNOWN(?: |$)/.test(line)) return { source: null, destination: null, ...rest }
  const [family = '', from = '', to = '', fromPort = '', toPort = '', ...more] = line.split(' ')
  const size = family === 'TCP4' ? 4 : family === 'TCP6' ? 16 : 0
  const port = /^(?:0|[1-9]\d{0,4})$/
  const isGood =
    more.length === 0 &&
    ipBytes(from)?.length === size &&
    ipBytes(to)?.length === size &&
    port.test(fromPort) &&
    port.test(toPort) &&
    Number(fromPort) < 65_536 &&
    Number(toPort) < 65_536
  if (!isGood) return 'broken'
  return {
    source: { address: from, port: Number(fromPort) },
    destination: { address: to, port: Number(toPort) },
    ...rest,
  }
}

/**
 * A version 2 header. Addresses of two families are both written as IPv6 (an IPv4 one as ::ffff:a.b.c.d); where one is not
 * known the header says AF_UNSPEC. TLVs that would not fit are left out from the first one on.
 */
export function proxyHeader(
  source: Endpoint | null,
  destination: Endpoint | null,
  tlvs: readonly Tlv[] = [],
): Buffer {
  const addresses = source === null || destination === null ? null : addressBlock(source, destination)
  const parts = [signature, Buffer.alloc(4), addresses ?? Buffer.alloc(0)]
  let length = parts[2]!.length
  for (const { type, value } of tlvs) {
    if (length + 3 + value.length > maxBody) break
    const head = Buffer.from([type, 0, 0])
    head.writeUInt16BE(value.length, 1)
    parts.push(head, value)
    length += 3 + value.length
  }
  const fixed = parts[1]!
  fixed[0] = 0x21
  fixed[1] = addresses === null ? 0 : addresses.length === 12 ? 0x11 : 0x21
  fixed.writeUInt16BE(length, 2)
  return Buffer.concat(parts)
}

function addressBlock(source: Endpoint, destination: Endpoint): Buffer | null {
  let from = ipBytes(source.address)
  let to = ipBytes(destination.address)
  if (from === null || to === null) return null
  if (from.length !== to.length) {
    from = mapped(from)
    to = mapped(to)
  }
  const block = Buffer.concat([from, to, Buffer.alloc(4)])
  block.writeUInt16BE(source.port, block.length - 4)
  block.writeUInt16BE(destination.port, block.length - 2)
  return block
}

function mapped(bytes: Buffer): Buffer {
  return bytes.length === 16 ? bytes : Buffer.concat([Buffer.from('00000000000000000000ffff', 'hex'), bytes])
}
