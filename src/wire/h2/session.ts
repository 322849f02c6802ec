// One HTTP/2 connection, either side, without its socket (RFC 9113, RFC 8441): bytes in by `receive`, events to the owners,
// bytes out by `take`. No clock, timers, logs or promises: the connection's owner brings time and decides about deadlines.
import { HpackEncoder } from './encoder.ts'
import { Farewell } from './farewell.ts'
import type { Field } from './field.ts'
import type { Fields } from './fields.ts'
import { Flood } from './flood.ts'
import { Code, maxWindow, preface } from './frame.ts'
import { Guard } from './guard.ts'
import { Inflow } from './inflow.ts'
import type { SessionLimits } from './limits.ts'
import { Output } from './output.ts'
import { Receiver } from './receiver.ts'
import { Sender } from './sender.ts'
import { ourSettings } from './settings.ts'
import { Stream, nobody } from './stream.ts'
import type { StreamOwner } from './stream.ts'
import { End, StreamTable } from './table.ts'

export interface SessionOwner {
  /** A peer's request, servers only: who takes it. Its `headers` follow at once. */
  accept(stream: Stream): StreamOwner
  /**
   * A request that never became a stream: malformed (a `Fault` of wire/fault.ts; reset with PROTOCOL_ERROR), or with a
   * head over the limits (`Fault.headTooLarge`; answered with 431). For counters. `fields` is borrowed until return.
   */
  refused(fault: number, fields: Fields): void
  /** Output waits. Called once until the next `take`; whether to take at once or later is the owner's choice. */
  wantsFlush(): void
  /** The peer's SETTINGS came: `canOpen` and `canConnectProtocol` may have changed. */
  settled(): void
  /** The peer sent GOAWAY; streams that it will not answer have been told. See `isDone`. */
  goingAway(): void
  /** The connection is beyond repair, all streams have been told and GOAWAY is in the output: flush it and close. */
  failed(code: number, why: string): void
}

/** Streams that a client opens before it has read how many it may. */
const cautious = 100

export class Session {
  readonly role: 'client' | 'server'
  readonly owner: SessionOwner
  readonly limits: SessionLimits
  /** For what stands between `beginHead` and `endHead`. */
  readonly encoder: HpackEncoder
  /** The peer's SETTINGS have come. */
  isSettled: boolean
  /** The peer's limit on streams of ours. */
  maxConcurrentStreams: number
  /** The largest head that the peer takes, as decoded bytes with 32 more for each field. */
  peerListBytes: number
  /** The peer takes extended CONNECT (RFC 8441). */
  canConnectProtocol: boolean
  /** Failed or ended: what arrives is ignored, what is sent is dropped. */
  isOver: boolean

  /** Internal, like all that follows up to the public methods. */
  readonly output: Output
  readonly sender: Sender
  readonly inflow: Inflow
  readonly streams: StreamTable
  readonly flood: Flood
  readonly guard: Guard
  readonly farewell: Farewell
  /** The time that `receive` was told last. */
  now: number
  /** The highest id of a request that has arrived. */
  lastPeerId: number
  readonly #receiver: Receiver
  #nextId: number
  /** The highest id whose head has left, at a client. */
  #lastHeadId: number

  /** What has to be said first is in the output at once, to be taken without a call of `wantsFlush`. */
  constructor(role: 'client' | 'server', owner: SessionOwner, limits: SessionLimits) {
    this.role = role
    this.owner = owner
    this.limits = limits
    this.encoder = new HpackEncoder(limits.tableBytes)
    this.isSettled = false
    this.maxConcurrentStreams = cautious
    this.peerListBytes = Infinity
    this.canConnectProtocol = false
    this.isOver = false
    this.output = new Output(owner)
    this.flood = new Flood(limits.floods)
    this.sender = new Sender(this)
    this.inflow = new Inflow(this.output, limits)
    this.streams = new StreamTable()
    this.guard = new Guard(this)
    this.farewell = new Farewell(this)
    this.now = 0
    this.lastPeerId = 0
    this.#receiver = new Receiver(this)
    this.#nextId = 1
    this.#lastHeadId = 0
    if (role === 'client') this.output.append(preface)
    this.output.settings(ourSettings(role, limits))
    this.inflow.begin()
  }

  // --- Receiving.

  /** The peer's bytes, borrowed until return. `now`: milliseconds of a clock that never goes back. */
  receive(buf: Buffer, start: number, end: number, now: number): void {
    if (this.isOver) return
    this.now = now
    this.#receiver.receive(buf, start, end)
    if (this.sender.hasReady) this.sender.pump()
  }

  /** The connection is gone: every stream is told. */
  ended(): void {
    if (this.isOver) return
    this.isOver = true
    this.farewell.dropAll(Code.gone)
  }

  /**
   * The owner of a stream has dealt with so many of the bytes that it was told: the peer may send as many more. What a
   * stream brought last need not be consumed: with the stream it is no longer counted.
   */
  consumed(stream: Stream, bytes: number): void {
    this.inflow.consumed(stream, bytes)
  }

  // --- Sending.

  get openStreams(): number {
    return this.streams.count
  }

  /** Whether a peer has asked for a tunnel that is not over. Looks at every stream. */
  get hasTunnel(): boolean {
    return this.streams.all().some((stream) => stream.isTunnel)
  }

  /** Whether `open` may be called: clients only, below the peer's limit, nobody going away. */
  get canOpen(): boolean {
    return (
      this.role === 'client' &&
      !this.isOver &&
      !this.isGoingAway &&
      this.streams.count < this.maxConcurrentStreams &&
      this.#nextId < maxWindow
    )
  }

