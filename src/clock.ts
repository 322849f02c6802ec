// Time behind one object, so that tests hold it still.

// The global of this name is a getter, which costs more than reading the clock.
import { performance } from 'node:perf_hooks'

export interface Timer {
  cancel(): void
}

export interface Clock {
  /** Wall clock, milliseconds since the epoch. For certificates and log lines. */
  now(): number
  /** Monotonic, milliseconds. For deadlines and intervals. */
  monotonic(): number
  after(ms: number, run: () => void): Timer
  every(ms: number, run: () => void): Timer
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(ms, run) {
    const handle = setTimeout(run, ms)
    return { cancel: () => clearTimeout(handle) }
  },
  every(ms, run) {
    const handle = setInterval(run, ms)
    return { cancel: () => clearInterval(handle) }
  },
}

/** A clock that moves only by `advance`; timers fire in order of their time. */
export class FakeClock implements Clock {
  #wall: number
  #elapsed = 0
  #timers: { at: number; every: number; run: () => void }[] = []

  constructor(wall: number = Date.UTC(2026, 0, 1)) {
    this.#wall = wall
  }

  now(): number {
    return this.#wall + this.#elapsed
  }

  monotonic(): number {
    return this.#elapsed
  }

  after(ms: number, run: () => void): Timer {
    return this.#add(ms, 0, run)
  }

  every(ms: number, run: () => void): Timer {
    return this.#add(ms, ms, run)
  }

  advance(ms: number): void {
    const end = this.#elapsed + ms
    for (;;) {
      const next = this.#timers.toSorted((a, b) => a.at - b.at)[0]
      if (next === undefined || next.at > end) break
      this.#elapsed = next.at
      if (next.every > 0) next.at += next.every
      else this.#timers = this.#timers.filter((timer) => timer !== next)
      next.run()
    }
    this.#elapsed = end
  }

  #add(ms: number, every: number, run: () => void): Timer {
    const timer = { at: this.#elapsed + ms, every, run }
    this.#timers.push(timer)
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((other) => other !== timer)
      },
    }
  }
}
