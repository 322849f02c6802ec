// One stream of a session: whose it is, how far each side got, its windows, and what waits to be sent on it.
import type { Field } from './field.ts'
import type { Fields } from './fields.ts'
import type { Session } from './session.ts'

/**
 * Who is told what arrives on a stream. Every call may use the session at once (answer, reset, open others). After
 * `reset`, and after both sides have ended, nothing more is told.
 */
export interface StreamOwner {
  /**
   * A request's head at a server, an interim (1xx) or the final response's head at a client, checked against all rules
   * of check.ts. `fields` is borrowed until return.
   */
  headers(stream: Stream, fields: Fields, isEnd: boolean): void
  /**
   * Body bytes, borrowed until return; none where only the end comes. They count against our windows until
   * `session.consumed`. The length agrees with Content-Length, or the stream is reset before its end is told.
   */
  data(stream: Stream, buf: Buffer, start: number, end: number, isEnd: boolean): void
  /** Always the end. `fields` is borrowed until return. */
  trailers(stream: Stream, fields: Fields): void
  /**
   * The stream ended out of order: the peer reset it, it broke the rules, GOAWAY says that it will not be answered, or
   * the connection ended (`Code.gone`). Not called for our own `session.reset`. `isUnprocessed`: the peer surely did
   * nothing with it, so that any request may be sent again.
   */
  reset(stream: Stream, code: number, isUnprocessed: boolean): void
  /** After `session.data` said false: little of it is left, go on writing. */
  writable(stream: Stream): void
}

/** Owns a stream until somebody has taken it. */
export const nobody: StreamOwner = {
  headers: () => undefined,
  data: () => undefined,
  trailers: () => undefined,
  reset: () => undefined,
  writable: () => undefined,
}

/** Made by the session only. What is marked internal belongs to the session. */
export class Stream {
  readonly session: Session
  owner: StreamOwner
  /** 0 at a client until its head is written: ids have to appear on the wire in order. */
  id: number
  /** Of the request: HEAD and CONNECT change what a response may hold. */
  method: string
  /** We sent our end, or it waits behind queued data. */
  isEnded: boolean
  /** The peer sent its end. */
  isPeerEnded: boolean
  /** Over: both sides ended, or reset. Whatever is sent on it is dropped. */
  isClosed: boolean
  /** Bytes of body that arrived and left so far. Who wants to know whether a stream stands still compares them. */
  bytesIn: number
  bytesOut: number

  /** Internal: what the peer may still send, as announced. */
  window: number
  /** Internal: consumed, and not yet announced to the peer as room. */
  credit: number
  /** Internal: told to the owner and not yet consumed. */
  unconsumed: number
  /** Internal: bytes of body that Content-Length still promises; -1 where it says nothing. */
  expected: number
  /** Internal: the head, at a client the final one, has arrived. */
  hasHead: boolean
  /** Internal: interim responses so far. */
  interims: number

  /** Internal: CONNECT was granted: data only, no trailers. */
  isTunnel: boolean

  /** Internal: the peer's side is reset as soon as our end is out. */
  isDeclined: boolean
  /** Internal: we sent a head, our end. */
  hasSentHead: boolean
  hasSentEnd: boolean
  /** Internal: what the peer lets us send; negative after it lowered its initial window. */
  sendWindow: number
  /** Internal: data that waits is queue[queueStart, queueEnd); null: none. */
  queue: Buffer | null
  queueStart: number
  queueEnd: number
  /** Internal: trailers that wait behind the data. */
  trailers: readonly Field[] | null
  /** Internal: `data` said false, `writable` is owed. */
  isWaiting: boolean
  /** Internal: neighbours in the ring of streams that have data and window; null: not in it. */
  next: Stream | null
  previous: Stream | null
  /** Internal: the next one in the same slot of the session's table. */
  chained: Stream | null

  constructor(session: Session, owner: StreamOwner, method: string, window: number, sendWindow: number) {
    this.session = session
    this.owner = owner
    this.id = 0
    this.method = method
    this.isEnded = false
    this.isPeerEnded = false
    this.isClosed = false
    this.bytesIn = 0
    this.bytesOut = 0
    this.window = window
    this.credit = 0
    this.unconsumed = 0
    this.expected = -1
    this.hasHead = false
    this.interims = 0
    this.isTunnel = false
    this.isDeclined = false
    this.hasSentHead = false
    this.hasSentEnd = false
    this.sendWindow = sendWindow
    this.queue = null
    this.queueStart = 0
    this.queueEnd = 0
    this.trailers = null
    this.isWaiting = false
    this.next = null
    this.previous = null
    this.chained = null
  }

  /** Bytes that wait for a window, for their turn or for the socket. */
  get queued(): number {
    return this.queueEnd - this.queueStart
  }
}
