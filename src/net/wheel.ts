// A coarse timer wheel: thousands of deadlines that are armed and cancelled per request and hardly ever fire cost a few
// pointer writes each, and one system timer in all. A deadline fires up to one tick late, never early. Where the next one is
// far the timer sleeps over some ticks: a wake-up for nothing costs as much as half a request.
import type { Clock, Timer } from '../clock.ts'

const tickMs = 20
const slots = 512
/** How many ticks the timer may sleep over at most, and with it how old `Wheel.now` gets. */
const maxSleep = 5

export interface Expiring {
  /** `tag` is the number given when the deadline was made; one object may own several. */
  expire(tag: number): void
}

/** One deadline; made once by its owner and armed as often as needed. */
export class Deadline {
  readonly owner: Expiring
  readonly tag: number
  /** Milliseconds on the wheel's clock. */
  at: number
  slot: number
  previous: Deadline | null
  next: Deadline | null

  constructor(owner: Expiring, tag: number) {
    this.owner = owner
    this.tag = tag
    this.at = 0
    this.slot = -1
    this.previous = null
    this.next = null
  }

  get armed(): boolean {
    return this.slot >= 0
  }
}

export class Wheel {
  /** Monotonic milliseconds, as of the last tick: 100 ms old at most. Good enough for "when was it last used", and free. */
  now: number
  #clock: Clock
  #heads: (Deadline | null)[]
  #cursor: number
  #armed: number
  #timer: Timer | null
  /** The slot at whose begin the timer fires, counted as the cursor is. */
  #wakeAt: number
  #isClosed: boolean

  constructor(clock: Clock) {
    this.#clock = clock
    this.now = clock.monotonic()
    this.#heads = Array.from({ length: slots }, () => null)
    this.#cursor = Math.floor(this.now / tickMs)
    this.#armed = 0
    this.#timer = null
    this.#wakeAt = 0
    this.#isClosed = false
  }

  /** Arms (again) to fire `ms` from now. */
  arm(deadline: Deadline, ms: number): void {
    if (deadline.slot >= 0) this.#unlink(deadline)
    if (this.#isClosed) return
    const now = this.#clock.monotonic()
    if (this.#timer === null) this.#start(now)
    deadline.at = now + ms
    const due = this.#link(deadline)
    this.#armed++
    if (due < this.#wakeAt) this.#sleep(due, now)
  }

  cancel(deadline: Deadline): void {
    if (deadline.slot < 0) return
    this.#unlink(deadline)
  }

  /** No deadline ever fires again, and none that is armed from now on: a connect may still fail. */
  close(): void {
    this.#isClosed = true
    this.#rest()
  }

  #rest(): void {
    this.#timer?.cancel()
    this.#timer = null
  }

  #start(now: number): void {
    this.now = now
    this.#cursor = Math.floor(now / tickMs)
    this.#sleep(this.#cursor + maxSleep, now)
  }

  #sleep(until: number, now: number): void {
    this.#timer?.cancel()
    this.#wakeAt = until
    // System timers count whole milliseconds and may be early by a part of one; then it sleeps for that part.
    this.#timer = this.#clock.after(Math.max(Math.ceil(until * tickMs - now), 0), () => this.#tick())
  }

  /** When it is due: a slot, counted as the cursor is. */
  #link(deadline: Deadline): number {
    // Round up, so that nothing fires early; never into the slot that is being emptied.
    const due = Math.min(
      Math.max(Math.ceil(deadline.at / tickMs), this.#cursor + 1),
      this.#cursor + slots - 1,
    )
    const slot = due % slots
    const head = this.#heads[slot] ?? null
    deadline.slot = slot
    deadline.previous = null
    deadline.next = head
    if (head !== null) head.previous = deadline
    this.#heads[slot] = deadline
    return due
  }

  #unlink(deadline: Deadline): void {
    if (deadline.previous === null) this.#heads[deadline.slot] = deadline.next
    else deadline.previous.next = deadline.next
    if (deadline.next !== null) deadline.next.previous = deadline.previous
    deadline.slot = -1
    deadline.previous = null
    deadline.next = null
    this.#armed--
  }

  #tick(): void {
    this.now = this.#clock.monotonic()
    const target = Math.floor(this.now / tickMs)
    // After a long stall one turn of the wheel visits every slot; more turns would find nothing new.
    if (target - this.#cursor > slots) this.#cursor = target - slots
    // What is armed meanwhile needs no timer of its own: below it is decided anew.
    this.#wakeAt = 0
    while (this.#cursor < target) {
      this.#cursor++
      const slot = this.#cursor % slots
      let deadline = this.#heads[slot] ?? null
      const later: Deadline[] = []
      while (deadline !== null) {
        this.#unlink(deadline)
        if (deadline.at <= this.now) deadline.owner.expire(deadline.tag)
        else later.push(deadline)
        deadline = this.#heads[slot] ?? null
      }
      for (const waiting of later) {
        this.#link(waiting)
        this.#armed++
      }
    }
    if (this.#armed === 0) this.#rest()
    // Nothing is armed, or one that fired has closed us.
    if (this.#timer === null) return
    let next = this.#cursor + 1
    while (next < this.#cursor + maxSleep && this.#heads[next % slots] === null) next++
    this.#sleep(next, this.now)
  }
}
