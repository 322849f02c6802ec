// One stream as a channel for opaque bytes: the tunnel of a CONNECT.
import { nobody } from '../../net/channel.ts'
import type { Channel, Owner } from '../../net/channel.ts'
import { Code, codeName } from '../../wire/h2/frame.ts'
import type { Session } from '../../wire/h2/session.ts'
import type { Stream, StreamOwner } from '../../wire/h2/stream.ts'

const nothing = Buffer.alloc(0)

/** Who is told that a stream of his connection is over, or about to be. */
interface Line {
  streamOver(): void
}

export class StreamChannel implements Channel, StreamOwner {
  owner: Owner
  bytesIn: number
  bytesOut: number
  isClosed: boolean
  isEnded: boolean
  isFinished: boolean
  isFull: boolean
  readonly #stream: Stream
  readonly #session: Session
  readonly #line: Line | null
  #holds: number
  #owed: number

  /** Takes the stream over: what comes next are the tunnel's bytes. */
  constructor(stream: Stream, line: Line | null = null) {
    // What arrives for nobody is kept from the peer's window.
    this.owner = nobody
    this.bytesIn = 0
    this.bytesOut = 0
    this.isClosed = stream.isClosed
    this.isEnded = stream.isPeerEnded
    this.isFinished = false
    this.isFull = false
    this.#stream = stream
    this.#session = stream.session
    this.#line = line
    this.#holds = 0
    this.#owed = 0
    stream.owner = this
  }

  // --- from the owner

  write(buffer: Buffer): boolean {
    return this.copy(buffer, 0, buffer.length)
  }

  /** A session copies what it is given. */
  lend(buffer: Buffer): boolean {
    return this.copy(buffer, 0, buffer.length)
  }

  get hasKept(): boolean {
    return false
  }

  gather(buffer: Buffer, start: number, end: number): boolean {
    return this.copy(buffer, start, end)
  }

  get isBusy(): boolean {
    return false
  }

  tellWhenIdle(): void {}

  get isShared(): boolean {
    return true
  }

  /** What comes is frames of the session's. */
  readWide(): void {}

  writeWide(): void {}

  copy(buffer: Buffer, start: number, end: number): boolean {
    if (this.isClosed || this.isFinished) return true
    this.bytesOut += end - start
    this.isFull = !this.#session.data(this.#stream, buffer, start, end, false)
    return !this.isFull
  }

  hold(): void {
    this.#holds++
  }

  release(): void {
    if (this.#holds === 0 || --this.#holds > 0) return
    const owed = this.#owed
    this.#owed = 0
    if (owed > 0) this.#session.consumed(this.#stream, owed)
  }

  end(): void {
    if (this.isFinished || this.isClosed) return
    this.isFinished = true
    this.#session.data(this.#stream, nothing, 0, 0, true)
    this.#closeIfDone()
  }

  close(): boolean {
    return false
  }

  destroy(): void {
    this.abort()
  }

  abort(): void {
    if (this.isClosed) return
    // The code for the TCP connection of a CONNECT that broke off (RFC 9113 7).
    this.#session.reset(this.#stream, Code.connectError)
    this.#close()
  }

  // --- from the stream

  headers(): void {
    // Interim responses after the final one do not exist.
  }

  data(stream: Stream, buffer: Buffer, start: number, end: number, isEnd: boolean): void {
    if (end > start) {
      this.bytesIn += end - start
      this.owner.bytes(buffer, start, end)
      if (this.#holds > 0) this.#owed += end - start
      else this.#session.consumed(stream, end - start)
    }
    if (isEnd) this.#ended()
  }

  trailers(): void {
    this.#ended()
  }

  reset(_stream: Stream, code: number): void {
    if (this.isClosed) return
    this.isClosed = true
    this.#line?.streamOver()
    this.owner.closed(new Error(codeName(code)))
  }

  writable(): void {
    this.isFull = false
    this.owner.drained()
  }

  #ended(): void {
    this.isEnded = true
    this.owner.ended()
    this.#closeIfDone()
  }

  #closeIfDone(): void {
    if (this.isEnded && this.isFinished && !this.isClosed) this.#close()
  }

  #close(): void {
    this.isClosed = true
    this.#line?.streamOver()
    // Whoever ends or destroys hears of it later, as with a socket.
    queueMicrotask(() => this.owner.closed(null))
  }
}
