// Manners at an accept queue that several workers share. The kernel wakes all of them, and the first one that runs takes one
// connection after the other while the rest are still being woken: of 16 callers that come at once one worker got all 16,
// and they stay where they are. So whoever takes a connection lets go of the CPU for a moment.
import type { Clock } from '../clock.ts'

/** The shortest sleep there is; with the kernel's own slack some 60 µs. Milliseconds. */
const napMs = 0.001
/** So many naps, and as many more each second: enough for a crowd that comes to stay, nothing against a steady stream. */
const credit = 64

export class Pace {
  readonly #clock: Clock
  readonly #cell = new Int32Array(new SharedArrayBuffer(4))
  #credit = credit
  #at: number

  constructor(clock: Clock) {
    this.#clock = clock
    this.#at = clock.monotonic()
  }

  /** A connection was taken. True: somebody else had a chance to take the next one. */
  taken(): boolean {
    if (this.#credit < 1) {
      const now = this.#clock.monotonic()
      const earned = Math.min(credit, ((now - this.#at) / 1000) * credit)
      if (earned < 1) return false
      this.#credit = earned
      this.#at = now
    }
    this.#credit--
    Atomics.wait(this.#cell, 0, 0, napMs)
    return true
  }
}
