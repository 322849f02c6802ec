// Mesh time that runs faster than ours, so that expiries can be awaited; its speed may change while timers are set. The
// wall clock stays: TLS reads the machine's.
import type { Clock, Timer } from '../../src/clock.ts'

interface Alarm {
  /** Mesh time. */
  due: number
  readonly run: () => void
  /** Null: once. */
  readonly period: number | null
  handle: NodeJS.Timeout | undefined
}

export class FastClock implements Clock {
  readonly #alarms = new Set<Alarm>()
  #speed: number
  /** Mesh time when the speed was set, and the time of this machine then. */
  #base = 0
  #since = performance.now()

  constructor(speed: number) {
    this.#speed = speed
  }

  set speed(speed: number) {
    const now = performance.now()
    this.#base += (now - this.#since) * this.#speed
    this.#since = now
    this.#speed = speed
    for (const alarm of this.#alarms) this.#arm(alarm)
  }

  now(): number {
    return Date.now()
  }

  monotonic(): number {
    return this.#base + (performance.now() - this.#since) * this.#speed
  }

  after(ms: number, run: () => void): Timer {
    return this.#set(ms, run, null)
  }

  every(ms: number, run: () => void): Timer {
    return this.#set(ms, run, ms)
  }

  #set(ms: number, run: () => void, period: number | null): Timer {
    const alarm: Alarm = { due: this.monotonic() + ms, run, period, handle: undefined }
    this.#alarms.add(alarm)
    this.#arm(alarm)
    return {
      cancel: () => {
        clearTimeout(alarm.handle)
        this.#alarms.delete(alarm)
      },
    }
  }

  #arm(alarm: Alarm): void {
    clearTimeout(alarm.handle)
    alarm.handle = setTimeout(
      () => this.#ring(alarm),
      Math.max(0, (alarm.due - this.monotonic()) / this.#speed),
    )
  }

  #ring(alarm: Alarm): void {
    // Node counts from when its turn began: after one that took long its timers are early by as much.
    if (this.monotonic() < alarm.due) {
      this.#arm(alarm)
      return
    }
    if (alarm.period === null) this.#alarms.delete(alarm)
    else {
      // From now on, as setInterval does: what was missed is not made up for.
      alarm.due = this.monotonic() + alarm.period
      this.#arm(alarm)
    }
    alarm.run()
  }
}
