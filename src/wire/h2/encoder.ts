// HPACK encoding (RFC 7541). What repeats is sent as an index; what is met for the first time is not put into the table,
// so that ids and traces never push out what repeats. No Huffman: our links have more bandwidth than time.
import { token } from '../bytes.ts'
import { nameOf } from '../names.ts'
import { keyOfBytes, keyOfText, writeText } from './field.ts'
import type { Field } from './field.ts'
import { isSensitiveId, isUniqueId, nameFrom, Pseudo, pseudoName } from './fieldname.ts'
import type { FieldName } from './fieldname.ts'
import { SendTable } from './sendtable.ts'
import { dynamicFirst, staticIndex, staticIndexOf, staticName } from './statictable.ts'

/** The table's size before any SETTINGS (RFC 9113 6.5.2). */
const defaultTableBytes = 4096

/** Of how many hashes we remember that they were seen. */
const rememberedBits = 9

/** Longer values are copied by the runtime, shorter ones byte by byte: a call costs as much as so many bytes. */
const longValue = 36

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
  #lastValues: string[] = ['', '', '', '', '', '']
  #lastStatic = new Uint8Array(6)
  #lastSeq = new Int32Array(6)

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
      const age = this.#table.findField(field)
      if (age > 0) return writeIndex(out, at, age + dynamicFirst - 1)
    }
    return this.#write(out, at, field.named, field.value, field.hash, field.isSensitive)
  }

  /** A field of our own, pseudo fields too; the name in lower case, of `value` one character a byte. */
  text(out: Buffer, at: number, name: string, value: string, isSensitive: boolean): number {
    const pseudo = pseudoName(name)
    if (pseudo !== undefined && !isSensitive) return this.#pseudo(out, at, pseudo, value)
    const named = nameFrom(name)
    const key = keyOfText(named.hash, value)
    if (!isSensitive) {
      const age = this.#table.findText(key, name, value)
      if (age > 0) return writeIndex(out, at, age + dynamicFirst - 1)
    }
    return this.#write(out, at, named, value, key, isSensitive)
  }

  status(out: Buffer, at: number, status: number): number {
    return this.#pseudo(out, at, pseudoName(':status')!, statusTexts[status]!)
  }

  /** Of each pseudo field the last value and where it was found are kept: it is often the next one too. */
  #pseudo(out: Buffer, at: number, named: FieldName, value: string): number {
    const table = this.#table
    const place = named.id - Pseudo.method
    if (this.#lastValues[place] === value) {
      const fixed = this.#lastStatic[place]!
      if (fixed > 0) return writeIndex(out, at, fixed)
      const age = table.age(this.#lastSeq[place]!)
      if (age > 0) return writeIndex(out, at, age + dynamicFirst - 1)
    }
    const fixed = staticIndex(named.id, value)
    this.#lastValues[place] = value
    this.#lastStatic[place] = fixed
    if (fixed > 0) return writeIndex(out, at, fixed)
    const key = keyOfText(named.hash, value)
    let age = table.findText(key, named.text, value)
    if (age > 0) at = writeIndex(out, at, age + dynamicFirst - 1)
    else {
      at = this.#write(out, at, named, value, key, false)
      age = table.findText(key, named.text, value)
    }
    // No entry is as old as this: gone.
    this.#lastSeq[place] = table.newest + 1 - (age === 0 ? table.count + 1 : age)
    return at
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
    const isSensitive = isSensitiveId(id)
    const key = keyOfBytes(nameHash, buf, value, valueEnd)
    if (!isSensitive) {
      const age = table.findBytes(key, id, buf, name, nameEnd, value, valueEnd)
      if (age > 0) return writeIndex(out, at, age + dynamicFirst - 1)
      const fixed = staticIndexOf(id, buf, value, valueEnd)
      if (fixed > 0) return writeIndex(out, at, fixed)
    }
    let index = staticName[id]!
    if (index === 0) {
      const age = table.findName(nameHash, id, buf, name, nameEnd)
      if (age > 0) index = age + dynamicFirst - 1
    }
    // A field goes into the table when it was seen before, or when its name was and would have an index then.
    const isKept =
      !isSensitive &&
      table.takes(nameEnd - name + valueEnd - value + 32) &&
      ((!isUniqueId(id) && this.#isSeen(hashBytes(key, buf, value, valueEnd))) ||
        (index === 0 && this.#isSeen(nameHash)))
    at = writeName(out, at, isSensitive, isKept, index)
    if (index === 0) {
      at = writeInteger(out, at, 0, 0x7f, nameEnd - name)
      for (let i = name; i < nameEnd; i++) out[at++] = token[buf[i]!]!
    }
    at = writeInteger(out, at, 0, 0x7f, valueEnd - value)
    if (valueEnd - value > longValue) at += buf.copy(out, at, value, valueEnd)
    else for (let i = value; i < valueEnd; i++) out[at++] = buf[i]!
    if (isKept) {
      const text = id > 0 ? nameOf(id) : buf.latin1Slice(name, nameEnd).toLowerCase()
      table.insert(key, nameHash, id, text, buf.latin1Slice(value, valueEnd))
    }
    return at
  }

  /** A field that the dynamic table does not have. */
  #write(
    out: Buffer,
    at: number,
    named: FieldName,
    value: string,
    key: number,
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
      const age = table.findNameText(named.hash, name)
      if (age > 0) index = age + dynamicFirst - 1
    }
    const isKept =
      !isSensitive &&
      table.takes(name.length + value.length + 32) &&
      ((!named.isUnique && this.#isSeen(hashText(key, value))) || (index === 0 && this.#isSeen(named.hash)))
    at = writeName(out, at, isSensitive, isKept, index)
    if (index === 0) at = writeString(out, at, name)
    at = writeString(out, at, value)
    if (isKept) table.insert(key, named.hash, named.id, name, value)
    return at
  }

  #isSeen(hash: number): boolean {
    const place = Math.imul(hash, 0x9e3779b1) >>> (32 - rememberedBits)
    if (this.#seen[place] === hash) return true
    this.#seen[place] = hash
    return false
  }
}

/** A hash over all of a value, begun with its key. */
function hashBytes(key: number, buf: Buffer, start: number, end: number): number {
  let hash = key
  for (; start < end; start++) hash = Math.imul(hash, 33) ^ buf[start]!
  return hash
}

function hashText(key: number, value: string): number {
  let hash = key
  for (let i = 0; i < value.length; i++) hash = Math.imul(hash, 33) ^ value.charCodeAt(i)
  return hash
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

function writeString(out: Buffer, at: number, text: string): number {
  return writeText(out, writeInteger(out, at, 0, 0x7f, text.length), text)
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
