// HTTP/1.1 downstream: one accepted connection, its requests one after the other. Pipelined requests wait their turn in
// the stash, which is bounded.
//
// Longer than its neighbours: what is left here all reads and moves the one exchange under way (`#x`); body, stash, deadlines
// and tunnel are rooms of their own.
import type { Channel, Owner } from '../../net/channel.ts'
import { Head } from '../../wire/head.ts'
import { faultName, faultStatus, parseRequest } from '../../wire/http1.ts'
import { releaseResponse } from '../chain/answer.ts'
import { leave, requestBytes, requestEnd } from '../chain/attempt.ts'
import { exchangeOf, filterRequest, proceed } from '../chain/begin.ts'
import type { Downstream, Headers } from '../chain/ends.ts'
import type { Exchange } from '../chain/exchange.ts'
import { Done, run, Wait } from '../chain/filter.ts'
import { expired, settle } from '../chain/finish.ts'
import { blame, causes, localReply } from '../chain/reply.ts'
import type { Cause } from '../chain/reply.ts'
import type { Core } from '../core.ts'
import type { Live, Scope } from '../live.ts'
import type { Guest, Guests } from '../listener/guests.ts'
import { Pump } from '../pump.ts'
import type { PumpEnd } from '../pump.ts'
import { Body1 } from './body1.ts'
import { Patience1 } from './patience1.ts'
import type { Awaited } from './patience1.ts'
import { fillRequest, isPreface } from './read1.ts'
import { Server2 } from './server2.ts'
import { Stash } from './stash.ts'
import { flushWaiting, isBodyless, pairsOf, writeData, writeEnd, writeResponse } from './write1.ts'

// One for the process: a head is parsed and forwarded within one call, mostly.
const head = new Head()
/** Whose request `head` holds; null: nobody's any more. */
let headOf: Exchange | null = null
const nothing = Buffer.alloc(0)

export class Server1 implements Downstream, Owner, Awaited, Guest, PumpEnd {
  readonly core: Core
  readonly connection: Channel
  readonly scope: Scope
  readonly #guests: Guests
  #x: Exchange | null
  /** The head of the request, for another try or a filter that waits. */
  #raw: Buffer
  readonly #body: Body1
  readonly #stash: Stash
  /** It has had a request of HTTP/1.1: what follows is that too. */
  #hasServed: boolean
  #isFeeding: boolean
  /** The caller has said that it sends nothing behind this request (RFC 9112 9.6), and all of that is here. */
  #isLast: boolean
  /** A filter of the exchange waits. */
  #isWaiting: boolean
  /** The response goes out in chunks, and the last one is still to come. */
  #isChunked: boolean
  readonly #patience: Patience1
  #pump: Pump | null

  constructor(core: Core, connection: Channel, scope: Scope, guests: Guests) {
    this.core = core
    this.connection = connection
    this.scope = scope
    this.#guests = guests
    this.#x = null
    this.#raw = nothing
    this.#body = new Body1()
    this.#stash = new Stash(connection)
    this.#hasServed = false
    this.#isFeeding = false
    this.#isLast = false
    this.#isWaiting = false
    this.#isChunked = false
    this.#pump = null
    this.#patience = new Patience1(core, connection, this)
    connection.owner = this
    guests.add(this)
    if (connection.isClosed) this.closed(null)
  }

  // --- from the connection

