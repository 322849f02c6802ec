// HTTP/1.1 upstream: one connection of a pool, one exchange at a time. Bytes that nobody asked for end the connection.
import type { Owner } from '../../net/channel.ts'
import type { Connection } from '../../net/connection.ts'
import { ChunkReader } from '../../wire/chunk.ts'
import { Head } from '../../wire/head.ts'
import { faultName, parseResponse, parseTrailers } from '../../wire/http1.ts'
import { answered, interim, responseBytes, responseDone, switched } from '../chain/answer.ts'
import { broken, releaseRequest } from '../chain/attempt.ts'
import type { Headers, Upstream } from '../chain/ends.ts'
import type { Exchange } from '../chain/exchange.ts'
import { causes } from '../chain/reply.ts'
import { describe, isHandshakeAlert } from '../cluster/dial.ts'
import type { Pool } from '../cluster/pool.ts'
import { flushWaiting, writeData, writeEnd, writeRequest } from './write1.ts'

const AwaitHead = 0
const Length = 1
const Chunks = 2
const UntilClose = 3

// One for the process: a head is parsed, forwarded and left within one call.
const head = new Head()
/** Interim responses to one request; more is a peer that never answers. */
const maxInterim = 16

export class Client1 implements Upstream, Owner {
  readonly pool: Pool
  readonly connection: Connection
  /** Of the certificate it was made with. */
  readonly epoch: number
  idleSince: number
  /** Ended or destroyed: never to be used again. */
  isOver: boolean
  hasBytes: boolean
  #x: Exchange | null
  /** Exchanges that were begun on it. */
  #uses: number
  #state: number
  #left: number
  #keepAlive: boolean
  #isHeld: boolean
  #interims: number
  #partial: Buffer | null
  #chunks: ChunkReader | null

  constructor(pool: Pool, connection: Connection, epoch: number) {
    this.pool = pool
    this.connection = connection
    this.epoch = epoch
    this.idleSince = 0
    this.isOver = false
    this.hasBytes = false
    this.#x = null
    this.#uses = 0
    this.#state = AwaitHead
    this.#left = 0
    this.#keepAlive = true
    this.#isHeld = false
    this.#interims = 0
    this.#partial = null
    this.#chunks = null
  }

  // --- from the chain

  get isReused(): boolean {
    return this.#uses > 1
  }

  send(x: Exchange, request: Headers): boolean {
    this.#x = x
    this.#uses++
    this.hasBytes = false
    this.#state = AwaitHead
    this.#interims = 0
    writeRequest(this.connection, x, request)
    if (x.kept !== null) writeData(this.connection, x.kept, 0, x.queued, x.isUnsized)
    if (x.isUnsized && x.requestDone) writeEnd(this.connection, x.requestTrailers)
    return flushWaiting() && !this.connection.isFull
  }

  body(x: Exchange, buffer: Buffer, start: number, end: number): boolean {
    return writeData(this.connection, buffer, start, end, x.isUnsized)
  }

  finish(x: Exchange): void {
    if (x.isUnsized) writeEnd(this.connection, x.requestTrailers)
  }

