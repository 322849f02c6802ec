// HPACK encoding (RFC 7541). What repeats is sent as an index; what is met for the first time is not put into the table,
// so that ids and traces never push out what repeats. No Huffman: our links have more bandwidth than time.
import { token } from '../bytes.ts'
import { nameOf } from '../names.ts'
import { hashBytes, hashText } from './field.ts'
import type { Field } from './field.ts'
import { isSensitiveId, nameFrom } from './fieldname.ts'
import type { FieldName } from './fieldname.ts'
import { SendTable } from './sendtable.ts'
import { dynamicFirst, staticIndex, staticIndexOf, staticName } from './statictable.ts'

/** The table's size before any SETTINGS (RFC 9113 6.5.2). */
const defaultTableBytes = 4096

/** Of how many hashes we remember that they were seen. */
const rememberedBits = 9

/** Longer strings are copied by the runtime, shorter ones byte by byte: a call costs as much as so many bytes. */
const longText = 64

const statusTexts: readonly string[] = Array.from({ length: 1000 }, (_, status) => String(status))

/**
 * Every method writes to `out` and returns the place behind. Room is the caller's business: the lengths of name and value
 * and 16 bytes more for each field, 16 bytes for `begin`. All that is written must be sent, in this order: the peer's table follows.
 */
export class HpackEncoder {
  #table: SendTable
  #capacity: number
  #seen = new Int32Array(1 << rememberedBits)
  /** Sizes to tell the peer before the next block (RFC 7541 4.2): the smallest since, and the last; -1: nothing to tell. */
  #leastBytes = -1

  /** `maxTableBytes`: what we are willing to remember per connection. */
  constructor(maxTableBytes: number) {
    this.#capacity = maxTableBytes
    this.#table = new SendTable(maxTableBytes)
    this.#table.resize(defaultTableBytes)
    if (maxTableBytes < defaultTableBytes) this.#setBytes(maxTableBytes)
  }

  /** The peer's SETTINGS_HEADER_TABLE_SIZE. */
  setPeerTableBytes(bytes: number): void {
    this.#setBytes(Math.min(bytes, this.#capacity))
  }

  #setBytes(bytes: number): void {
    if (bytes === this.#table.bytes) return
    this.#leastBytes = this.#leastBytes < 0 ? bytes : Math.min(this.#leastBytes, bytes)
    this.#table.resize(bytes)
  }

