// Connections of HTTP/1.1 to one endpoint, each for one exchange at a time: the last used is used first, so that spare
// ones can grow old and be closed.
import { Deadline } from '../../net/wheel.ts'
import type { Expiring } from '../../net/wheel.ts'
import type { Connection } from '../../net/connection.ts'
import { connected, connectFailed } from '../chain/attempt.ts'
import type { Exchange } from '../chain/exchange.ts'
import { causes } from '../chain/reply.ts'
import type { Cause } from '../chain/reply.ts'
import { Client1 } from '../codec/client1.ts'
import { isIdempotent } from '../filter/retry.ts'
import { Dial } from './dial.ts'
import type { Dialer } from './dial.ts'
import type { EndpointState } from './endpoint.ts'
import type { Supply } from './supply.ts'

/** Applications close idle connections after a minute, many of them in silence. Milliseconds. */
const idleTimeout = 55_000
/** A plain connection idle for longer is not trusted with a request that cannot be sent twice. */
const freshFor = 500

export class Pool implements Supply, Dialer, Expiring {
  readonly endpoint: EndpointState
  readonly identity: string
  #idle: Client1[]
  /** Idle and busy ones. */
  #all: Set<Client1>
  #dials: Set<Dial>
  #pending: Exchange[]
  #sweep: Deadline
  #isClosed: boolean

  constructor(endpoint: EndpointState, identity: string) {
    this.endpoint = endpoint
    this.identity = identity
    this.#idle = []
    this.#all = new Set()
    this.#dials = new Set()
    this.#pending = []
    this.#sweep = new Deadline(this, 0)
    this.#isClosed = false
  }

  /** Gives the exchange a connection: now, or later through `connected` or `connectFailed`. */
  acquire(x: Exchange): void {
    const upstream = this.#take(x)
    if (upstream !== null) {
      connected(x, upstream)
      return
    }
    const { maxConnections, maxPending } = this.endpoint.cluster.config
    const isRoom = maxConnections === 0 || this.#all.size + this.#dials.size < maxConnections
    // Exchanges for which a connection is being dialled do not count as pending.
    if (!isRoom && this.#pending.length - this.#dials.size >= maxPending) {
      connectFailed(x, causes.overflow, '')
      return
    }
    x.waitsAt = this
    this.#pending.push(x)
    if (isRoom && this.#dials.size < this.#pending.length) this.#dial()
  }

  /** The exchange waits no longer. */
  forget(x: Exchange): void {
    x.waitsAt = null
    const place = this.#pending.indexOf(x)
    if (place >= 0) this.#pending.splice(place, 1)
  }

  /** A connection is free and healthy. */
  release(upstream: Client1): void {
    const x = this.#pending.length === 0 ? undefined : this.#pending.shift()
    if (x !== undefined) {
      x.waitsAt = null
      connected(x, upstream)
      return
    }
    const { core } = this.endpoint
    const isOld = upstream.epoch !== core.secrets.epochOf(this.identity)
    if (this.#isClosed || this.endpoint.isRetired || isOld) {
      upstream.destroy()
      return
    }
    // Armed first: it keeps the wheel's time going.
    if (!this.#sweep.armed) core.wheel.arm(this.#sweep, idleTimeout)
    upstream.idleSince = core.wheel.now
    this.#idle.push(upstream)
  }

  /** A connection is gone. */
  remove(upstream: Client1): void {
    this.#all.delete(upstream)
    const place = this.#idle.indexOf(upstream)
    if (place >= 0) this.#idle.splice(place, 1)
    // Its place may be what somebody waits for.
    if (this.#pending.length > this.#dials.size && !this.#isClosed) this.#dial()
  }

  /** Tries one connection in the background and keeps it. */
  probe(endpoint: EndpointState): void {
    const probe: Dialer = {
      dialed: (connection, epoch) => {
        this.#dials.delete(dial)
        this.#keep(connection, epoch)
        endpoint.probed(true)
      },
      dialFailed: () => {
        this.#dials.delete(dial)
        endpoint.probed(false)
      },
    }
    const dial: Dial = new Dial(endpoint, this.identity, '', probe)
    this.#dials.add(dial)
  }

  dialed(connection: Connection, epoch: number): void {
    this.#dropDone()
    this.#keep(connection, epoch)
  }

  dialFailed(cause: Cause, detail: string): void {
    this.#dropDone()
    this.endpoint.connectFailed(this.identity)
    const x = this.#pending.shift()
    if (x === undefined) return
    x.waitsAt = null
    connectFailed(x, cause, detail)
    // Whoever is left beyond the running dials would wait for nothing.
    while (this.#pending.length > this.#dials.size && !this.#isClosed && this.#dials.size < 4) this.#dial()
  }

  /** Closes connections that were idle too long. */
  expire(): void {
    const { core } = this.endpoint
    const limit = core.wheel.now - idleTimeout
    while (this.#idle.length > 0 && this.#idle[0]!.idleSince <= limit) this.#idle.shift()!.destroy()
    if (this.#idle.length > 0) core.wheel.arm(this.#sweep, idleTimeout / 4)
  }

  closeIdle(): void {
    const idle = this.#idle
    this.#idle = []
    for (const upstream of idle) upstream.destroy()
  }

  close(): void {
    this.#isClosed = true
    this.endpoint.core.wheel.cancel(this.#sweep)
    for (const dial of this.#dials) dial.cancel()
    this.#dials.clear()
    this.closeIdle()
    for (const upstream of this.#all) upstream.destroy()
  }

  #take(x: Exchange): Client1 | null {
    for (;;) {
      const upstream = this.#idle.pop()
      if (upstream === undefined) return null
      const { core } = this.endpoint
      const isStale = !isIdempotent(x.method) && core.wheel.now - upstream.idleSince > freshFor
      if (!isStale && !upstream.isOver) return upstream
      upstream.destroy()
    }
  }

  #dial(): void {
    // The pool is the dialer of many dials; which one is done shows by its being finished.
    this.#dials.add(new Dial(this.endpoint, this.identity, '', this))
  }

  #dropDone(): void {
    for (const dial of this.#dials) if (dial.isDone) this.#dials.delete(dial)
  }

  #keep(connection: Connection, epoch: number): void {
    const upstream = new Client1(this, connection, epoch)
    connection.owner = upstream
    this.#all.add(upstream)
    if (this.#isClosed) upstream.destroy()
    else this.release(upstream)
  }
}
