// The streams of a session by id, and how the last ones ended: a late frame is harmless, a wrong one, or an attack,
// depending on that.
import type { Stream } from './stream.ts'

/** Slots at the beginning; they double whenever the streams are twice as many. */
const fewSlots = 16
/** How many ids back the end of a stream is remembered. */
const memory = 128

/** How a stream ended. */
export const End = {
  /** It never was opened, though a later one was. */
  never: 0,
  /** Both sides sent their end. */
  orderly: 1,
  /** The peer reset it. */
  byPeer: 2,
  /** We reset it: the peer may not know yet. Or it ended so long ago that nobody remembers how. */
  byUs: 3,
} as const

export class StreamTable {
  count: number
  #slots: (Stream | null)[]
  #mask: number
  /** Half of the id and, in the two lowest bits, how it ended. */
  readonly #ends: Uint32Array

  constructor() {
    this.count = 0
    this.#slots = Array.from({ length: fewSlots }, () => null)
    this.#mask = fewSlots - 1
    this.#ends = new Uint32Array(memory)
  }

  get(id: number): Stream | null {
    let stream = this.#slots[(id >>> 1) & this.#mask] ?? null
    while (stream !== null && stream.id !== id) stream = stream.chained
    return stream
  }

  add(stream: Stream): void {
    const slot = (stream.id >>> 1) & this.#mask
    stream.chained = this.#slots[slot] ?? null
    this.#slots[slot] = stream
    if (++this.count > 2 * this.#slots.length) this.#grow()
  }

  /** Forgets a stream that is in the table, except for how it ended. */
  remove(stream: Stream, end: number): void {
    const slot = (stream.id >>> 1) & this.#mask
    const first = this.#slots[slot] ?? null
    if (first === stream) this.#slots[slot] = stream.chained
    else {
      let before = first
      while (before !== null && before.chained !== stream) before = before.chained
      if (before !== null) before.chained = stream.chained
    }
    stream.chained = null
    this.count--
    this.note(stream.id, end)
  }

  /** Remembers how a stream ended, also one that never was in the table. */
  note(id: number, end: number): void {
    const ends = this.#ends
    const place = (id >>> 1) & (memory - 1)
    // A stream that lived long does not push out those that were opened after it.
    const entry = (id >>> 1) * 4 + end
    if (entry > ends[place]!) ends[place] = entry
  }

  /** How the stream with this id ended, which is at most `last`, the last one used. */
  endOf(id: number, last: number): number {
    if (last - id >= 2 * memory) return End.byUs
    const entry = this.#ends[(id >>> 1) & (memory - 1)]!
    return entry >>> 2 === id >>> 1 ? entry & 3 : End.never
  }

  /** All streams, in no order; a copy, so that they may be removed meanwhile. */
  all(): Stream[] {
    const found: Stream[] = []
    for (let stream of this.#slots) {
      for (; stream !== null; stream = stream.chained) found.push(stream)
    }
    return found
  }

  #grow(): void {
    const streams = this.all()
    this.#slots = Array.from({ length: this.#slots.length * 2 }, () => null)
    this.#mask = this.#slots.length - 1
    for (const stream of streams) {
      const slot = (stream.id >>> 1) & this.#mask
      stream.chained = this.#slots[slot] ?? null
      this.#slots[slot] = stream
    }
  }
}