  hold(): void {
    if (this.#isHeld) return
    this.#isHeld = true
    this.connection.hold()
  }

  release(): void {
    if (!this.#isHeld) return
    this.#isHeld = false
    this.connection.release()
  }

  abandon(x: Exchange): void {
    if (this.#x === x) this.destroy()
  }

  letGo(x: Exchange, isWhole: boolean): void {
    if (!isWhole || !this.#keepAlive || !x.requestDone || this.connection.isEnded) return
    this.#x = null
    this.pool.release(this)
  }

  // --- from the pool

  destroy(): void {
    this.isOver = true
    this.#x = null
    this.connection.destroy()
    this.pool.remove(this)
  }

  // --- from the connection

  bytes(buffer: Buffer, start: number, end: number): void {
    const x = this.#x
    if (x === null) {
      // Unasked: the start of somebody else's response, or a fault of the peer.
      if (!this.isOver) this.destroy()
      return
    }
    this.hasBytes = true
    if (this.#state === AwaitHead) this.#heads(x, buffer, start, end)
    else this.#body(x, buffer, start, end)
  }

  ended(): void {
    if (this.isOver) return
    if (this.#x !== null && this.#state === UntilClose) this.#finish(this.#x, null)
    else this.#lost(null)
  }

  drained(): void {
    if (this.#x !== null) releaseRequest(this.#x)
  }

  closed(error: Error | null): void {
    if (!this.isOver) this.#lost(error)
  }

  #lost(error: Error | null): void {
    const x = this.#x
    const isAlert = !this.hasBytes && this.#uses === 1 && isHandshakeAlert(error)
    this.destroy()
    if (x === null) return
    // An alert before anything else: the peer's TLS never took the request in.
    if (isAlert) broken(x, this, causes.connectFailure, describe(error))
    else broken(x, this, causes.reset, describe(error))
  }

  #fault(x: Exchange, code: number): void {
    this.destroy()
    broken(x, this, causes.protocol, faultName(code))
  }

  #heads(x: Exchange, chunk: Buffer, start: number, end: number): void {
    let data = chunk
    let at = start
    let to = end
    let seen = 0
    if (this.#partial !== null) {
      seen = this.#partial.length
      data = Buffer.concat([this.#partial, chunk.subarray(start, end)])
      at = 0
      to = data.length
      this.#partial = null
    }
    for (;;) {
      const taken = parseResponse(data, at, to, head, x.live.settings, x.method, seen)
      if (taken < 0) {
        this.#fault(x, taken)
        return
      }
      if (taken === 0) {
        this.#partial = Buffer.from(data.subarray(at, to))
        return
      }
      at += taken
      seen = 0
      if (head.status >= 200) break
      if (head.status === 101) {
        this.#upgrade(x, data, at, to)
        return
      }
      if (++this.#interims > maxInterim) {
        this.#fault(x, 0)
        return
      }
      interim(x, head)
      if (at === to) return
    }
    this.#final(x, data, at, to)
  }

  #final(x: Exchange, data: Buffer, at: number, to: number): void {
    this.#keepAlive = head.keepAlive && x.upgrade === ''
    if (head.chunked) {
      this.#state = Chunks
      this.#chunks ??= new ChunkReader()
      this.#chunks.reset()
      if (!answered(x, this, head, data, at, at, false, at < to) || this.#x !== x) return
      this.#chunked(x, data, at, to)
      x.downstream.flush(x)
      return
    }
    let end = to
    let isDone = false
    if (head.contentLength >= 0) {
      this.#state = Length
      end = Math.min(to, at + head.contentLength)
      this.#left = head.contentLength - (end - at)
      isDone = this.#left === 0
    } else {
      this.#state = UntilClose
    }
    // Bytes behind the response: nobody asked for them, so what follows on this connection cannot be trusted.
    if (end < to) this.#keepAlive = false
    if (!answered(x, this, head, data, at, end, isDone, false)) return
    if (isDone && this.#x === x) this.#finish(x, null)
  }

  #upgrade(x: Exchange, data: Buffer, at: number, to: number): void {
    if (x.upgrade === '' || head.upgrade !== x.upgrade) {
      this.#fault(x, 0)
      return
    }
    this.isOver = true
    this.#x = null
    this.pool.remove(this)
    switched(x, head, this.connection, at === to ? null : Buffer.from(data.subarray(at, to)))
  }

  #body(x: Exchange, buffer: Buffer, start: number, end: number): void {
    if (this.#state === Chunks) {
      this.#chunked(x, buffer, start, end)
      return
    }
    let to = end
    let isDone = false
    if (this.#state === Length) {
      to = Math.min(end, start + this.#left)
      this.#left -= to - start
      isDone = this.#left === 0
    }
    if (to < end) this.#keepAlive = false
    responseBytes(x, this, buffer, start, to)
    if (isDone && this.#x === x) this.#finish(x, null)
  }

  #chunked(x: Exchange, buffer: Buffer, start: number, end: number): void {
    const chunks = this.#chunks!
    let at = start
    while (!chunks.isDone) {
      if (at === end) return
      at = chunks.read(buffer, at, end)
      if (at < 0) {
        this.#fault(x, at)
        return
      }
      responseBytes(x, this, buffer, chunks.from, chunks.to)
      if (this.#x !== x) return
    }
    if (at < end) this.#keepAlive = false
    const { trailers } = chunks
    if (trailers === null) this.#finish(x, null)
    else {
      const taken = parseTrailers(trailers, 0, trailers.length, head, x.live.settings)
      if (taken < 0) this.#fault(x, taken)
      else this.#finish(x, head)
    }
  }

  /** Back to the pool before the exchange hears of its end: the next request may want this connection. */
  #finish(x: Exchange, trailers: Headers | null): void {
    this.#x = null
    this.release()
    if (this.#state !== UntilClose && this.#keepAlive && x.requestDone && !this.connection.isEnded) {
      this.pool.release(this)
    } else {
      this.destroy()
    }
    responseDone(x, trailers)
  }
}
