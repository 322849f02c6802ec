// One connection that speaks HTTP/2: its session's bytes in and out. Output is gathered over a turn of the event loop, so that
// many streams leave in one write; of one that is alone it leaves at once.
import type { Channel, Owner } from '../../net/channel.ts'
import { afterRead, isReading } from '../../net/turn.ts'
import type { Wheel } from '../../net/wheel.ts'
import type { Fields } from '../../wire/h2/fields.ts'
import { Code } from '../../wire/h2/frame.ts'
import type { SessionLimits } from '../../wire/h2/limits.ts'
import { Session } from '../../wire/h2/session.ts'
import type { SessionOwner } from '../../wire/h2/session.ts'
import type { Stream, StreamOwner } from '../../wire/h2/stream.ts'
import { flushWaiting } from './write1.ts'

/** Up to so many open streams there is nothing to gather. With 4, four callers cost a tenth more and waited longer. */
const fewStreams = 1

/** Under open streams, a peer that says nothing for so long is asked whether it lives, and given as long to say so. */
export const silence = 5000
/** A look that comes so late says more about us than about the peer. Milliseconds. */
const tooLate = 1000

/** Who uses a carrier: a pool of links, or the side that serves. */
export interface CarrierUser {
  /** A peer's request; servers only. */
  accept(stream: Stream): StreamOwner
  /** A request that was no request; servers only. */
  refused(fault: number, fields: Fields): void
  /** The peer's limits are known, or have changed. */
  settled(): void
  /** The peer takes no new streams. */
  goingAway(): void
  /** The connection is over; its streams hear of it next. */
  closing(error: Error | null): void
}

// Carriers with output in this turn.
let waiting: Carrier[] = []
let isScheduled = false

function flushAll(): void {
  isScheduled = false
  const carriers = waiting
  waiting = []
  for (const carrier of carriers) carrier.flush()
}

/** At the end of a read: where nothing can join, waiting for the end of the turn would only cost time. */
function flushFew(): void {
  let left = 0
  for (const carrier of waiting) {
    if (carrier.session.openStreams <= fewStreams) carrier.flush()
    else waiting[left++] = carrier
  }
  waiting.length = left
  if (left > 0) schedule()
}

function schedule(): void {
  if (isScheduled) return
  isScheduled = true
  setImmediate(flushAll)
}

export class Carrier implements Owner, SessionOwner {
  readonly connection: Channel
  readonly session: Session
  readonly #user: CarrierUser
  readonly #wheel: Wheel
  /** When bytes last came from the peer, on the wheel's clock. */
  heardAt: number
  #askedAt: number
  isClosing: boolean

  /** Takes the connection over and says hello. */
  constructor(
    role: 'client' | 'server',
    connection: Channel,
    user: CarrierUser,
    wheel: Wheel,
    limits: SessionLimits,
  ) {
    this.connection = connection
    this.#user = user
    this.#wheel = wheel
    this.heardAt = wheel.now
    this.#askedAt = 0
    this.isClosing = false
    connection.owner = this
    this.session = new Session(role, this, limits)
    // What it says first waits for whatever else this turn brings.
    this.wantsFlush()
  }

  /** Sends what was gathered. */
  flush(): void {
    const { connection, session } = this
    // What the socket does not take now waits in the session, where more can join it, and which knows when it is too much.
    while (session.outEnd > 0 && !connection.isFull) {
      if (connection.isBusy) {
        connection.tellWhenIdle()
        return
      }
      const isRoom = connection.lend(session.take())
      if (!connection.hasKept) session.recycle()
      // Data that waited for room may follow at once.
      session.written(!isRoom)
    }
    if (session.isDone && session.outEnd === 0 && !connection.isFinished) connection.end()
  }

  /**
   * False: the peer was asked and has not answered. To be called every `silence` milliseconds or less while streams are open.
   * `lateness`: how much later than it was meant to be. What the peer said while we stood still is not read yet.
   */
  isAlive(lateness: number): boolean {
    const { session } = this
    const { now } = this.#wheel
    if (now - this.heardAt < silence || lateness > tooLate) return true
    if (session.isPingPending) return now - this.#askedAt < silence
    this.#askedAt = now
    session.ping()
    return true
  }

  /** No new streams; the connection ends with the last one. */
  close(): void {
    if (this.isClosing || this.connection.isClosed) return
    this.isClosing = true
    this.session.goaway(Code.noError)
    this.flush()
  }

  // --- from the connection

  bytes(buffer: Buffer, start: number, end: number): void {
    this.heardAt = this.#wheel.now
    this.session.receive(buffer, start, end, this.heardAt)
    flushWaiting()
    if (this.session.isDone) this.flush()
  }

  ended(): void {
    // HTTP/2 knows no half-closed connections.
    this.flush()
    this.connection.destroy()
  }

  drained(): void {
    this.session.resume()
    this.flush()
  }

  closed(error: Error | null): void {
    this.#user.closing(error)
    this.session.ended()
    flushWaiting()
  }

  // --- from the session

  accept(stream: Stream): StreamOwner {
    return this.#user.accept(stream)
  }

  refused(fault: number, fields: Fields): void {
    this.#user.refused(fault, fields)
  }

  wantsFlush(): void {
    waiting.push(this)
    if (isReading()) afterRead(flushFew)
    else schedule()
  }

  settled(): void {
    this.#user.settled()
  }

  goingAway(): void {
    this.#user.goingAway()
  }

  failed(): void {
    this.flush()
    this.connection.end()
  }
}
