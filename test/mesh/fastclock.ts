// Mesh time that runs faster than ours, so that expiries of seconds can be awaited. The wall clock stays: TLS reads the
// machine's.
import type { Clock } from '../../src/clock.ts'

export class FastClock implements Clock {
  readonly #speed: number

  constructor(speed: number) {
    this.#speed = speed
  }

  now(): number {
    return Date.now()
  }

  monotonic(): number {
    return performance.now() * this.#speed
  }

  after(ms: number, run: () => void): { cancel(): void } {
    const handle = setTimeout(run, ms / this.#speed)
    return { cancel: () => clearTimeout(handle) }
  }

  every(ms: number, run: () => void): { cancel(): void } {
    const handle = setInterval(run, ms / this.#speed)
    return { cancel: () => clearInterval(handle) }
  }
}
