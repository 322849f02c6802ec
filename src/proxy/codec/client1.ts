// HTTP/1.1 upstream: one connection of a pool, one exchange at a time. Bytes that nobody asked for end the connection.
import type { Connection, Owner } from '../../net/connection.ts'
import { ChunkScanner } from '../../wire/chunk.ts'
import { Head } from '../../wire/head.ts'
import { faultName, parseResponse } from '../../wire/http1.ts'
import { answered, interim, responseBytes, responseDone, switched } from '../chain/answer.ts'
import { broken } from '../chain/attempt.ts'
import type { Exchange } from '../chain/exchange.ts'
import { causes } from '../chain/reply.ts'
import { describe, isHandshakeAlert } from '../cluster/dial.ts'
import type { Pool } from '../cluster/pool.ts'

const AwaitHead = 0
const Length = 1
const Chunks = 2
const UntilClose = 3

// One for the process: a head is parsed, forwarded and left within one call.
const head = new Head()
/** Interim responses to one request; more is a peer that never answers. */
const maxInterim = 16

export class Upstream implements Owner {
  readonly pool: Pool
  readonly connection: Connection
  /** Of the certificate it was made with. */
  readonly epoch: number
  x: Exchange | null
  /** Exchanges that were begun on it. */
  uses: number
  idleSince: number
  /** Ended or destroyed: never to be used again. */
  isOver: boolean
  /** Response bytes of the current exchange have arrived. */
  hasBytes: boolean
  #state: number
  #left: number
  #keepAlive: boolean
  #interims: number
  #partial: Buffer | null
  #scanner: ChunkScanner | null

  constructor(pool: Pool, connection: Connection, epoch: number) {
    this.pool = pool
    this.connection = connection
    this.epoch = epoch
    this.x = null
    this.uses = 0
    this.idleSince = 0
    this.isOver = false
    this.hasBytes = false
    this.#state = AwaitHead
    this.#left = 0
    this.#keepAlive = true
    this.#interims = 0
    this.#partial = null
    this.#scanner = null
  }

  begin(x: Exchange): void {
    this.x = x
    this.uses++
    this.hasBytes = false
    this.#state = AwaitHead
    this.#interims = 0
  }

  /** Takes the buffer over; false: hold the source until `drained`. */
  write(buffer: Buffer): boolean {
    return this.connection.write(buffer)
  }

  destroy(): void {
    this.isOver = true
    this.x = null
    this.connection.destroy()
    this.pool.remove(this)
  }

  /** The connection becomes a tunnel and never returns to the pool. */
  detach(): Connection {
    this.isOver = true
    this.x = null
    this.pool.remove(this)
    return this.connection
  }

  bytes(buffer: Buffer, start: number, end: number): void {
    const { x } = this
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
    if (this.x !== null && this.#state === UntilClose) this.#finish(this.x)
    else this.#lost(null)
  }

  drained(): void {
    const { x } = this
    if (x !== null && x.requestHeld) {
      x.requestHeld = false
      x.downstream.connection.release()
    }
  }

  closed(error: Error | null): void {
    if (!this.isOver) this.#lost(error)
  }

  #lost(error: Error | null): void {
    const { x } = this
    const isAlert = !this.hasBytes && this.uses === 1 && isHandshakeAlert(error)
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
    let end = to
    let isDone = false
    if (head.chunked) {
      this.#state = Chunks
      this.#scanner ??= new ChunkScanner()
      this.#scanner.reset()
      end = this.#scan(data, at, to)
      if (end < -1) {
        this.#fault(x, end)
        return
      }
      isDone = end >= 0
      if (!isDone) end = to
    } else if (head.contentLength >= 0) {
      this.#state = Length
      end = Math.min(to, at + head.contentLength)
      this.#left = head.contentLength - (end - at)
      isDone = this.#left === 0
    } else {
      this.#state = UntilClose
    }
    // Bytes behind the response: nobody asked for them, so what follows on this connection cannot be trusted.
    if (end < to) this.#keepAlive = false
    if (!answered(x, this, head, data, at, end, isDone)) return
    if (isDone && this.x === x) this.#finish(x)
  }

  #upgrade(x: Exchange, data: Buffer, at: number, to: number): void {
    if (x.upgrade === '' || head.upgrade !== x.upgrade) this.#fault(x, 0)
    else switched(x, this, head, data, at, to)
  }

  #body(x: Exchange, buffer: Buffer, start: number, end: number): void {
    let to = end
    let isDone = false
    if (this.#state === Length) {
      to = Math.min(end, start + this.#left)
      this.#left -= to - start
      isDone = this.#left === 0
    } else if (this.#state === Chunks) {
      to = this.#scan(buffer, start, end)
      if (to < -1) {
        this.#fault(x, to)
        return
      }
      isDone = to >= 0
      if (!isDone) to = end
    }
    if (to < end) this.#keepAlive = false
    responseBytes(x, this, buffer, start, to)
    if (isDone && this.x === x) this.#finish(x)
  }

  #scan(buffer: Buffer, start: number, end: number): number {
    return this.#scanner!.feed(buffer, start, end)
  }

  /** Back to the pool before the exchange hears of its end: the next request may want this connection. */
  #finish(x: Exchange): void {
    this.x = null
    if (x.responseHeld) {
      x.responseHeld = false
      this.connection.release()
    }
    if (this.#state !== UntilClose && this.#keepAlive && x.requestDone && !this.connection.isEnded) {
      this.pool.release(this)
    } else {
      this.destroy()
    }
    responseDone(x)
  }
}
