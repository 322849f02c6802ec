// How long a caller of HTTP/1.1 is waited for: its next request, the rest of a head, its end. One deadline that is always
// there, and one that is made when the first of the others is wanted.
import type { Channel } from '../../net/channel.ts'
import { Deadline } from '../../net/wheel.ts'
import type { Expiring } from '../../net/wheel.ts'
import type { Core } from '../core.ts'
import { Stall, stallTimeoutOf } from './stall.ts'

/** How long bytes of a refused request are read and thrown away, so that the reply is not lost in a reset. */
const lingerMs = 2000
/** How long a caller that has sent its end may still wait for its answer: most have simply gone. A link never half-closes. */
const halfClosedMs = 5000

const Idle = 1
const HeadDeadline = 2
const Linger = 3
const Answer = 4

/** What is told when patience is over. An idle connection is ended, and one that lingers is destroyed, without asking. */
export interface Awaited {
  /** No request is under way, and no byte of one is here. */
  readonly isIdle: boolean
  headLate(): void
  answerLate(): void
}

export class Patience1 implements Expiring {
  readonly #core: Core
  readonly #connection: Channel
  readonly #awaited: Awaited
  readonly #stall: Stall
  readonly #idle: Deadline
  #other: Deadline | null
  #lastUsed: number

  constructor(core: Core, connection: Channel, awaited: Awaited) {
    this.#core = core
    this.#connection = connection
    this.#awaited = awaited
    this.#stall = new Stall()
    this.#idle = new Deadline(this, Idle)
    this.#other = null
    core.wheel.arm(this.#idle, Math.min(this.#idleTimeout, stallTimeoutOf(core) / 2))
    this.#lastUsed = core.wheel.now
  }

  /** Bytes came, or an exchange ended. */
  used(): void {
    this.#lastUsed = this.#core.wheel.now
  }

  isUnusedFor(ms: number): boolean {
    return this.#core.wheel.now - this.#lastUsed >= ms
  }

  /** Half a head is here. The time for it begins once, not with every byte. */
  forHead(ms: number): void {
    if (this.#other === null) this.#other = new Deadline(this, HeadDeadline)
    if (!this.#other.armed) this.#core.wheel.arm(this.#other, ms)
  }

  headDone(): void {
    if (this.#other !== null) this.#core.wheel.cancel(this.#other)
  }

  /** The caller has sent its end and waits for its answer. */
  forAnswer(): void {
    this.#instead(Answer, halfClosedMs)
  }

  /** Our end is sent: nothing but the caller's is waited for. */
  forEnd(): void {
    this.#core.wheel.cancel(this.#idle)
    this.#instead(Linger, lingerMs)
  }

  /** The connection is closed or somebody else's. */
  over(): void {
    this.#core.wheel.cancel(this.#idle)
    if (this.#other !== null) this.#core.wheel.cancel(this.#other)
  }

  expire(tag: number): void {
    if (tag === HeadDeadline) this.#awaited.headLate()
    else if (tag === Answer) this.#awaited.answerLate()
    else if (tag === Linger) this.#connection.destroy()
    else this.#look()
  }

  get #idleTimeout(): number {
    return this.#core.live?.settings.idleTimeout ?? 60_000
  }

  /** Ends what nobody uses and what nobody reads; looks again later where neither is so. */
  #look(): void {
    const { now } = this.#core.wheel
    const limit = stallTimeoutOf(this.#core)
    if (this.#stall.isOver(this.#connection.isFull, this.#connection.bytesOut, now, limit)) {
      this.#connection.destroy()
      return
    }
    const left = this.#lastUsed + this.#idleTimeout - now
    if (this.#awaited.isIdle && left <= 0) this.#connection.end()
    else this.#core.wheel.arm(this.#idle, Math.max(Math.min(left, limit / 2), 1000))
  }

  #instead(tag: number, ms: number): void {
    if (this.#other !== null) this.#core.wheel.cancel(this.#other)
    this.#core.wheel.arm((this.#other = new Deadline(this, tag)), ms)
  }
}