  /** Starts a block. */
  begin(out: Buffer, at: number): number {
    if (this.#leastBytes < 0) return at
    const bytes = this.#table.bytes
    if (this.#leastBytes < bytes) at = writeInteger(out, at, 0x20, 0x1f, this.#leastBytes)
    this.#leastBytes = -1
    return writeInteger(out, at, 0x20, 0x1f, bytes)
  }

  /** A decoded field passed on. */
  field(out: Buffer, at: number, field: Field): number {
    if (!field.isSensitive) {
      const age = this.#table.find(field.hash, field.name.length, field.value.length)
      if (age > 0 && this.#table.isField(age, field)) return writeIndex(out, at, age + dynamicFirst - 1)
    }
    return this.#write(out, at, field.named, field.value, field.hash, field.isSensitive)
  }

  /** A field of our own, pseudo fields too; the name in lower case, of `value` one character a byte. */
  text(out: Buffer, at: number, name: string, value: string, isSensitive: boolean): number {
    const named = nameFrom(name)
    if (isSensitive) return this.#write(out, at, named, value, 0, true)
    const hash = hashText(named.hash, value)
    const age = this.#table.find(hash, name.length, value.length)
    if (age > 0 && this.#table.isText(age, name, value)) return writeIndex(out, at, age + dynamicFirst - 1)
    return this.#write(out, at, named, value, hash, false)
  }

  status(out: Buffer, at: number, status: number): number {
    return this.text(out, at, ':status', statusTexts[status]!, false)
  }

  /**
   * A line of an HTTP/1.1 head as `Head` keeps it: name (in whatever case) and value as ranges of `buf`, the name's
   * `hashOf` and its place in wire/names.ts.
   */
  bytes(
    out: Buffer,
    at: number,
    buf: Buffer,
    name: number,
    nameEnd: number,
    value: number,
    valueEnd: number,
    nameHash: number,
    id: number,
  ): number {
    const table = this.#table
    const nameLength = nameEnd - name
    const isSensitive = isSensitiveId(id)
    let hash = 0
    if (!isSensitive) {
      hash = hashBytes(nameHash, buf, value, valueEnd)
      const age = table.find(hash, nameLength, valueEnd - value)
      if (age > 0 && table.isValue(age, buf, value, valueEnd) && table.isName(age, buf, name, nameEnd)) {
        return writeIndex(out, at, age + dynamicFirst - 1)
      }
      const index = staticIndexOf(id, buf, value, valueEnd)
      if (index > 0) return writeIndex(out, at, index)
    }
    let index = staticName[id]!
    if (index === 0) {
      const age = table.findName(nameHash, nameLength)
      if (age > 0 && table.isName(age, buf, name, nameEnd)) index = age + dynamicFirst - 1
    }
    const size = nameLength + valueEnd - value + 32
    const isKept = !isSensitive && table.takes(size) && this.#isWorthy(hash, nameHash, index > 0)
    at = writeName(out, at, isSensitive, isKept, index)
    if (index === 0) {
      at = writeInteger(out, at, 0, 0x7f, nameLength)
      for (let i = name; i < nameEnd; i++) out[at++] = token[buf[i]!]!
    }
    at = writeInteger(out, at, 0, 0x7f, valueEnd - value)
    if (valueEnd - value > longText) at += buf.copy(out, at, value, valueEnd)
    else for (let i = value; i < valueEnd; i++) out[at++] = buf[i]!
    if (isKept) {
      const text = id > 0 ? nameOf(id) : buf.latin1Slice(name, nameEnd).toLowerCase()
      table.insert(hash, nameHash, text, buf.latin1Slice(value, valueEnd))
    }
    return at
  }

  /** A field that the dynamic table does not have. */
  #write(
    out: Buffer,
    at: number,
    named: FieldName,
    value: string,
    hash: number,
    isSensitive: boolean,
  ): number {
    const table = this.#table
    const name = named.text
    let index = staticName[named.id]!
    if (index > 0 && !isSensitive) {
      const exact = staticIndex(named.id, value)
      if (exact > 0) return writeIndex(out, at, exact)
    }
    if (index === 0) {
      const age = table.findName(named.hash, name.length)
      if (age > 0 && table.isNameText(age, name)) index = age + dynamicFirst - 1
    }
    const isKept =
      !isSensitive &&
      table.takes(name.length + value.length + 32) &&
      this.#isWorthy(hash, named.hash, index > 0)
    at = writeName(out, at, isSensitive, isKept, index)
    if (index === 0) at = writeText(out, at, name)
    at = writeText(out, at, value)
    if (isKept) table.insert(hash, named.hash, name, value)
    return at
  }

  /** Whether a field goes into the table: it was seen before, or its name was and would have an index then. */
  #isWorthy(hash: number, nameHash: number, hasName: boolean): boolean {
    return this.#isSeen(hash) || (!hasName && this.#isSeen(nameHash))
  }

  #isSeen(hash: number): boolean {
    const place = Math.imul(hash, 0x9e3779b1) >>> (32 - rememberedBits)
    if (this.#seen[place] === hash) return true
    this.#seen[place] = hash
    return false
  }
}

function writeIndex(out: Buffer, at: number, index: number): number {
  if (index >= 0x7f) return writeInteger(out, at, 0x80, 0x7f, index)
  out[at] = 0x80 | index
  return at + 1
}

/** The start of a literal (RFC 7541 6.2), up to the index of its name. */
function writeName(out: Buffer, at: number, isSensitive: boolean, isKept: boolean, index: number): number {
  if (isKept) return writeInteger(out, at, 0x40, 0x3f, index)
  return writeInteger(out, at, isSensitive ? 0x10 : 0, 0x0f, index)
}

function writeText(out: Buffer, at: number, text: string): number {
  at = writeInteger(out, at, 0, 0x7f, text.length)
  if (text.length > longText) return at + out.latin1Write(text, at)
  for (let i = 0; i < text.length; i++) out[at++] = text.charCodeAt(i)
  return at
}

/** An integer behind the bits `first`, with a prefix of the bits `mask` (RFC 7541 5.1). */
function writeInteger(out: Buffer, at: number, first: number, mask: number, value: number): number {
  if (value < mask) {
    out[at] = first | value
    return at + 1
  }
  out[at++] = first | mask
  for (value -= mask; value > 0x7f; value >>>= 7) out[at++] = 0x80 | (value & 0x7f)
  out[at] = value
  return at + 1
}
