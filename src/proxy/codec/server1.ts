// HTTP/1.1 downstream: one accepted connection, its requests one after the other. Pipelined requests wait their turn in
// the buffer, which is bounded.
import type { Connection, Owner } from '../../net/connection.ts'
import { Deadline } from '../../net/wheel.ts'
import type { Expiring } from '../../net/wheel.ts'
import { ChunkScanner } from '../../wire/chunk.ts'
import { Head } from '../../wire/head.ts'
import { faultName, faultStatus, parseRequest } from '../../wire/http1.ts'
import { attempt, dispatch, leave, requestBytes, retry } from '../chain/attempt.ts'
import { Exchange, RouteDeadline, TryDeadline } from '../chain/exchange.ts'
import { Done, run, Wait } from '../chain/filter.ts'
import { blame, causes, localReply } from '../chain/reply.ts'
import type { Cause } from '../chain/reply.ts'
import { mayRetryReset } from '../filter/retry.ts'
import type { Core } from '../core.ts'
import type { Live, Scope, Target } from '../live.ts'
import { Pump } from '../pump.ts'
import type { PumpEnd } from '../pump.ts'
import type { Guest, Guests } from '../listener/guests.ts'
import { Stash } from './stash.ts'

// One for the process: a head is parsed and forwarded within one call.
const head = new Head()
/** How long bytes of a refused request are read and thrown away, so that the reply is not lost in a reset. */
const lingerMs = 2000
/** A link whose certificate has ended is closed when nothing came for so long. */
const linkQuietMs = 500
/** How long a caller that has sent its end may still wait for its answer: most have simply gone. A link never half-closes. */
const halfClosedMs = 5000

const IdleDeadline = 1
const HeadDeadline = 2
const LingerDeadline = 3
const HalfDeadline = 4

export class Downstream implements Owner, Expiring, Guest, PumpEnd {
  readonly core: Core
  readonly connection: Connection
  readonly scope: Scope
  readonly #guests: Guests
  #x: Exchange | null
  readonly #stash: Stash
  #isFeeding: boolean
  #isLingering: boolean
  #bodyLeft: number
  #scanner: ChunkScanner | null
  #isChunked: boolean
  #lastUsed: number
  #idle: Deadline
  #timing: Deadline | null
  #pump: Pump | null
  /** The head of an exchange whose filter waits. */
  #waitingHead: Buffer | null

