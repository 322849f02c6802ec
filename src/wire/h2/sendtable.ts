// The dynamic table of our encoder: what the peer's decoder remembers, and how to find it without allocating.
import { token, viewOf } from '../bytes.ts'
import type { Field } from './field.ts'

/** Integers kept per entry, in this order. */
const stride = 8
const KEY = 0
const NAME_HASH = 1
const ID = 2
const AT = 3
const NAME_LENGTH = 4
const VALUE_LENGTH = 5
/** The next older entries in the chains of the same bucket, by key and by name. */
const OLDER = 6
const OLDER_NAME = 7

/** Entries looked at in one chain: whoever makes hashes collide gains nothing. */
const maxSteps = 16

const spread = 0x9e3779b1

/** Numbers wrap soon after this, so that every test goes through it. */
const firstNumber = 0x7fffff80

/** Heads of a table without entries: numbers that are long gone. */
const none = new Int32Array(2)

/** A view of a store without entries. */
const noView = new DataView(new ArrayBuffer(0))

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
  readonly #capacity: number
  #next = firstNumber
  // The arrays come with the first entry: most of many idle connections never have one.
  #mask = 0
  #shift = 31
  #entries = none
  #heads = none
  #nameHeads = none
  /** Names and values, each entry in one piece. */
  #store = new Uint8Array(0)
  #view = noView
  #storeAt = 0
  /** The decoded field that an entry was last found equal to: the same one comes again and again. */
  #fields: (Field | null)[] = []

  /** `capacity`: the most bytes that the table may ever take. */
  constructor(capacity: number) {
    this.#capacity = capacity
    this.bytes = capacity
  }

  #allocate(): void {
    let slots = 2
    let bits = 1
    while (slots < this.#capacity / 32) {
      slots *= 2
      bits++
    }
    this.#mask = slots - 1
    this.#shift = 32 - bits
    this.#entries = new Int32Array(slots * stride)
    this.#heads = new Int32Array(slots)
    this.#nameHeads = new Int32Array(slots)
    // Live bytes, the new entry, and the gap that is left at the end when an entry does not fit there.
    this.#store = new Uint8Array(this.#capacity + (this.#capacity >> 1))
    this.#view = new DataView(this.#store.buffer)
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

  /** The number of the newest entry. */
  get newest(): number {
    return (this.#next - 1) | 0
  }

  /** How many entries came since the one of this number, itself included; 0: it is gone. */
  age(seq: number): number {
    const age = (this.#next - seq) | 0
    return age > 0 && age <= this.count ? age : 0
  }

  /** The age of the entry that equals this field (1: the newest); 0: none. */
  findField(field: Field): number {
    const entries = this.#entries
    const key = field.hash
    let seq = this.#heads[key >>> this.#shift]!
    for (let step = 0; step < maxSteps; step++) {
      const age = this.age(seq)
      if (age === 0) return 0
      const slot = seq & this.#mask
      if (this.#fields[slot] === field) return age
      const k = slot * stride
      if (entries[k + KEY] === key && this.#isText(k, field.name, field.value)) {
        this.#fields[slot] = field
        return age
      }
      seq = entries[k + OLDER]!
    }
    return 0
  }

  /** The same for a name and a value in strings. */
  findText(key: number, name: string, value: string): number {
    const entries = this.#entries
    let seq = this.#heads[key >>> this.#shift]!
    for (let step = 0; step < maxSteps; step++) {
      const age = this.age(seq)
      if (age === 0) return 0
      const k = (seq & this.#mask) * stride
      if (entries[k + KEY] === key && this.#isText(k, name, value)) return age
      seq = entries[k + OLDER]!
    }
    return 0
  }

  /** The same for a name, in whatever case and with this id, and a value in `buf`. */
  findBytes(
    key: number,
    id: number,
    buf: Buffer,
    name: number,
    nameEnd: number,
    value: number,
    valueEnd: number,
  ): number {
    const entries = this.#entries
    let seq = this.#heads[key >>> this.#shift]!
    for (let step = 0; step < maxSteps; step++) {
      const age = this.age(seq)
      if (age === 0) return 0
      const k = (seq & this.#mask) * stride
      if (
        entries[k + KEY] === key &&
        entries[k + VALUE_LENGTH] === valueEnd - value &&
        this.#isName(k, id, buf, name, nameEnd)
      ) {
        if (this.#holdsBytes(entries[k + AT]! + entries[k + NAME_LENGTH]!, buf, value, valueEnd)) return age
      }
      seq = entries[k + OLDER]!
    }
    return 0
  }

  /** The age of the newest entry with this name; 0: none. */
  findName(nameHash: number, id: number, buf: Buffer, name: number, nameEnd: number): number {
    const entries = this.#entries
    let seq = this.#nameHeads[Math.imul(nameHash, spread) >>> this.#shift]!
    for (let step = 0; step < maxSteps; step++) {
      const age = this.age(seq)
      if (age === 0) return 0
      const k = (seq & this.#mask) * stride
      if (entries[k + NAME_HASH] === nameHash && this.#isName(k, id, buf, name, nameEnd)) return age
      seq = entries[k + OLDER_NAME]!
    }
    return 0
  }

  /** The same for a name in a string. */
  findNameText(nameHash: number, name: string): number {
    const entries = this.#entries
    let seq = this.#nameHeads[Math.imul(nameHash, spread) >>> this.#shift]!
    for (let step = 0; step < maxSteps; step++) {
      const age = this.age(seq)
      if (age === 0) return 0
      const k = (seq & this.#mask) * stride
      if (entries[k + NAME_HASH] === nameHash && this.#isNameText(k, name)) return age
      seq = entries[k + OLDER_NAME]!
    }
    return 0
  }

  /** Adds a field that `takes` has let in, as the newest entry. */
  insert(key: number, nameHash: number, id: number, name: string, value: string): void {
    if (this.#heads === none) this.#allocate()
    const length = name.length + value.length
    this.#evict(this.bytes - length - 32)
    if (this.#storeAt + length > this.#store.length) this.#storeAt = 0
    const at = this.#storeAt
    for (let i = 0; i < name.length; i++) this.#store[at + i] = name.charCodeAt(i)
    for (let i = 0; i < value.length; i++) this.#store[at + name.length + i] = value.charCodeAt(i)
    this.#storeAt += length
    const seq = this.#next
    const slot = seq & this.#mask
    const bucket = key >>> this.#shift
    const nameBucket = Math.imul(nameHash, spread) >>> this.#shift
    const k = slot * stride
    const entries = this.#entries
    entries[k + KEY] = key
    entries[k + NAME_HASH] = nameHash
    entries[k + ID] = id
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

  #isName(k: number, id: number, buf: Buffer, name: number, nameEnd: number): boolean {
    const entries = this.#entries
    if (id !== 0) return entries[k + ID] === id
    if (entries[k + NAME_LENGTH] !== nameEnd - name) return false
    const store = this.#store
    for (let at = entries[k + AT]!; name < nameEnd; at++, name++) {
      if (store[at] !== token[buf[name]!]) return false
    }
    return true
  }

  #isNameText(k: number, name: string): boolean {
    if (this.#entries[k + NAME_LENGTH] !== name.length) return false
    return this.#holds(this.#entries[k + AT]!, name)
  }

  #isText(k: number, name: string, value: string): boolean {
    if (this.#entries[k + VALUE_LENGTH] !== value.length || !this.#isNameText(k, name)) return false
    return this.#holds(this.#entries[k + AT]! + name.length, value)
  }

  /** Four bytes a step: comparing is where the encoder spends its time. */
  #holdsBytes(at: number, buf: Buffer, start: number, end: number): boolean {
    const ours = this.#view
    const theirs = viewOf(buf)
    for (const last = end - 4; start <= last; at += 4, start += 4) {
      if (ours.getInt32(at) !== theirs.getInt32(start)) return false
    }
    for (; start < end; at++, start++) if (ours.getUint8(at) !== theirs.getUint8(start)) return false
    return true
  }

  #holds(at: number, text: string): boolean {
    const store = this.#store
    for (let i = 0; i < text.length; i++) if (store[at + i] !== text.charCodeAt(i)) return false
    return true
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
