// One connection of HTTP/2 to an endpoint, with what keeps it healthy: it is closed when idle, and given up when the peer
// has gone away without a word.
import type { Connection } from '../../net/connection.ts'
import { Deadline } from '../../net/wheel.ts'
import type { Expiring } from '../../net/wheel.ts'
import { defaultLimits, linkLimits } from '../../wire/h2/limits.ts'
import type { Session } from '../../wire/h2/session.ts'
import type { StreamOwner } from '../../wire/h2/stream.ts'
import { causes } from '../chain/reply.ts'
import type { Cause } from '../chain/reply.ts'
import { Carrier, silence } from '../codec/carrier.ts'
import type { CarrierUser } from '../codec/carrier.ts'
import { Client2, noHttp2 } from '../codec/client2.ts'
import type { Line } from '../codec/client2.ts'
import { describe, isHandshakeAlert } from './dial.ts'
import type { Links } from './links.ts'

/** Closed after so long without a stream. Milliseconds. */
const idleTimeout = 90_000

export class Link implements CarrierUser, Line, Expiring {
  readonly links: Links
  /** Of the certificate it was made with. */
  readonly epoch: number
  readonly isLink: boolean
  readonly carrier: Carrier
  readonly session: Session
  cause: Cause
  failure: string
  #look: Deadline
  #lastUsed: number
  #hasCarried: boolean

  constructor(links: Links, connection: Connection, epoch: number) {
    const { core, config } = links.endpoint
    this.links = links
    this.epoch = epoch
    this.isLink = config.via === 'link'
    this.cause = causes.reset
    this.failure = ''
    const limits = this.isLink ? linkLimits : defaultLimits
    this.carrier = new Carrier('client', connection, this, core.wheel, limits)
    this.session = this.carrier.session
    this.#look = new Deadline(this, 0)
    this.#lastUsed = core.wheel.now
    this.#hasCarried = false
    core.wheel.arm(this.#look, silence)
  }

  /** Whether it takes one more stream now; `isUpgrade`: for an extended CONNECT. */
  mayOpen(isUpgrade: boolean): boolean {
    const { session } = this
    // Whether WebSocket may travel is known from the peer's settings.
    return session.canOpen && (!isUpgrade || session.isSettled)
  }

  /** An upstream for one exchange. */
  call(): Client2 {
    const call = new Client2(this, this.#hasCarried)
    this.#hasCarried = true
    return call
  }

  /** Takes no new streams, and ends with the last one. */
  close(): void {
    this.carrier.close()
    this.links.retired(this)
  }

  destroy(): void {
    this.carrier.connection.destroy()
  }

  // --- from the calls

  streamOver(): void {
    this.#lastUsed = this.links.endpoint.core.wheel.now
    // The stream itself is only gone when everybody has heard of its end.
    if (this.links.isWanted || this.links.endpoint.isRetired) queueMicrotask(this.#settle)
  }

  // --- from the carrier

  accept(): StreamOwner {
    throw new Error('a client is not called')
  }

  refused(): void {}

  settled(): void {
    this.links.settled(this)
  }

  goingAway(): void {
    this.links.retired(this)
  }

  closing(error: Error | null): void {
    this.links.endpoint.core.wheel.cancel(this.#look)
    if (this.failure === '') this.failure = describe(error)
    if (!this.session.isSettled && !this.isLink) {
      this.cause = causes.protocol
      this.failure = noHttp2
    }
    // An alert before anything else: the peer's TLS never took a request in.
    if (!this.session.isSettled && isHandshakeAlert(error)) this.cause = causes.connectFailure
    this.links.gone(this)
  }

  #settle = (): void => {
    if (this.links.endpoint.isRetired && this.session.openStreams === 0) this.close()
    else this.links.serve()
  }

  // --- from the wheel

  expire(): void {
    const { wheel } = this.links.endpoint.core
    const { now } = wheel
    const lateness = now - this.#look.at
    wheel.arm(this.#look, silence)
    // Whoever speaks HTTP/2 says so at once; what he says may lie unread only if we are late ourselves.
    if (!this.isLink && !this.session.isSettled && lateness < silence) {
      this.destroy()
      return
    }
    if (this.session.openStreams === 0) {
      if (now - this.#lastUsed >= idleTimeout) this.close()
      return
    }
    this.#lastUsed = now
    // Applications are asked by their kernel: servers of gRPC end connections on which they are pinged.
    if (!this.isLink || this.carrier.isAlive(lateness)) return
    this.failure = 'no answer to a ping'
    this.destroy()
  }
}