  bytes(buffer: Buffer, start: number, end: number): void {
    this.#patience.used()
    if (this.connection.isFinished) return
    if (!this.#stash.isEmpty || this.#isFeeding || (this.#x === null && this.connection.isFull)) {
      this.#stash.add(buffer, start, end)
      if (this.#x === null || !this.#x.requestDone) this.#unstash()
      return
    }
    this.#feed(buffer, start, end, 0)
  }

  ended(): void {
    const x = this.#x
    // Half-closed after its request is in order: it is still answered.
    if (x === null) {
      // Half a head, or nothing: nobody is waiting for an answer.
      if (!this.connection.close()) this.connection.end()
    } else if (!x.requestDone) {
      this.cut(x, causes.clientGone, 'the request ended early')
    } else {
      this.#patience.forAnswer()
    }
  }

  drained(): void {
    if (this.#x !== null) releaseResponse(this.#x)
    this.#unstash()
  }

  closed(error: Error | null): void {
    this.#patience.over()
    this.#guests.delete(this)
    const x = this.#x
    if (x === null) return
    blame(x, causes.clientGone, error === null ? '' : error.message)
    leave(x)
    settle(x)
  }

  // --- from its patience

  get isIdle(): boolean {
    return this.#x === null && this.#stash.isEmpty
  }

  headLate(): void {
    if (this.#x === null) this.#refuseHead(causes.headTimeout, 0, '')
  }

  answerLate(): void {
    const x = this.#x
    if (x !== null && !x.responseStarted) this.cut(x, causes.clientGone, 'half-closed for too long')
  }

  // --- from the chain

  head(x: Exchange): Headers {
    if (headOf !== x) {
      // The bytes it was parsed from are long gone; this copy parses the same.
      parseRequest(this.#raw, 0, this.#raw.length, head, x.live.settings)
      headOf = x
    }
    return head
  }

  interim(x: Exchange, response: Headers): void {
    writeResponse(this.connection, x, response, nothing, 0, 0, false, false, false)
  }

  respond(
    x: Exchange,
    response: Headers,
    buffer: Buffer,
    start: number,
    end: number,
    isWhole: boolean,
    isMore: boolean,
  ): boolean {
    let isChunked = false
    if (response.contentLength < 0 && !(isWhole && start === end) && !isBodyless(x.method, response.status)) {
      // Where nobody tells the length: chunks, or the end of the connection for those who do not know chunks.
      if (x.version === 0) x.keepAlive = false
      else isChunked = true
    }
    this.#isChunked = isChunked && !isWhole
    return writeResponse(this.connection, x, response, buffer, start, end, isChunked, isWhole, isMore)
  }

  body(_x: Exchange, buffer: Buffer, start: number, end: number): boolean {
    return writeData(this.connection, buffer, start, end, this.#isChunked)
  }

  finish(x: Exchange, trailers: Headers | null): void {
    if (this.#isChunked) writeEnd(this.connection, trailers === null ? null : pairsOf(trailers))
    this.#done(x)
  }

  flush(): void {
    flushWaiting()
  }

  refuse(x: Exchange, cause: Cause, detail: string, status: number = 0): void {
    leave(x)
    blame(x, cause, detail)
    if (!x.requestDone || x.upgrade !== '' || this.core.draining) x.keepAlive = false
    x.status = status === 0 ? cause.status : status
    const close = !x.keepAlive
    const { method, requestId } = x
    x.responseStarted = true
    this.connection.write(localReply(cause, detail, { status, method, close, requestId }))
    this.#done(x)
  }

  cut(x: Exchange, cause: Cause, detail: string): void {
    this.#drop(x, cause, detail)
    this.connection.abort()
  }

  expired(x: Exchange, tag: number): void {
    expired(x, tag)
  }

  /** A filter that waited goes on. */
  resume(x: Exchange): void {
    if (x.finished || this.#x !== x || !this.#isWaiting) return
    this.#isWaiting = false
    const verdict = run(x.chain.onRequest, x)
    if (verdict === Wait) this.#isWaiting = true
    else if (verdict !== Done) proceed(x)
    this.#unstash()
  }

  tunnel(x: Exchange, response: Headers, upstream: Channel, early: Buffer | null): void {
    writeResponse(this.connection, x, response, nothing, 0, 0, false, false, false)
    if (early !== null) this.connection.write(early)
    const stashed = this.#stash.take()
    if (stashed !== null) upstream.write(stashed)
    this.#stash.settle()
    this.#patience.over()
    x.disarm()
    this.#pump = new Pump(this.connection, upstream, this)
  }

  hold(): void {
    this.connection.hold()
  }

  release(): void {
    this.connection.release()
  }

  pumped(): void {
    const x = this.#x
    this.#guests.delete(this)
    if (x === null || this.#pump === null) return
    x.bytesIn = this.#pump.upstream.bytesOut
    x.bytesOut = this.#pump.upstream.bytesIn
    leave(x)
    settle(x)
    this.#x = null
  }

  // --- from the listener

  /** Drain: idle connections go now, busy ones after their response. True: it is busy. */
  drain(idleMs: number): boolean {
    const isIdle = this.isIdle && !this.connection.isFinished
    if (isIdle && this.#patience.isUnusedFor(idleMs)) this.connection.end()
    return !isIdle
  }

  destroy(): void {
    if (this.#pump !== null) this.#pump.destroy()
    else this.connection.destroy()
  }

  // --- reading

  #unstash(): void {
    const stash = this.#stash
    if (this.#isFeeding || stash.isEmpty || this.connection.isClosed) return
    // No new request while its caller does not even take the last response.
    if (this.#x === null && this.connection.isFull) return
    const { seen } = stash
    const bytes = stash.take()!
    this.#feed(bytes, 0, bytes.length, seen)
    stash.settle()
  }

  #feed(buffer: Buffer, start: number, end: number, seen: number): void {
    this.#isFeeding = true
    let at = start
    while (at < end && !this.connection.isFinished && !this.connection.isClosed) {
      const x = this.#x
      if ((x === null && this.connection.isFull) || x?.requestDone === true) {
        this.#stash.add(buffer, at, end)
        break
      }
      const next = x === null ? this.#request(buffer, at, end, seen) : this.#more(x, buffer, at, end)
      seen = 0
      if (next < 0) break
      at = next
    }
    this.#isFeeding = false
    const x = this.#x
    // The end came while the exchange before was under way: nobody else tells this one that its body stays incomplete.
    if (x !== null && !x.requestDone && this.connection.isEnded && this.#stash.isEmpty) {
      if (x.responseStarted) this.cut(x, causes.clientGone, 'the request ended early')
      else {
        // By an end: a reset could overtake the response to the request before.
        this.#drop(x, causes.clientGone, 'the request ended early')
        this.#close()
      }
    }
  }

  /** Parses one head and begins its exchange. Returns the place behind what was used, -1: stop. */
  #request(buffer: Buffer, at: number, end: number, seen: number): number {
    const { live } = this.core
    if (live === null) {
      this.#refuseHead(causes.notConfigured, 0, '')
      return -1
    }
    if (!this.#hasServed && isPreface(buffer, at, end)) {
      this.#becomeHttp2(buffer, at, end)
      return -1
    }
    headOf = null
    const taken = parseRequest(buffer, at, end, head, live.settings, seen)
    if (taken === 0) {
      this.#await(buffer, at, end, live)
      return -1
    }
    this.#patience.headDone()
    if (taken < 0) {
      this.#refuseHead(causes.badRequest, faultStatus(taken), faultName(taken))
      return -1
    }
    this.#hasServed = true
    const x = this.#begin(live)
    let next = at + taken
    this.#raw = Buffer.allocUnsafe(taken)
    buffer.copy(this.#raw, 0, at, next)
    const verdict = filterRequest(x, head)
    if (verdict === Done) {
      headOf = null
      return next
    }
    // What is here of the body goes into the queue, so that it leaves in one write with the head.
    if (!x.requestDone && next < end) next = this.#more(x, buffer, next, end)
    if (verdict === Wait) this.#isWaiting = true
    else if (!x.responseDone) proceed(x)
    // From here on the buffer belongs to somebody else.
    headOf = null
    return next
  }

  /** The caller speaks HTTP/2 (RFC 9113 3.3): this connection is another's from here on. */
  #becomeHttp2(buffer: Buffer, at: number, end: number): void {
    this.#patience.over()
    this.#guests.delete(this)
    const { carrier } = new Server2(this.core, this.connection, this.scope, this.#guests)
    carrier.bytes(buffer, at, end)
  }

  /** The head is not whole yet. */
  #await(buffer: Buffer, at: number, end: number, live: Live): void {
    if (this.connection.isEnded) {
      this.#close()
      return
    }
    this.#stash.add(buffer, at, end)
    this.#stash.seen = end - at
    this.#patience.forHead(live.settings.headTimeout)
  }

  #begin(live: Live): Exchange {
    const x = exchangeOf(this.core, live, this, this.scope)
    fillRequest(x, head)
    if (!x.requestDone) this.#body.begin(head)
    this.#isLast = !head.keepAlive && x.requestDone
    this.#x = x
    headOf = x
    return x
  }

  /** Body bytes. Returns the place behind what was used, -1: stop. */
  #more(x: Exchange, buffer: Buffer, start: number, end: number): number {
    const body = this.#body
    let at = start
    while (at < end && !body.isDone) {
      at = body.read(buffer, at, end)
      if (at < 0) {
        this.#refuseBody(x, at)
        return -1
      }
      requestBytes(x, buffer, body.from, body.to)
      if (this.#x !== x) return -1
    }
    if (!body.isDone) return at
    const trailers = body.trailers(x.live.settings)
    if (typeof trailers === 'number') {
      this.#refuseBody(x, trailers)
      return -1
    }
    requestEnd(x, trailers)
    return at
  }

  // --- ends

  /** Refused before there was a request. It is logged and counted like the rest. */
  #refuseHead(cause: Cause, status: number, detail: string): void {
    const { live } = this.core
    if (live === null) {
      this.connection.write(localReply(cause, detail, { status, method: 'GET', close: true, requestId: '' }))
      this.#close()
      return
    }
    const x = exchangeOf(this.core, live, this, this.scope)
    this.#stash.drop()
    this.#x = x
    x.requestDone = true
    x.keepAlive = false
    this.refuse(x, cause, detail, status)
  }

  #refuseBody(x: Exchange, code: number): void {
    const detail = faultName(code)
    if (x.responseStarted) this.cut(x, causes.badRequest, detail)
    else this.refuse(x, causes.badRequest, detail, faultStatus(code))
  }

  /** The response has gone out whole. */
  #done(x: Exchange): void {
    flushWaiting()
    // A slice of a larger piece of memory: an idle connection must not keep that.
    this.#raw = nothing
    x.responseDone = true
    if (!x.requestDone) x.keepAlive = false
    settle(x)
    if (this.#x !== x) return
    this.#x = null
    this.#patience.used()
    if (!x.keepAlive || (this.connection.isEnded && this.#stash.isEmpty)) this.#close()
    else this.#unstash()
  }

  #drop(x: Exchange, cause: Cause, detail: string): void {
    leave(x)
    blame(x, cause, detail)
    flushWaiting()
    x.keepAlive = false
    x.responseDone = true
    settle(x)
    this.#x = null
  }

  /** Our end is sent; what the peer may still send is read and thrown away for a while. */
  #close(): void {
    if ((this.#isLast || this.connection.isEnded) && this.#stash.isEmpty && this.connection.close()) return
    this.connection.end()
    this.#patience.forEnd()
    this.#stash.drop()
  }
}
