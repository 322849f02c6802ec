// How often one caller may ask: a bucket of tokens per key (a SPIFFE id, an address), refilled by the monotonic clock.
import type { Clock } from '../clock.ts'

export interface Limit {
  /** How many at once. */
  readonly burst: number
  readonly perSecond: number
}

/** An attacker with many addresses costs this much memory and no more. */
const maxKeys = 10_000

export class Limiter {
  readonly #limit: Limit
  readonly #clock: Clock
  readonly #buckets = new Map<string, { tokens: number; at: number }>()

  constructor(limit: Limit, clock: Clock) {
    this.#limit = limit
    this.#clock = clock
  }

  /** Takes one; false when the key has none left. */
  take(key: string): boolean {
    const bucket = this.#fill(key)
    if (bucket.tokens < 1) return false
    bucket.tokens--
    return true
  }

  /** Whether `take` would pass. */
  has(key: string): boolean {
    return this.#fill(key).tokens >= 1
  }

  #fill(key: string): { tokens: number; at: number } {
    const now = this.#clock.monotonic()
    const { burst, perSecond } = this.#limit
    const old = this.#buckets.get(key)
    const tokens =
      old === undefined ? burst : Math.min(burst, old.tokens + ((now - old.at) / 1000) * perSecond)
    const bucket = { tokens, at: now }
    // Deleted and set again, so that the map is in order of last use and the first is the one to forget.
    this.#buckets.delete(key)
    this.#buckets.set(key, bucket)
    if (this.#buckets.size > maxKeys) {
      const [oldest] = this.#buckets.keys()
      if (oldest !== undefined) this.#buckets.delete(oldest)
    }
    return bucket
  }
}
