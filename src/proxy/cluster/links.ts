// Connections of HTTP/2 to one endpoint: links to the proxy of another host, or plain ones to an application that speaks
// HTTP/2. Few of them, each for many exchanges at a time.
import type { Connection } from '../../net/connection.ts'
import { linkHttp2 } from '../../snapshot/types.ts'
import { connected, connectFailed } from '../chain/attempt.ts'
import type { Exchange } from '../chain/exchange.ts'
import { causes } from '../chain/reply.ts'
import type { Cause } from '../chain/reply.ts'
import type { Connect } from './connect.ts'
import { Dial } from './dial.ts'
import type { Dialer } from './dial.ts'
import type { EndpointState } from './endpoint.ts'
import { Link } from './link.ts'
import type { Supply } from './supply.ts'

/** Another connection is made when none has room for one more stream; more than this are not. */
const maxLinks = 16

export class Links implements Supply, Dialer {
  readonly endpoint: EndpointState
  readonly identity: string
  /** Those that take new streams, the newest last. */
  #open: Link[]
  /** Those and the ones that only finish what runs on them. */
  #all: Set<Link>
  #dial: Dial | null
  #pending: Exchange[]
  /** Opaque connections that wait like them. */
  #connects: Connect[]
  #isClosed: boolean
  /** Streams that the peer takes on a connection, as far as it has said so. */
  #maxStreams: number

  constructor(endpoint: EndpointState, identity: string) {
    this.endpoint = endpoint
    this.identity = identity
    this.#open = []
    this.#all = new Set()
    this.#dial = null
    this.#pending = []
    this.#connects = []
    this.#isClosed = false
    this.#maxStreams = Infinity
  }

  // --- from the chain

