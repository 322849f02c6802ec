// How a session comes to its end: GOAWAY both ways (RFC 9113 6.8), the pings that show whether the peer has read ours, or still
// lives, and what becomes of streams that are left.
import { Code, maxWindow } from './frame.ts'
import type { Session } from './session.ts'
import { End } from './table.ts'

/** What our pings carry: whether the peer lives, and whether it has read that we are going away. */
const aliveMark = 1
const drainMark = 2

export class Farewell {
  /** One side said GOAWAY. */
  isGoingAway: boolean
  /** Our GOAWAY with the last id has gone out: later streams are refused. */
  isRefusing: boolean
  isPingPending: boolean
  readonly #session: Session
  /** Our GOAWAY that announces the other has gone out. */
  #isDraining: boolean
  /** What the peer said last. */
  #lastId: number

  constructor(session: Session) {
    this.isGoingAway = false
    this.isRefusing = false
    this.isPingPending = false
    this.#session = session
    this.#isDraining = false
    this.#lastId = maxWindow
  }

  /** See `Session.goaway`. */
  goaway(code: number): void {
    const { output, role, lastPeerId, isOver } = this.#session
    if (isOver || this.isRefusing) return
    this.isGoingAway = true
    if (role === 'server' && code === Code.noError && !this.#isDraining) {
      this.#isDraining = true
      output.goaway(maxWindow, code)
      output.ping(drainMark)
      return
    }
    this.isRefusing = true
    output.goaway(lastPeerId, code)
  }

  /** See `Session.isDone`. */
  get isDone(): boolean {
    if (this.#session.isOver) return true
    if (!this.isGoingAway || this.#session.openStreams > 0) return false
    return !this.#isDraining || this.isRefusing
  }

  /** See `Session.ping`. */
  ping(): void {
    if (this.#session.isOver || this.isPingPending) return
    this.isPingPending = true
    this.#session.output.ping(aliveMark)
  }

  /** The peer answered the ping with this mark. */
  answered(mark: number): void {
    if (mark === aliveMark) this.isPingPending = false
    else if (mark === drainMark && this.#isDraining) this.goaway(Code.noError)
  }

  /** The peer's GOAWAY: streams behind `lastId` will not be answered, and new ones not either. */
  received(lastId: number): void {
    const session = this.#session
    if (lastId > this.#lastId) return session.guard.fail(Code.protocolError, 'GOAWAY takes back what it said')
    this.#lastId = lastId
    this.isGoingAway = true
    if (session.role === 'client') {
      for (const stream of session.streams.all()) {
        if (stream.isClosed || (stream.id <= lastId && stream.hasSentHead)) continue
        session.close(stream, End.byUs)
        stream.owner.reset(stream, Code.refusedStream, true)
      }
    }
    session.owner.goingAway()
    return undefined
  }

  /** Tells all streams that they will not go on. */
  dropAll(code: number): void {
    const session = this.#session
    for (const stream of session.streams.all()) {
      if (stream.isClosed) continue
      session.close(stream, End.byUs)
      stream.owner.reset(stream, code, session.role === 'client' && !stream.hasSentHead)
    }
  }
}
