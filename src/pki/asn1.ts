// DER, built and read through node-forge's asn1 module: the one file that knows it. Bytes are Buffers outside and
// latin1 strings inside, as forge wants them.
import type forge from 'node-forge'
import asn1 from 'node-forge/lib/asn1.js'
import { MeshError } from '../errors.ts'

export type Node = forge.asn1.Asn1

const { UNIVERSAL, CONTEXT_SPECIFIC } = asn1.Class
const { Type } = asn1

/** No structure of ours nests deeper than 12; a hostile one may not exhaust the stack. */
const maxDepth = 24

/** First year that GeneralizedTime is used for (RFC 5280 4.1.2.5). */
const generalizedFrom = 2050

const malformed = (what: string, cause?: unknown): MeshError =>
  new MeshError('MSH0402', `malformed ${what}`, { cause })

/** Strict DER: minimal lengths and nothing behind the structure, which is proved by encoding it again. */
export function decode(der: Buffer, what: string): Node {
  let node: Node
  try {
    // The declared type knows a boolean only; the options are documented in forge's asn1.js.
    const options = { strict: true, parseAllBytes: true, decodeBitStrings: false, maxDepth }
    node = asn1.fromDer(der.toString('latin1'), options as unknown as boolean)
  } catch (error) {
    throw malformed(`${what}: not DER`, error)
  }
  if (!encode(node).equals(der)) throw malformed(`${what}: not canonical DER`)
  return node
}

export function encode(node: Node): Buffer {
  return Buffer.from(asn1.toDer(node).getBytes(), 'latin1')
}

// --- building

export function sequence(...children: Node[]): Node {
  return asn1.create(UNIVERSAL, Type.SEQUENCE, true, children)
}

export function set(...children: Node[]): Node {
  return asn1.create(UNIVERSAL, Type.SET, true, children)
}

export function oid(dotted: string): Node {
  return asn1.create(UNIVERSAL, Type.OID, false, asn1.oidToDer(dotted).getBytes())
}

export function utf8(text: string): Node {
  return asn1.create(UNIVERSAL, Type.UTF8, false, Buffer.from(text, 'utf8').toString('latin1'))
}

/** NULL, the parameters of algorithms that have none. */
export function empty(): Node {
  return asn1.create(UNIVERSAL, Type.NULL, false, '')
}

export function boolean(value: boolean): Node {
  return asn1.create(UNIVERSAL, Type.BOOLEAN, false, value ? '\xff' : '\x00')
}

/** A non-negative integer from its big-endian bytes. */
export function integer(bytes: Buffer | number): Node {
  if (typeof bytes === 'number')
    return asn1.create(UNIVERSAL, Type.INTEGER, false, asn1.integerToDer(bytes).getBytes())
  let start = 0
  while (start < bytes.length - 1 && bytes[start] === 0) start++
  const significant = bytes.subarray(start)
  const sign = (significant[0] ?? 0) >= 0x80 ? '\x00' : ''
  return asn1.create(UNIVERSAL, Type.INTEGER, false, sign + significant.toString('latin1'))
}

export function octets(content: Buffer): Node {
  return asn1.create(UNIVERSAL, Type.OCTETSTRING, false, content.toString('latin1'))
}

/** A bit string; `unused` bits at its end do not count. */
export function bits(content: Buffer, unused: number = 0): Node {
  return asn1.create(
    UNIVERSAL,
    Type.BITSTRING,
    false,
    String.fromCharCode(unused) + content.toString('latin1'),
  )
}

export function tagged(tag: number, content: Buffer | Node[]): Node {
  const constructed = Array.isArray(content)
  return asn1.create(
    CONTEXT_SPECIFIC,
    tag as forge.asn1.Type,
    constructed,
    constructed ? content : content.toString('latin1'),
  )
}

/** UTCTime until 2049, GeneralizedTime after, in whole seconds. */
export function time(ms: number): Node {
  const date = new Date(ms)
  return date.getUTCFullYear() < generalizedFrom
    ? asn1.create(UNIVERSAL, Type.UTCTIME, false, asn1.dateToUtcTime(date))
    : asn1.create(UNIVERSAL, Type.GENERALIZEDTIME, false, asn1.dateToGeneralizedTime(date))
}

// --- reading; each throws MSH0402 where the structure is another

export function children(node: Node | undefined, what: string): Node[] {
  if (node === undefined || !node.constructed || !Array.isArray(node.value)) throw malformed(what)
  return node.value
}

export function sequenceOf(node: Node | undefined, what: string): Node[] {
  if (node?.tagClass !== UNIVERSAL || node.type !== Type.SEQUENCE) throw malformed(what)
  return children(node, what)
}

export function setOf(node: Node | undefined, what: string): Node[] {
  if (node?.tagClass !== UNIVERSAL || node.type !== Type.SET) throw malformed(what)
  return children(node, what)
}

export function bytesOf(node: Node | undefined, what: string): Buffer {
  if (node === undefined || node.constructed || typeof node.value !== 'string') throw malformed(what)
  return Buffer.from(node.value, 'latin1')
}

export function oidOf(node: Node | undefined, what: string): string {
  if (node?.tagClass !== UNIVERSAL || node.type !== Type.OID) throw malformed(what)
  return asn1.derToOid(bytesOf(node, what).toString('latin1'))
}

export function octetsOf(node: Node | undefined, what: string): Buffer {
  if (node?.tagClass !== UNIVERSAL || node.type !== Type.OCTETSTRING) throw malformed(what)
  return bytesOf(node, what)
}

export function booleanOf(node: Node | undefined, what: string): boolean {
  if (node?.tagClass !== UNIVERSAL || node.type !== Type.BOOLEAN) throw malformed(what)
  return bytesOf(node, what)[0] !== 0
}

/** A small non-negative integer (a version, a path length). */
export function integerOf(node: Node | undefined, what: string): number {
  if (node?.tagClass !== UNIVERSAL || node.type !== Type.INTEGER) throw malformed(what)
  const bytes = bytesOf(node, what)
  if (bytes.length !== 1 || (bytes[0] ?? 0) >= 0x80) throw malformed(what)
  return bytes[0] ?? 0
}

/** Content of a bit string of whole bytes (keys, signatures); `flags` allows unused bits at its end. */
export function bitsOf(node: Node | undefined, what: string, flags: boolean = false): Buffer {
  if (node?.tagClass !== UNIVERSAL || node.type !== Type.BITSTRING) throw malformed(what)
  const bytes = bytesOf(node, what)
  if (bytes.length === 0 || (!flags && bytes[0] !== 0)) throw malformed(what)
  return bytes.subarray(1)
}

export function isBoolean(node: Node | undefined): boolean {
  return node?.tagClass === UNIVERSAL && node.type === Type.BOOLEAN
}

/** The number of a context-specific tag; null for any other node. */
export function tagOf(node: Node): number | null {
  return node.tagClass === CONTEXT_SPECIFIC ? node.type : null
}
