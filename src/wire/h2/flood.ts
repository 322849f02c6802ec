// Counts the frames that cost a peer less than us, each kind in a token bucket that refills with the time that the
// caller gives, and with useful work.
import type { FloodLimits, Rate } from './limits.ts'

/** Kinds of frames that are counted. */
export const Kind = {
  resets: 0,
  faults: 1,
  refusals: 2,
  settings: 3,
  pings: 4,
  priorities: 5,
  windowUpdates: 6,
  empties: 7,
  unknowns: 8,
} as const

/** Numbers kept for each kind. */
const stride = 4

const kinds = Object.keys(Kind) as (keyof typeof Kind)[]

// Tokens that one useful frame (data either way, a new stream) adds to a bucket: frames of these kinds come with it.
const perUseful = kinds.map(
  (kind) => ({ pings: 1, priorities: 2, windowUpdates: 4, unknowns: 1 })[kind as string] ?? 0,
)
// The same of one stream that ended in order: who cancels often, but finishes as often, is no attacker.
const perFinished = kinds.map((kind) => (kind === 'resets' ? 1 : 0))

export class Flood {
  /** Useful frames so far; counted by those who see them. */
  useful: number
  /** Streams that ended in order. */
  finished: number
  readonly #rates: readonly Rate[]
  /** For each kind: tokens left, and the time and the two counts above when they were filled up last. */
  readonly #buckets: Float64Array

  constructor(limits: FloodLimits) {
    this.useful = 0
    this.finished = 0
    this.#rates = kinds.map((kind) => limits[kind])
    this.#buckets = new Float64Array(kinds.length * stride)
    for (const [kind, rate] of this.#rates.entries()) this.#buckets[kind * stride] = rate.burst
  }

  /** Takes one frame of this kind down; true: it is one too many. `now` in milliseconds of a clock that never goes back. */
  isOver(kind: number, now: number): boolean {
    const rate = this.#rates[kind]!
    const buckets = this.#buckets
    const at = kind * stride
    const gained =
      ((now - buckets[at + 1]!) * rate.perSecond) / 1000 +
      (this.useful - buckets[at + 2]!) * perUseful[kind]! +
      (this.finished - buckets[at + 3]!) * perFinished[kind]!
    const tokens = Math.min(rate.burst, buckets[at]! + gained) - 1
    buckets[at] = tokens
    buckets[at + 1] = now
    buckets[at + 2] = this.useful
    buckets[at + 3] = this.finished
    return tokens < 0
  }
}
