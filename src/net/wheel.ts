// A coarse timer wheel: thousands of deadlines that are armed and cancelled per request and hardly ever fire cost a few
// pointer writes each, and one system timer in all. A deadline fires up to one tick late, never early.
import type { Clock, Timer } from '../clock.ts'

const tickMs = 20
const slots = 512

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
  /** Monotonic milliseconds, as of the last tick. Good enough for "when was it last used", and free. */
  now: number
  #clock: Clock
  #heads: (Deadline | null)[]
  #cursor: number
  #armed: number
  #timer: Timer | null

  constructor(clock: Clock) {
    this.#clock = clock
    this.now = clock.monotonic()
    this.#heads = Array.from({ length: slots }, () => null)
    this.#cursor = Math.floor(this.now / tickMs)
    this.#armed = 0
    this.#timer = null
  }

  /** Arms (again) to fire `ms` from now. */
  arm(deadline: Deadline, ms: number): void {
    if (deadline.slot >= 0) this.#unlink(deadline)
    if (this.#timer === null) this.#start()
    deadline.at = this.#clock.monotonic() + ms
    this.#link(deadline)
    this.#armed++
  }

  cancel(deadline: Deadline): void {
    if (deadline.slot < 0) return
    this.#unlink(deadline)
  }

  /** Stops the system timer; armed deadlines never fire. */
  close(): void {
    this.#timer?.cancel()
    this.#timer = null
  }

  #start(): void {
    this.now = this.#clock.monotonic()
    this.#cursor = Math.floor(this.now / tickMs)
    this.#timer = this.#clock.every(tickMs, () => this.#tick())
  }

  #link(deadline: Deadline): void {
    // Round up, so that nothing fires early; never into the slot that is being emptied.
    const due = Math.max(Math.ceil(deadline.at / tickMs), this.#cursor + 1)
    const slot = Math.min(due, this.#cursor + slots - 1) % slots
    const head = this.#heads[slot] ?? null
    deadline.slot = slot
    deadline.previous = null
    deadline.next = head
    if (head !== null) head.previous = deadline
    this.#heads[slot] = deadline
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
    if (this.#armed === 0) this.close()
  }
}
