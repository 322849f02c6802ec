// HPACK decoding (RFC 7541): header blocks to fields, and the table that the peer fills.
import { Fault } from '../fault.ts'
import { makeField } from './field.ts'
import type { Field } from './field.ts'
import { readName } from './fieldname.ts'
import type { FieldName } from './fieldname.ts'
import type { Fields } from './fields.ts'
import { huffmanBroken, huffmanDecode, huffmanFull } from './huffman.ts'
import { dynamicFirst, staticFields } from './statictable.ts'

export interface HpackLimits {
  /** Fields of a block, every crumb of a cookie counted. */
  readonly maxFields: number
  /** Decoded size of a block: name + value + 32 of each field. */
  readonly maxListBytes: number
  /** The SETTINGS_HEADER_TABLE_SIZE that we announce. */
  readonly maxTableBytes: number
}

/** The table's size before any SETTINGS (RFC 9113 6.5.2). */
const defaultTableBytes = 4096

/** Numbers of entries wrap at 32 bits; they do so soon after this, so that every test goes through it. */
const firstNumber = 0x7fffff80

/** Integers above this are of no use to anybody; it keeps all sums far below 2^31. */
const maxInteger = 1 << 24

/** Where Huffman-coded strings are decoded to; one for the process, since decoding never yields. */
let scratch = Buffer.alloc(8192)

export class HpackDecoder {
  #limits: HpackLimits
  /** Strings longer than this fit neither a head nor the table. */
  #maxString: number
  /** The entries, the newest at `#next - 1`; places count on and are masked. */
  #ring: (Field | null)[]
  #mask: number
  #next = firstNumber
  #count = 0
  #size = 0
  /** The size that the peer has chosen, and the largest that it may choose. */
  #tableBytes = defaultTableBytes
  #allowedBytes: number
  /** We have announced less than the peer was using: its next block must say that it has heard. */
  #mustShrink = false
  // What the methods below return besides a place: the integer; the string's bytes, or null where it is too long.
  #integer = 0
  #source: Buffer | null = null
  #from = 0
  #to = 0