  constructor(core: Core, connection: Connection, scope: Scope, guests: Guests) {
    this.core = core
    this.connection = connection
    this.scope = scope
    this.#guests = guests
    this.#x = null
    this.#stash = new Stash(connection)
    this.#isFeeding = false
    this.#isLingering = false
    this.#bodyLeft = 0
    this.#scanner = null
    this.#isChunked = false
    this.#idle = new Deadline(this, IdleDeadline)
    this.#timing = null
    this.#pump = null
    this.#waitingHead = null
    connection.owner = this
    guests.add(this)
    core.wheel.arm(this.#idle, Math.max(Math.min(this.#idleTimeout, scope.until - core.wheel.now), 0))
    this.#lastUsed = core.wheel.now
    if (connection.isClosed) this.closed(null)
  }

  // --- from the connection

  bytes(buffer: Buffer, start: number, end: number): void {
    this.#lastUsed = this.core.wheel.now
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
      this.connection.end()
    } else if (!x.requestDone) {
      this.cut(x, causes.clientGone, 'the request ended early')
    } else if (this.scope.isSecure) {
      this.cut(x, causes.clientGone, '')
    } else {
      this.core.wheel.arm((this.#timing = new Deadline(this, HalfDeadline)), halfClosedMs)
    }
  }

  drained(): void {
    const x = this.#x
    if (x !== null && x.responseHeld) {
      x.responseHeld = false
      x.upstream?.connection.release()
    }
    this.#unstash()
  }

  closed(error: Error | null): void {
    this.core.wheel.cancel(this.#idle)
    if (this.#timing !== null) this.core.wheel.cancel(this.#timing)
    this.#guests.delete(this)
    const x = this.#x
    if (x === null) return
    blame(x, causes.clientGone, error === null ? '' : error.message)
    leave(x)
    this.#finish(x)
  }

  expire(tag: number): void {
    if (tag === HeadDeadline) {
      if (this.#x === null) this.#badHead(causes.headTimeout, 0, '')
      return
    }
    if (tag === HalfDeadline) {
      const x = this.#x
      if (x !== null && !x.responseStarted) this.cut(x, causes.clientGone, 'half-closed for too long')
      return
    }
    if (tag === LingerDeadline) {
      this.connection.destroy()
      return
    }
    const { now } = this.core.wheel
    const timeout = this.#idleTimeout
    const left = Math.min(this.#lastUsed + timeout, this.scope.until) - now
    // A link in use is not cut between two requests, when the next may be on its way: its next response says close.
    const isQuiet = now - this.#lastUsed >= Math.min(timeout, linkQuietMs)
    if (this.#x === null && this.#stash.isEmpty && left <= 0 && isQuiet) this.connection.end()
    else this.core.wheel.arm(this.#idle, Math.max(left, 1000))
  }

  // --- from the chain

  /** Takes the buffer over; false: hold the source until drained. */
  write(buffer: Buffer): boolean {
    return this.connection.write(buffer)
  }

  /** The response has gone out whole. */
  done(x: Exchange): void {
    x.responseDone = true
    if (!x.requestDone) x.keepAlive = false
    this.#finish(x)
    if (this.#x !== x) return
    this.#x = null
    this.#lastUsed = this.core.wheel.now
    if (!x.keepAlive || (this.connection.isEnded && this.#stash.isEmpty)) {
      this.#close()
      return
    }
    this.#unstash()
  }

  /** The response comes from us. */
  refuse(x: Exchange, cause: Cause, detail: string, status: number = 0): void {
    leave(x)
    blame(x, cause, detail)
    if (!x.requestDone || x.upgrade !== '') x.keepAlive = false
    if (this.core.draining) x.keepAlive = false
    x.status = status === 0 ? cause.status : status
    const close = !x.keepAlive
    const { method, requestId } = x
    x.responseStarted = true
    this.write(localReply(cause, detail, { status, method, close, requestId }))
    this.done(x)
  }

  /**
   * The response cannot be finished: the caller sees the connection break. `gently`: by an end; a reset could overtake the
   * response to the request before.
   */
  cut(x: Exchange, cause: Cause, detail: string, gently: boolean = false): void {
    leave(x)
    blame(x, cause, detail)
    x.keepAlive = false
    x.responseDone = true
    this.#finish(x)
    this.#x = null
    if (gently) this.#close()
    else this.connection.reset()
  }

  /** A deadline of the exchange has passed. */
  expired(x: Exchange, tag: number): void {
    if (tag === TryDeadline) {
      leave(x)
      x.endpoint?.failed()
      if (mayRetryReset(x)) retry(x)
      else this.refuse(x, causes.timeout, `no response within ${x.route?.retry.perTryTimeout} ms`)
    } else if (tag === RouteDeadline) {
      if (x.responseStarted) this.cut(x, causes.responseTimeout, `after ${x.route?.timeout} ms`)
      else this.refuse(x, causes.timeout, `after ${x.route?.timeout} ms`)
    } else {
      attempt(x)
    }
  }

  /** A filter that waited goes on. */
  resume(x: Exchange): void {
    const raw = this.#waitingHead
    if (x.finished || this.#x !== x || raw === null) return
    this.#waitingHead = null
    // The bytes it was parsed from are long gone; this copy parses the same.
    parseRequest(raw, 0, raw.length, head, x.live.settings)
    const verdict = run(x.chain.onRequest, x)
    if (verdict === Wait) this.#waitingHead = raw
    else if (verdict !== Done) this.#go(x)
    this.#unstash()
  }

  /** Both connections belong to a tunnel from here on. */
  tunnel(x: Exchange, upstream: Connection): void {
    x.upstream = null
    const early = this.#stash.take()
    if (early !== null) upstream.write(early)
    this.#stash.settle()
    this.core.wheel.cancel(this.#idle)
    x.disarm()
    this.#pump = new Pump(this.connection, upstream, this)
  }

  pumped(): void {
    const x = this.#x
    this.#guests.delete(this)
    if (x === null || this.#pump === null) return
    x.bytesIn = this.#pump.upstream.bytesOut
    x.bytesOut = this.#pump.upstream.bytesIn
    leave(x)
    this.#finish(x)
    this.#x = null
  }

  // --- from the listener

  /** Drain: idle connections go now, busy ones after their response. True: it is busy. */
  drain(idleMs: number): boolean {
    const isIdle = this.#x === null && this.#stash.isEmpty && !this.#isLingering
    if (isIdle && this.core.wheel.now - this.#lastUsed >= idleMs) this.connection.end()
    return !isIdle
  }

  destroy(): void {
    if (this.#pump !== null) this.#pump.destroy()
    else this.connection.destroy()
  }

  // --- reading

  get #idleTimeout(): number {
    return this.core.live?.settings.idleTimeout ?? 60_000
  }

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
      if (x === null) {
        if (this.connection.isFull) {
          this.#stash.add(buffer, at, end)
          break
        }
        const next = this.#request(buffer, at, end, seen)
        seen = 0
        if (next < 0) break
        at = next
      } else if (x.requestDone) {
        this.#stash.add(buffer, at, end)
        break
      } else {
        const next = this.#scan(buffer, at, end)
        if (next < -1) {
          this.#badBody(x, next)
          break
        }
        const to = next < 0 ? end : next
        const isLast = next >= 0
        if (isLast) x.requestDone = true
        if (to > at) requestBytes(x, buffer, at, to)
        at = to
      }
    }
    this.#isFeeding = false
    const x = this.#x
    // The end came while the exchange before was under way: nobody else tells this one that its body stays incomplete.
    if (x !== null && !x.requestDone && this.connection.isEnded && this.#stash.isEmpty)
      this.cut(x, causes.clientGone, 'the request ended early', !x.responseStarted)
  }

  /** Parses one head and begins its exchange. Returns the place behind what was used, -1: stop. */
  #request(buffer: Buffer, at: number, end: number, seen: number): number {
    const { live } = this.core
    if (live === null) {
      this.#badHead(causes.notConfigured, 0, '')
      return -1
    }
    const taken = parseRequest(buffer, at, end, head, live.settings, seen)
    if (taken === 0) {
      if (this.connection.isEnded) {
        this.#close()
        return -1
      }
      this.#stash.add(buffer, at, end)
      this.#stash.seen = end - at
      if (this.#timing === null) this.#timing = new Deadline(this, HeadDeadline)
      if (!this.#timing.armed) this.core.wheel.arm(this.#timing, live.settings.headTimeout)
      return -1
    }
    if (this.#timing !== null) this.core.wheel.cancel(this.#timing)
    if (taken < 0) {
      this.#badHead(causes.badRequest, faultStatus(taken), faultName(taken))
      return -1
    }
    const x = this.#exchange(live)
    const body = at + taken
    x.requestDone = !head.chunked && head.contentLength <= 0
    let next = body
    if (!x.requestDone) {
      this.#isChunked = head.chunked
      this.#bodyLeft = head.contentLength
      if (head.chunked) {
        this.#scanner ??= new ChunkScanner()
        this.#scanner.reset()
      }
      if (body < end) {
        const scanned = this.#scan(buffer, body, end)
        if (scanned < -1) {
          this.#x = x
          this.#badBody(x, scanned)
          return -1
        }
        next = scanned < 0 ? end : scanned
        x.requestDone = scanned >= 0
      }
    }
    this.#x = x
    const verdict = run(x.chain.onRequest, x)
    if (verdict === Done) return next
    // Into the queue, so that it leaves in one write with the head.
    if (next > body) requestBytes(x, buffer, body, next)
    if (verdict === Wait) this.#waitingHead = Buffer.from(buffer.subarray(at, body))
    else if (!x.responseDone) this.#go(x)
    return next
  }

  /** The request's filters have let it pass; `head` is its head. */
  #go(x: Exchange): void {
    const { refusal } = this.scope
    if (refusal !== null) {
      // It was decided for this connection: the next one may meet a service that was not there yet.
      x.keepAlive = false
      this.refuse(x, refusal.cause, refusal.detail)
    } else if (head.method === 'CONNECT') {
      x.keepAlive = false
      this.refuse(x, causes.noConnect, '')
    } else dispatch(x, head)
  }

  #exchange(live: Live): Exchange {
    const target = this.scope.target(live)
    const x = new Exchange(this.core, live, this, this.scope, target ?? this.#gone(live))
    x.method = head.method
    x.path = head.target
    x.authority = head.host
    x.minor = head.minor
    x.keepAlive = head.keepAlive && !this.core.draining && this.#lastUsed < this.scope.until
    x.requestChunked = head.chunked
    // Only what we know how to tunnel; other tokens are ignored, as RFC 9110 7.8 allows.
    if (head.upgrade === 'websocket') x.upgrade = 'websocket'
    x.userAgent = head.get('user-agent') ?? ''
    x.requestId = head.get('x-request-id') ?? ''
    for (const route of x.target.routes) {
      if (route.matches !== null && !route.matches(x, head)) continue
      x.route = route
      x.chain = route.chain
      break
    }
    return x
  }

  #gone(live: Live): Target {
    return { ...live.nowhere, destination: this.scope.destination }
  }

  /** Finds the end of the body: its place, -1: all of it and more, < -1: a fault. */
  #scan(buffer: Buffer, start: number, end: number): number {
    if (this.#isChunked) return this.#scanner!.feed(buffer, start, end)
    const take = Math.min(this.#bodyLeft, end - start)
    this.#bodyLeft -= take
    return this.#bodyLeft === 0 ? start + take : -1
  }

  // --- ends

  /** Refused before there was a request. It is logged and counted like the rest. */
  #badHead(cause: Cause, status: number, detail: string): void {
    const { live } = this.core
    if (live === null) {
      this.write(localReply(cause, detail, { status, method: 'GET', close: true, requestId: '' }))
      this.#close()
      return
    }
    const x = new Exchange(this.core, live, this, this.scope, this.scope.target(live) ?? this.#gone(live))
    this.#stash.drop()
    this.#x = x
    x.requestDone = true
    x.keepAlive = false
    this.refuse(x, cause, detail, status)
  }

  #badBody(x: Exchange, code: number): void {
    const detail = faultName(code)
    if (x.responseStarted) this.cut(x, causes.badRequest, detail)
    else this.refuse(x, causes.badRequest, detail, faultStatus(code))
  }

  #finish(x: Exchange): void {
    if (x.finished) return
    x.finished = true
    x.duration = this.core.clock.monotonic() - x.startedAt
    x.disarm()
    if (x.requestHeld) {
      x.requestHeld = false
      this.connection.release()
    }
    if (x.retrying) {
      x.retrying = false
      if (x.cluster !== null) x.cluster.retries--
    }
    const { onFinish } = x.chain
    if (onFinish !== null) for (const step of onFinish) step(x)
  }

  /** Our end is sent; what the peer still sends is read and thrown away for a while. */
  #close(): void {
    this.#isLingering = true
    this.connection.end()
    this.core.wheel.cancel(this.#idle)
    this.core.wheel.arm((this.#timing = new Deadline(this, LingerDeadline)), lingerMs)
    this.#stash.drop()
  }
}
