// HTTP/2 upstream: one exchange on one stream of a link, or of a connection to an application that speaks HTTP/2.
import { Code, codeName } from '../../wire/h2/frame.ts'
import type { Fields } from '../../wire/h2/fields.ts'
import type { Session } from '../../wire/h2/session.ts'
import type { Stream, StreamOwner } from '../../wire/h2/stream.ts'
import { answered, interim, responseBytes, responseDone, switched } from '../chain/answer.ts'
import { broken, releaseRequest, unprocessed } from '../chain/attempt.ts'
import type { Headers, Upstream } from '../chain/ends.ts'
import type { Exchange } from '../chain/exchange.ts'
import { causes } from '../chain/reply.ts'
import type { Cause } from '../chain/reply.ts'
import { StreamChannel } from './streamchannel.ts'
import { pairFields, writeRequest } from './write2.ts'

/** An application ended the connection before it said anything of HTTP/2, or said something else. */
export const noHttp2 = 'the application does not speak HTTP/2'

const nothing = Buffer.alloc(0)

/** What a stream's connection tells of itself. */
export interface Line {
  readonly session: Session
  /** The peer is a proxy of the mesh. */
  readonly isLink: boolean
  /** Why the connection ended, where it has. */
  readonly cause: Cause
  readonly failure: string
  /** A stream of it is over, or about to be. */
  streamOver(): void
}

export class Client2 implements Upstream, StreamOwner {
  readonly isReused: boolean
  hasBytes: boolean
  readonly #line: Line
  #x: Exchange | null
  #stream: Stream | null
  #isHeld: boolean
  /** Told to us and not yet given back as window. */
  #owed: number

  /** `isReused`: the connection has carried exchanges before. */
  constructor(line: Line, isReused: boolean) {
    this.isReused = isReused
    this.hasBytes = false
    this.#line = line
    this.#x = null
    this.#stream = null
    this.#isHeld = false
    this.#owed = 0
  }

  // --- from the chain

  send(x: Exchange, head: Headers): boolean {
    const { session, isLink } = this.#line
    this.#x = x
    if (x.upgrade !== '' && !session.canConnectProtocol) {
      x.downstream.refuse(x, causes.protocol, 'the application takes no WebSocket over HTTP/2')
      return true
    }
    const stream = session.open(this, x.upgrade === '' ? x.method : 'CONNECT')
    this.#stream = stream
    const isEnd = x.requestDone && x.upgrade === '' && x.queued === 0 && x.requestTrailers === null
    writeRequest(x, head, session, stream, isLink, isEnd)
    if (isEnd) return true
    let isRoom = true
    if (x.kept !== null) isRoom = session.data(stream, x.kept, 0, x.queued, false)
    if (x.requestDone && x.upgrade === '') this.finish(x)
    return isRoom
  }

  body(_x: Exchange, buffer: Buffer, start: number, end: number): boolean {
    return this.#line.session.data(this.#stream!, buffer, start, end, false)
  }

  finish(x: Exchange): void {
    const { session } = this.#line
    if (x.requestTrailers === null) session.data(this.#stream!, nothing, 0, 0, true)
    else {
      const fields = pairFields(x.requestTrailers)
      session.trailers(this.#stream!, fields, fields.length)
    }
  }

  hold(): void {
    this.#isHeld = true
  }

  release(): void {
    this.#isHeld = false
    const owed = this.#owed
    this.#owed = 0
    if (owed > 0 && this.#stream !== null) this.#line.session.consumed(this.#stream, owed)
  }

  abandon(x: Exchange): void {
    if (this.#x !== x) return
    this.#x = null
    if (this.#stream !== null) this.#line.session.reset(this.#stream, Code.cancel)
    this.#line.streamOver()
  }

  letGo(x: Exchange, isWhole: boolean): void {
    if (!isWhole || !x.requestDone) {
      this.abandon(x)
      return
    }
    this.#x = null
    this.#line.streamOver()
  }

  // --- from the stream

  headers(stream: Stream, fields: Fields, isEnd: boolean): void {
    const x = this.#x
    if (x === null) return
    this.hasBytes = true
    const { status } = fields
    if (status < 200) interim(x, fields)
    else if (x.upgrade !== '' && status === 200 && !isEnd) {
      this.#x = null
      switched(x, fields, new StreamChannel(stream, this.#line), null)
    } else if (answered(x, this, fields, nothing, 0, 0, isEnd, true) && isEnd) this.#finish(x, null)
  }

  data(stream: Stream, buffer: Buffer, start: number, end: number, isEnd: boolean): void {
    const x = this.#x
    if (x === null) return
    responseBytes(x, this, buffer, start, end)
    if (isEnd) {
      if (this.#x === x) this.#finish(x, null)
    } else if (this.#isHeld) this.#owed += end - start
    else this.#line.session.consumed(stream, end - start)
  }

  trailers(_stream: Stream, fields: Fields): void {
    if (this.#x !== null) this.#finish(this.#x, fields)
  }

  reset(_stream: Stream, code: number, isUnprocessed: boolean): void {
    const x = this.#x
    if (x === null) return
    this.#x = null
    this.#line.streamOver()
    const { cause, failure, session, isLink } = this.#line
    if (!session.isSettled && !isLink) broken(x, this, causes.protocol, noHttp2)
    else if (isUnprocessed && !this.hasBytes) unprocessed(x, codeName(code))
    else if (code === Code.gone) broken(x, this, cause, failure)
    else broken(x, this, code === Code.protocolError ? causes.protocol : causes.reset, codeName(code))
  }

  writable(): void {
    if (this.#x !== null) releaseRequest(this.#x)
  }

  #finish(x: Exchange, trailers: Headers | null): void {
    // A response that is whole before its request: nobody wants the rest.
    if (!x.requestDone && this.#stream !== null) this.#line.session.reset(this.#stream, Code.noError)
    this.#x = null
    this.#line.streamOver()
    responseDone(x, trailers)
  }
}