  constructor(limits: HpackLimits) {
    this.#limits = limits
    this.#allowedBytes = Math.max(limits.maxTableBytes, defaultTableBytes)
    this.#maxString = Math.max(limits.maxListBytes, this.#allowedBytes)
    let slots = 1
    while (slots < this.#allowedBytes / 32) slots *= 2
    this.#ring = Array.from({ length: slots }, () => null)
    this.#mask = slots - 1
  }

  /** The peer has acknowledged our SETTINGS: from now on it keeps to the table size that they announce. */
  acknowledged(): void {
    this.#allowedBytes = this.#limits.maxTableBytes
    this.#mustShrink = this.#tableBytes > this.#allowedBytes
  }

  /**
   * Decodes the whole block in buf[start, end) into `fields`; nothing of `buf` is kept. Returns 0, or a fault (< 0) after
   * which the connection is beyond repair (COMPRESSION_ERROR). What makes only this message bad is told by `fields`.
   */
  decode(buf: Buffer, start: number, end: number, fields: Fields): number {
    fields.begin(this.#limits.maxFields, this.#limits.maxListBytes)
    let at = start
    while (at < end) {
      const byte = buf[at]!
      if (byte < 0x80) {
        at = this.#other(buf, at, end, fields)
        if (at < 0) return at
        continue
      }
      let index = byte & 0x7f
      at++
      if (index === 0x7f) {
        at = this.#readInteger(buf, at, end, 0x7f)
        if (at < 0) return at
        index = this.#integer
      }
      if (this.#mustShrink) return Fault.hpackTableSize
      const field = this.#entry(index)
      if (field === null) return Fault.hpackIndex
      if (fields.admit(field.size)) fields.add(field)
    }
    return 0
  }

  #entry(index: number): Field | null {
    if (index < dynamicFirst) return index === 0 ? null : staticFields[index]!
    const age = index - dynamicFirst
    return age < this.#count ? this.#ring[(this.#next - 1 - age) & this.#mask]! : null
  }

  /** A literal or a table size update; the place behind it, or a fault. */
  #other(buf: Buffer, at: number, end: number, fields: Fields): number {
    const byte = buf[at]!
    if (byte >= 0x40) return this.#literal(buf, at, end, fields, 0x3f)
    if (byte < 0x20) return this.#literal(buf, at, end, fields, 0x0f)
    // Only before the first field (RFC 7541 4.2).
    if (fields.total > 0) return Fault.hpackTableSize
    at = this.#readPrefixed(buf, at, end, 0x1f)
    if (at < 0) return at
    if (this.#integer > this.#allowedBytes) return Fault.hpackTableSize
    this.#tableBytes = this.#integer
    this.#mustShrink = false
    this.#evict(this.#tableBytes)
    return at
  }

  #literal(buf: Buffer, at: number, end: number, fields: Fields, mask: number): number {
    if (this.#mustShrink) return Fault.hpackTableSize
    const isIndexing = mask === 0x3f
    const isNever = !isIndexing && (buf[at]! & 0x10) !== 0
    at = this.#readPrefixed(buf, at, end, mask)
    if (at < 0) return at
    let named: FieldName | null = null
    if (this.#integer > 0) {
      const entry = this.#entry(this.#integer)
      if (entry === null) return Fault.hpackIndex
      named = entry.named
    } else {
      at = this.#readString(buf, at, end)
      if (at < 0) return at
      // What is thrown away anyway is not made: the block is too large already, and the table does not want it.
      if (this.#source !== null && (isIndexing || !fields.isTooLarge)) {
        named = readName(this.#source, this.#from, this.#to)
      }
    }
    // The name has been read, so its bytes in the scratch buffer are free again.
    at = this.#readString(buf, at, end)
    if (at < 0) return at
    if (named === null || this.#source === null) {
      fields.admit(this.#maxString)
      fields.isTooLarge = true
      if (isIndexing) this.#evict(0)
      return at
    }
    const size = named.text.length + this.#to - this.#from + 32
    const isKept = fields.admit(size)
    const isStored = isIndexing && size <= this.#tableBytes
    // An entry larger than the table empties it (RFC 7541 4.4).
    if (isIndexing) this.#evict(isStored ? this.#tableBytes - size : 0)
    if (!isKept && !isStored) return at
    const field = makeField(named, this.#source, this.#from, this.#to, isNever)
    if (isStored) this.#store(field)
    if (isKept) fields.add(field)
    return at
  }

  #store(field: Field): void {
    this.#ring[this.#next & this.#mask] = field
    this.#next = (this.#next + 1) | 0
    this.#count++
    this.#size += field.size
  }

  /** Drops the oldest entries until no more than `bytes` are left. */
  #evict(bytes: number): void {
    while (this.#size > bytes) {
      const place = (this.#next - this.#count) & this.#mask
      this.#size -= this.#ring[place]!.size
      this.#ring[place] = null
      this.#count--
    }
  }

  /** An integer whose prefix is in the byte at `at` under `mask`. */
  #readPrefixed(buf: Buffer, at: number, end: number, mask: number): number {
    const value = buf[at]! & mask
    if (value === mask) return this.#readInteger(buf, at + 1, end, mask)
    this.#integer = value
    return at + 1
  }

  /** What follows a prefix full of ones (RFC 7541 5.1); the place behind it, or a fault. */
  #readInteger(buf: Buffer, at: number, end: number, value: number): number {
    for (let shift = 0; ; shift += 7) {
      if (at === end) return Fault.hpackTruncated
      // Four bytes hold all that we allow; what is padded by zeros beyond them is refused with the rest.
      if (shift > 21) return Fault.hpackInteger
      const byte = buf[at++]!
      value += (byte & 0x7f) << shift
      if (value > maxInteger) return Fault.hpackInteger
      if (byte < 0x80) break
    }
    this.#integer = value
    return at
  }

  /** A string; its bytes are then in `#source`, which is `buf` itself or the scratch buffer. */
  #readString(buf: Buffer, at: number, end: number): number {
    if (at >= end) return Fault.hpackTruncated
    const isHuffman = buf[at]! >= 0x80
    at = this.#readPrefixed(buf, at, end, 0x7f)
    if (at < 0) return at
    const stop = at + this.#integer
    if (stop > end) return Fault.hpackTruncated
    this.#source = null
    if (!isHuffman) {
      if (this.#integer > this.#maxString) return stop
      this.#source = buf
      this.#from = at
      this.#to = stop
      return stop
    }
    // No code is longer than 30 bits, none shorter than 5.
    if (this.#integer > this.#maxString * 4) return stop
    const need = Math.min(Math.ceil(this.#integer * 1.6), this.#maxString)
    if (scratch.length < need) scratch = Buffer.alloc(need + 1024)
    const behind = huffmanDecode(buf, at, stop, scratch, 0)
    if (behind === huffmanBroken) return Fault.hpackHuffman
    if (behind === huffmanFull) return stop
    this.#source = scratch
    this.#from = 0
    this.#to = behind
    return stop
  }
}
