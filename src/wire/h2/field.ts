// One header field of HTTP/2, checked when it is made and shared by every head that refers to the same table entry.
import { COLON, CR, LF, SP, TAB, sameToken, target, textEnd, token } from '../bytes.ts'
import { Fault } from '../fault.ts'
import { canonicalHost, parseLength } from '../framing.ts'
import { methodAt } from '../methods.ts'
import { Name } from '../names.ts'
import { nameFrom, Pseudo } from './fieldname.ts'
import type { FieldName } from './fieldname.ts'

const spread = 0x9e3779b1

/**
 * The key under which tables look for a field, of the `hashOf` its name and its value: cheap, for every field of every head.
 * A few bytes tell values apart well enough, since what is found is compared to the end.
 */
export function keyOfBytes(nameHash: number, buf: Uint8Array, start: number, end: number): number {
  const length = end - start
  const quarter = length >> 2
  const bytes =
    length === 0
      ? 0
      : buf[end - 1]! |
        (buf[start + (length >> 1)]! << 8) |
        (buf[start + quarter]! << 16) |
        (buf[end - 1 - quarter]! << 24)
  return Math.imul((Math.imul(nameHash, 31) + length) ^ bytes, spread)
}

/** The same for a value that is a string of one character per byte. */
export function keyOfText(nameHash: number, value: string): number {
  const length = value.length
  const quarter = length >> 2
  const bytes =
    length === 0
      ? 0
      : value.charCodeAt(length - 1) |
        (value.charCodeAt(length >> 1) << 8) |
        (value.charCodeAt(quarter) << 16) |
        (value.charCodeAt(length - 1 - quarter) << 24)
  return Math.imul((Math.imul(nameHash, 31) + length) ^ bytes, spread)
}

let lines = Buffer.alloc(4096)

export class Field {
  /** Lower case; pseudo fields with their colon; the very same string for every field of an interned name. */
  readonly name: string
  /** One character per byte. */
  readonly value: string
  /** The name's place in wire/names.ts, or one of `Pseudo`; 0: neither. */
  readonly id: number
  readonly named: FieldName
  /** Its `keyOfBytes`. */
  readonly hash: number
  /** What it counts in tables and limits: name + value + 32 (RFC 7541 4.1). */
  readonly size: number
  /** To be sent on as never indexed: it came so (RFC 7541 6.2.3), or is a credential by its name. */
  readonly isSensitive: boolean
  /** 0, or why it may not stand in any message. */
  readonly fault: number
  /** Whether nothing needs to be looked at when it is added to a head. */
  readonly isPlain: boolean
  /** The value of content-length and :status; -1 for others. */
  readonly number: number
  /** The value of host and :authority as routes compare it (see `canonicalHost`); '' for others. */
  readonly canonical: string
  #line: string
  #isWritten: boolean

  constructor(named: FieldName, value: string, hash: number, isNever: boolean, checked: Checked) {
    this.name = named.text
    this.value = value
    this.id = named.id
    this.named = named
    this.hash = hash
    this.size = named.text.length + value.length + 32
    this.isSensitive = isNever || named.isSensitive
    this.fault = checked.fault
    this.isPlain = checked.fault === 0 && !checked.isSpecial
    this.number = checked.number
    this.canonical = checked.canonical
    this.#line = ''
    this.#isWritten = false
  }

