// The dynamic table of our encoder: what the peer's decoder remembers, and how to find it without allocating.
import { token } from '../bytes.ts'
import type { Field } from './field.ts'

/** Integers kept per entry, in this order. */
const stride = 8
const HASH = 0
const NAME_HASH = 1
const AT = 2
const NAME_LENGTH = 3
const VALUE_LENGTH = 4
/** The next older entries in the chains of the same bucket, by field and by name. */
const OLDER = 5
const OLDER_NAME = 6

/** Entries looked at in one chain: whoever makes hashes collide gains nothing. */
const maxSteps = 16

const spread = 0x9e3779b1

/**
 * Entries are counted as they come (`#next`, wrapping at 32 bits) and live in a ring at their number under a mask. Chains
 * lead from newer to older numbers, so a number older than the oldest entry ends its chain and nothing is ever unlinked.
 */
export class SendTable {
  /** Live entries. */
  count = 0
  size = 0
  /** Size in force. */
  bytes: number
  #next = 1
  #mask: number
  #shift: number
  #entries: Int32Array
  #heads: Int32Array
  #nameHeads: Int32Array
  /** Names and values, each entry in one piece. */
  #store: Uint8Array
  #storeAt = 0
  /** The decoded field that an entry was last found equal to: the same one comes again and again. */
  #fields: (Field | null)[]

  /** `capacity`: the most bytes that the table may ever take. */
  constructor(capacity: number) {
    let slots = 2
    let bits = 1
    while (slots < capacity / 32) {
      slots *= 2
      bits++
    }
    this.bytes = capacity
    this.#mask = slots - 1
    this.#shift = 32 - bits
    this.#entries = new Int32Array(slots * stride)
    this.#heads = new Int32Array(slots)
    this.#nameHeads = new Int32Array(slots)
    // Live bytes, the new entry, and the gap that is left at the end when an entry does not fit there.
    this.#store = new Uint8Array(capacity + (capacity >> 1))
    this.#fields = Array.from({ length: slots }, () => null)
  }

  /** Changes the size in force; what does not fit goes. */
  resize(bytes: number): void {
    this.bytes = bytes
    this.#evict(bytes)
  }

  /** Whether a field of this size is worth an entry: one that takes a large part of the table costs more than it gains. */
  takes(size: number): boolean {
    return size <= this.bytes >> 2
  }

  /** The entry that may be this field, as its age (1: the newest); 0: none. To be compared then. */
  find(hash: number, nameLength: number, valueLength: number): number {
    const entries = this.#entries
    let seq = this.#heads[Math.imul(hash, spread) >>> this.#shift]!
    for (let step = 0; step < maxSteps; step++) {
      const age = (this.#next - seq) | 0
      if (age <= 0 || age > this.count) return 0
      const k = (seq & this.#mask) * stride
      if (
        entries[k + HASH] === hash &&
        entries[k + VALUE_LENGTH] === valueLength &&
        entries[k + NAME_LENGTH] === nameLength
      ) {
        return age
      }
      seq = entries[k + OLDER]!
    }
    return 0
  }

  /** The newest entry whose name has this hash and length, as its age; 0: none. To be compared then. */
  findName(nameHash: number, nameLength: number): number {
    const entries = this.#entries
    let seq = this.#nameHeads[Math.imul(nameHash, spread) >>> this.#shift]!
    for (let step = 0; step < maxSteps; step++) {
      const age = (this.#next - seq) | 0
      if (age <= 0 || age > this.count) return 0
      const k = (seq & this.#mask) * stride
      if (entries[k + NAME_HASH] === nameHash && entries[k + NAME_LENGTH] === nameLength) return age
      seq = entries[k + OLDER_NAME]!
    }
    return 0
  }

  /** Whether the entry of this age is this very field. */
  isField(age: number, field: Field): boolean {
    const slot = (this.#next - age) & this.#mask
    if (this.#fields[slot] === field) return true
    if (!this.isText(age, field.name, field.value)) return false
    this.#fields[slot] = field
    return true
  }

  /** Whether the entry, whose lengths agree, has this name and value. */
  isText(age: number, name: string, value: string): boolean {
    if (!this.isNameText(age, name)) return false
    const store = this.#store
    const at = this.#valueAt(age)
    for (let i = 0; i < value.length; i++) if (store[at + i] !== value.charCodeAt(i)) return false
    return true
  }

  isNameText(age: number, name: string): boolean {
    const store = this.#store
    const at = this.#nameAt(age)
    for (let i = 0; i < name.length; i++) if (store[at + i] !== name.charCodeAt(i)) return false
    return true
  }

  /** Whether the entry, whose value's length agrees, has the value in buf[value, …). */
  isValue(age: number, buf: Buffer, value: number, valueEnd: number): boolean {
    const store = this.#store
    for (let at = this.#valueAt(age); value < valueEnd; at++, value++) {
      if (store[at] !== buf[value]) return false
    }
    return true
  }

  /** Whether the entry, whose name's length agrees, has the name in buf[name, …), in whatever case. */
  isName(age: number, buf: Buffer, name: number, nameEnd: number): boolean {
    const store = this.#store
    for (let at = this.#nameAt(age); name < nameEnd; at++, name++) {
      if (store[at] !== token[buf[name]!]) return false
    }
    return true
  }

  /** Adds a field that `takes` has let in, as the newest entry. */
  insert(hash: number, nameHash: number, name: string, value: string): void {
    const length = name.length + value.length
    this.#evict(this.bytes - length - 32)
    if (this.#storeAt + length > this.#store.length) this.#storeAt = 0
    const at = this.#storeAt
    for (let i = 0; i < name.length; i++) this.#store[at + i] = name.charCodeAt(i)
    for (let i = 0; i < value.length; i++) this.#store[at + name.length + i] = value.charCodeAt(i)
    this.#storeAt += length
    const seq = this.#next
    const slot = seq & this.#mask
    const bucket = Math.imul(hash, spread) >>> this.#shift
    const nameBucket = Math.imul(nameHash, spread) >>> this.#shift
    const k = slot * stride
    const entries = this.#entries
    entries[k + HASH] = hash
    entries[k + NAME_HASH] = nameHash
    entries[k + AT] = at
    entries[k + NAME_LENGTH] = name.length
    entries[k + VALUE_LENGTH] = value.length
    entries[k + OLDER] = this.#heads[bucket]!
    entries[k + OLDER_NAME] = this.#nameHeads[nameBucket]!
    this.#heads[bucket] = seq
    this.#nameHeads[nameBucket] = seq
    this.#fields[slot] = null
    this.#next = (seq + 1) | 0
    this.count++
    this.size += length + 32
  }

  #nameAt(age: number): number {
    return this.#entries[((this.#next - age) & this.#mask) * stride + AT]!
  }

  #valueAt(age: number): number {
    const k = ((this.#next - age) & this.#mask) * stride
    return this.#entries[k + AT]! + this.#entries[k + NAME_LENGTH]!
  }

  /** Drops the oldest entries until no more than `bytes` are left. */
  #evict(bytes: number): void {
    while (this.size > bytes) {
      const slot = (this.#next - this.count) & this.#mask
      const k = slot * stride
      this.size -= this.#entries[k + NAME_LENGTH]! + this.#entries[k + VALUE_LENGTH]! + 32
      this.#fields[slot] = null
      this.count--
    }
  }
}