  /** A new stream. Heads have to be written in the order in which streams were opened: write it at once. */
  open(owner: StreamOwner, method: string): Stream {
    if (!this.canOpen) throw new Error('the session opens no stream now')
    const stream = new Stream(this, owner, method, this.inflow.streamWindow, this.sender.initialWindow)
    stream.id = this.#nextId
    this.#nextId += 2
    this.streams.add(stream)
    return stream
  }

  /**
   * Begins a head of at most `bound` encoded bytes (name + value + 16 for each field). The caller writes its fields with
   * `encoder` into `out` from the returned place on, passing on the place, then calls `endHead`, nothing else in between.
   * -1: the stream is over, nothing may be written.
   */
  beginHead(stream: Stream, bound: number): number {
    if (stream.isClosed || stream.isEnded) return -1
    if (this.role === 'client' && !stream.hasSentHead) {
      if (stream.id < this.#lastHeadId) throw new Error('heads are written in the order of opening')
      this.#lastHeadId = stream.id
    }
    return this.sender.beginHead(bound)
  }

  /** Ends the head whose fields end at `at`. Heads take no window; `isEnd`: no body follows. */
  endHead(stream: Stream, at: number, isEnd: boolean): void {
    this.sender.endHead(stream, at, isEnd)
  }

  /** The buffer that heads are written to, valid from `beginHead` to `endHead`. */
  get out(): Buffer {
    return this.output.buffer
  }

  /**
   * Sends a copy of borrowed body bytes, at once or when windows and the socket allow; all are taken. False: hold the
   * source until `writable`.
   */
  data(stream: Stream, buf: Buffer, start: number, end: number, isEnd: boolean): boolean {
    return this.sender.data(stream, buf, start, end, isEnd)
  }

  /** Our end without more data, behind what waits. */
  end(stream: Stream): void {
    this.sender.data(stream, this.output.buffer, 0, 0, true)
  }

  /** The first `count` of these fields as trailers, behind what waits; the array is not kept. */
  trailers(stream: Stream, items: readonly Field[], count: number): void {
    this.sender.trailers(stream, items, count)
  }

  /** Gives up a stream; its owner hears no more of it. */
  reset(stream: Stream, code: number): void {
    if (stream.isClosed) return
    this.close(stream, End.byUs)
    if (stream.hasSentHead || this.role === 'server') this.output.rstStream(stream.id, code)
  }

  /** No more of what the peer sends on this stream is wanted (RFC 9113 8.1): it hears so when our end has gone out. */
  decline(stream: Stream): void {
    if (stream.isPeerEnded || stream.isClosed) return
    if (stream.hasSentEnd) this.reset(stream, Code.noError)
    else stream.isDeclined = true
  }

  /**
   * Says GOAWAY. With NO_ERROR a server first lets everything in that is on its way, and refuses when the peer has read
   * that (RFC 9113 6.8), or on the second call.
   */
  goaway(code: number): void {
    this.farewell.goaway(code)
  }

  /** One side said GOAWAY. */
  get isGoingAway(): boolean {
    return this.farewell.isGoingAway
  }

  /**
   * Somebody is going away and nothing is left to do, or the session failed or ended: flush and close. To be asked after
   * `receive` and `take`.
   */
  get isDone(): boolean {
    return this.farewell.isDone
  }

  /** Asks whether the peer lives: `isPingPending` until it answers. */
  ping(): void {
    this.farewell.ping()
  }

  get isPingPending(): boolean {
    return this.farewell.isPingPending
  }

  // --- Output.

  /** Bytes that wait to be taken. */
  get outEnd(): number {
    return this.output.end
  }

  /** All output so far, the caller's from now on. To be followed by `written`. */
  take(): Buffer {
    return this.output.take()
  }

  /** Takes back what `take` gave last: nobody looks at it any more, and it serves again. */
  recycle(): void {
    this.output.recycle()
  }

  /** What was taken has been handed to the socket. While that is full, data waits in the session, until `resume`. */
  written(isFull: boolean): void {
    this.sender.isHeld = isFull
    if (!isFull) this.sender.pump()
  }

  /** The socket takes more. */
  resume(): void {
    this.written(false)
  }

  // --- Internal: what the parts of the session ask of it.

  /** A peer's request becomes a stream. */
  accept(id: number, method: string): Stream {
    const stream = new Stream(this, nobody, method, this.inflow.streamWindow, this.sender.initialWindow)
    stream.id = id
    this.streams.add(stream)
    stream.owner = this.owner.accept(stream)
    return stream
  }

  /** Whether this stream has never been opened. */
  isIdle(id: number): boolean {
    return (id & 1) === 0 || id > this.lastId
  }

  /** The highest id that has been used. */
  get lastId(): number {
    return this.role === 'server' ? this.lastPeerId : this.#lastHeadId
  }

  /** Forgets a stream that ended in this way (`End`). */
  close(stream: Stream, end: number): void {
    if (stream.isClosed) return
    stream.isClosed = true
    this.sender.drop(stream)
    this.streams.remove(stream, end)
    if (!this.isOver) this.inflow.dropped(stream)
    if (end === End.orderly) this.flood.finished++
  }

  closeIfDone(stream: Stream): void {
    if (stream.isPeerEnded && stream.hasSentEnd) this.close(stream, End.orderly)
  }

  /** The peer's SETTINGS were read. */
  settled(): void {
    this.isSettled = true
    this.output.settingsAck()
    this.owner.settled()
  }
}