  /** `name: value\r\n` as HTTP/1.1 has it, a flat string; '' for pseudo fields. Made when first asked for. */
  get line(): string {
    if (this.#line !== '' || this.named.isPseudo) return this.#line
    const length = this.name.length + this.value.length + 4
    if (lines.length < length) lines = Buffer.alloc(length * 2)
    this.#write(lines, 0)
    return (this.#line = lines.latin1Slice(0, length))
  }

  /** Writes the same to out[at…]; returns the place behind. `out` needs name + value + 4 bytes of room. */
  writeLine(out: Buffer, at: number): number {
    if (this.#line !== '') return at + out.latin1Write(this.#line, at)
    const end = this.#write(out, at)
    // Written a second time, it comes from a table and will come again.
    if (this.#isWritten) this.#line = out.latin1Slice(at, end)
    this.#isWritten = true
    return end
  }

  #write(out: Buffer, at: number): number {
    at = writeText(out, at, this.name)
    out[at++] = COLON
    out[at++] = SP
    at = writeText(out, at, this.value)
    out[at++] = CR
    out[at++] = LF
    return at
  }
}

/** Longer strings are copied by the runtime, shorter ones byte by byte: a call costs as much as so many bytes. */
const longText = 12

/** Writes one byte per character; returns the place behind. */
export function writeText(out: Buffer, at: number, text: string): number {
  if (text.length > longText) return at + out.latin1Write(text, at)
  for (let i = 0; i < text.length; i++) out[at++] = text.charCodeAt(i)
  return at
}

/** What `check` found; one for the process, read before the next field is made. */
class Checked {
  fault = 0
  isSpecial = false
  number = -1
  canonical = ''
}

const checked = new Checked()

/** Makes a field of a name and the value in buf[start, end), which is not kept. */
export function makeField(
  named: FieldName,
  buf: Buffer,
  start: number,
  end: number,
  isNever: boolean,
): Field {
  const value = start === end ? '' : buf.latin1Slice(start, end)
  checked.fault = named.fault
  checked.isSpecial = named.isPseudo
  checked.number = -1
  checked.canonical = ''
  if (checked.fault === 0) checked.fault = valueFault(buf, start, end)
  if (checked.fault === 0) checkSpecial(named.id, buf, start, end, value)
  return new Field(named, value, keyOfBytes(named.hash, buf, start, end), isNever, checked)
}

/** A field of our own, lower-case name. One character of `value` is one byte. */
export function fieldOf(name: string, value: string): Field {
  const bytes = Buffer.from(value, 'latin1')
  return makeField(nameFrom(name), bytes, 0, bytes.length, false)
}

/** Controls, and blanks at the ends (RFC 9113 8.2.1): the bytes that HTTP/1.1 has no way to carry in a value. */
function valueFault(buf: Buffer, start: number, end: number): number {
  if (start === end) return 0
  if (textEnd(buf, start, end) < end) return Fault.value
  const first = buf[start]
  const last = buf[end - 1]
  return first === SP || first === TAB || last === SP || last === TAB ? Fault.value : 0
}

/** Fields whose value has a form that we rely on. */
function checkSpecial(id: number, buf: Buffer, start: number, end: number, value: string): void {
  switch (id) {
    case Name.contentLength:
      checked.isSpecial = true
      checked.number = parseLength(buf, start, end)
      if (checked.number < 0) checked.fault = checked.number
      return
    case Name.host:
    case Pseudo.authority:
      checked.isSpecial = true
      checked.canonical = canonicalHost(buf, start, end)
      if (checked.canonical === '') checked.fault = Fault.host
      return
    case Name.te:
      if (!sameToken(buf, start, end, 'trailers')) checked.fault = Fault.connectionField
      return
    case Name.expect:
      checked.isSpecial = true
      if (!sameToken(buf, start, end, '100-continue')) checked.fault = Fault.expectation
      return
    case Pseudo.method:
      // Unknown ones are refused as in HTTP/1.1: a server behind us might read `delete` as DELETE.
      if (methodAt(buf, start, end) === undefined) {
        checked.fault = isToken(buf, start, end) ? Fault.unknownMethod : Fault.method
      }
      return
    case Pseudo.scheme:
      if (value !== 'http' && value !== 'https') checked.fault = Fault.scheme
      return
    case Pseudo.path:
      if (!isPath(buf, start, end)) checked.fault = Fault.target
      return
    case Pseudo.protocol:
      if (!isToken(buf, start, end)) checked.fault = Fault.protocol
      return
    case Pseudo.status: {
      const status = end - start === 3 ? parseLength(buf, start, end) : -1
      if (status < 100) checked.fault = Fault.status
      checked.number = status
      return
    }
    default:
  }
}

function isToken(buf: Buffer, start: number, end: number): boolean {
  for (let i = start; i < end; i++) if (token[buf[i]!] === 0) return false
  return start < end
}

/** `/path?query` of bytes that a request line of HTTP/1.1 may have, or `*`; a backslash in the query only. */
function isPath(buf: Buffer, start: number, end: number): boolean {
  if (start === end) return false
  if (buf[start] === 42) return end - start === 1
  if (buf[start] !== 47) return false
  const bytes = target
  let isQuery = false
  for (let i = start; i < end; i++) {
    const kind = bytes[buf[i]!]
    if (kind === 0 || (kind === 2 && !isQuery)) return false
    if (buf[i] === 63) isQuery = true
  }
  return true
}