  acquire(x: Exchange): void {
    if (this.#pending.length === 0 && this.#begin(x)) return
    const { maxPending } = this.endpoint.cluster.config
    // Those who wait for the first connection only wait for it to be made.
    if (this.#open.length > 0 && this.#pending.length >= maxPending) {
      connectFailed(x, causes.overflow, '')
      return
    }
    x.waitsAt = this
    this.#pending.push(x)
    this.#widen()
  }

  forget(x: Exchange): void {
    x.waitsAt = null
    const place = this.#pending.indexOf(x)
    if (place >= 0) this.#pending.splice(place, 1)
  }

  // --- from opaque connections

  /** Gives it a link: now, or later through `linked` or `failed`. */
  connect(connect: Connect): void {
    if (this.#isFull) {
      const detail = `${this.endpoint.cluster.config.maxConnections} connections at most`
      // Later, as every other answer: the caller is still being made.
      queueMicrotask(() => connect.failed(causes.overflow, detail))
      return
    }
    const link = this.#pick(false)
    if (link !== null) connect.linked(link)
    else {
      this.#connects.push(connect)
      this.#widen()
    }
  }

  /** It waits no longer. */
  forgetConnect(connect: Connect): void {
    const place = this.#connects.indexOf(connect)
    if (place >= 0) this.#connects.splice(place, 1)
  }

  // --- from the endpoint

  probe(endpoint: EndpointState): void {
    const probe: Dialer = {
      dialed: (connection, epoch) => {
        this.#keep(connection, epoch)
        endpoint.probed(true)
        this.serve()
      },
      dialFailed: () => endpoint.probed(false),
    }
    new Dial(endpoint, this.identity, linkHttp2, probe)
  }

  closeIdle(): void {
    for (const link of this.#open) if (link.session.openStreams === 0) link.close()
  }

  close(): void {
    this.#isClosed = true
    this.#dial?.cancel()
    this.#dial = null
    for (const link of this.#all) link.destroy()
  }

  // --- from the dial

  dialed(connection: Connection, epoch: number): void {
    this.#dial = null
    this.#keep(connection, epoch)
    this.serve()
  }

  dialFailed(cause: Cause, detail: string): void {
    this.#dial = null
    this.endpoint.connectFailed(this.identity)
    // All of them waited for this one.
    const pending = this.#pending
    this.#pending = []
    for (const x of pending) {
      x.waitsAt = null
      connectFailed(x, cause, detail)
    }
    for (const connect of this.#connects.splice(0)) connect.failed(cause, detail)
  }

  // --- from the links

  /** Somebody waits. */
  get isWanted(): boolean {
    return this.#pending.length + this.#connects.length > 0
  }

  /** A link has heard its peer's limits. */
  settled(link: Link): void {
    this.#maxStreams = link.session.maxConcurrentStreams
    this.serve()
  }

  /** A link may have room again: whoever waits gets it. */
  serve(): void {
    while (this.#pending.length > 0) {
      const x = this.#pending[0]!
      if (x.finished) {
        this.#pending.shift()
        continue
      }
      const link = this.#pick(x.upgrade !== '')
      if (link === null) break
      this.#pending.shift()
      x.waitsAt = null
      connected(x, link.call())
    }
    while (this.#connects.length > 0) {
      const link = this.#pick(false)
      if (link === null) break
      this.#connects.shift()!.linked(link)
    }
    if (this.isWanted) this.#widen()
  }

  /** A link takes no more streams. */
  retired(link: Link): void {
    const place = this.#open.indexOf(link)
    if (place >= 0) this.#open.splice(place, 1)
    if (this.isWanted) this.serve()
  }

  /** A link is gone. */
  gone(link: Link): void {
    this.#all.delete(link)
    if (!link.session.isSettled) this.#giveUp(link)
    this.retired(link)
  }

  // --- inside

  /** The peer never said what it takes: who waits to hear that would wait for the next connection in vain, too. */
  #giveUp(link: Link): void {
    const waiting = this.#pending.filter((x) => x.upgrade !== '')
    this.#pending = this.#pending.filter((x) => x.upgrade === '')
    for (const x of waiting) {
      x.waitsAt = null
      connectFailed(x, link.cause, link.failure)
    }
  }

  #begin(x: Exchange): boolean {
    const link = this.#pick(x.upgrade !== '')
    if (link === null) return false
    connected(x, link.call())
    return true
  }

  /** `isUpgrade`: for an extended CONNECT. */
  #pick(isUpgrade: boolean): Link | null {
    const { core } = this.endpoint
    if (this.#isFull) return null
    const epoch = core.secrets.epochOf(this.identity)
    let best: Link | null = null
    for (let i = this.#open.length - 1; i >= 0; i--) {
      const link = this.#open[i]!
      if (link.epoch !== epoch) {
        // Not by `close`: whoever waits is being served right now.
        this.#open.splice(i, 1)
        link.carrier.close()
      } else if (
        link.mayOpen(isUpgrade) &&
        (best === null || link.session.openStreams < best.session.openStreams)
      ) {
        best = link
      }
    }
    return best
  }

  /** One connection of HTTP/1.1 carries one exchange, or one opaque connection: the limit means as many streams here. */
  get #isFull(): boolean {
    const { maxConnections } = this.endpoint.cluster.config
    if (maxConnections === 0) return false
    let count = 0
    for (const link of this.#all) count += link.session.openStreams
    return count >= maxConnections
  }

  /** Makes one more connection where that would help those who wait. */
  #widen(): void {
    if (this.#dial !== null || this.#isClosed || this.#open.length >= maxLinks) return
    if (this.#isFull) return
    // A link that has not heard its peer's limits yet will say so soon.
    if (this.#open.some((link) => !link.session.isSettled)) return
    this.#dial = new Dial(this.endpoint, this.identity, linkHttp2, this)
  }

  #keep(connection: Connection, epoch: number): void {
    const link = new Link(this, connection, epoch)
    // Until it says otherwise: more would only be refused.
    const { session } = link
    session.maxConcurrentStreams = Math.min(session.maxConcurrentStreams, this.#maxStreams)
    this.#all.add(link)
    this.#open.push(link)
    if (this.#isClosed) link.destroy()
  }
}
