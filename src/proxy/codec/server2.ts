// HTTP/2 downstream: one accepted connection, a link from another host or a local caller's own. Its requests are
// request2.ts's.
import type { Channel } from '../../net/channel.ts'
import { Deadline } from '../../net/wheel.ts'
import type { Expiring } from '../../net/wheel.ts'
import { faultName, faultStatus } from '../../wire/fault.ts'
import type { Fields } from '../../wire/h2/fields.ts'
import { Code } from '../../wire/h2/frame.ts'
import { defaultLimits, linkLimits } from '../../wire/h2/limits.ts'
import type { SessionLimits } from '../../wire/h2/limits.ts'
import type { Stream, StreamOwner } from '../../wire/h2/stream.ts'
import { exchangeOf } from '../chain/begin.ts'
import { settle } from '../chain/finish.ts'
import { blame, causes } from '../chain/reply.ts'
import type { Core } from '../core.ts'
import type { Guest, Guests } from '../listener/guests.ts'
import type { Scope } from '../live.ts'
import { Carrier } from './carrier.ts'
import type { CarrierUser } from './carrier.ts'
import { Request2 } from './request2.ts'
import { Stall, stallTimeoutOf } from './stall.ts'

/** How often it is looked whether a connection is idle or its peer's certificate has ended. Milliseconds. */
const lookEvery = 1000
/** How often it is looked whether streams stand still. Milliseconds. */
const sweepEvery = 5000

/** Takes a CONNECT; the owner of its stream is set before return. */
export type OpenTunnel = (stream: Stream, fields: Fields) => void

export class Server2 implements CarrierUser, Expiring, Guest {
  readonly core: Core
  readonly scope: Scope
  readonly guests: Guests
  readonly carrier: Carrier
  /** Links only. */
  readonly openTunnel: OpenTunnel | null
  readonly #look: Deadline
  #lastUsed: number
  #sweptAt: number
  /** Streams with output that waited at the last sweep. */
  #stalls: Map<Stream, Stall>

  /** `openTunnel`: where it is a link, whose peers may ask for tunnels. */
  constructor(
    core: Core,
    connection: Channel,
    scope: Scope,
    guests: Guests,
    openTunnel: OpenTunnel | null = null,
  ) {
    this.core = core
    this.openTunnel = openTunnel
    this.scope = scope
    this.guests = guests
    this.#look = new Deadline(this, 0)
    core.wheel.arm(this.#look, this.#patience)
    this.#lastUsed = core.wheel.now
    this.#sweptAt = core.wheel.now
    this.#stalls = new Map()
    guests.add(this)
    this.carrier = new Carrier('server', connection, this, core.wheel, limitsOf(core, openTunnel !== null))
    if (connection.isClosed) this.closing()
  }

  /** No new requests: the connection ends with those that run. */
  close(): void {
    this.carrier.close()
  }

  // --- from the carrier

  accept(stream: Stream): StreamOwner {
    return new Request2(this, stream)
  }

  /** Malformed, and refused already: it is logged and counted like the rest. */
  refused(fault: number, fields: Fields): void {
    const { live } = this.core
    if (live === null) return
    const x = exchangeOf(this.core, live, new Request2(this, null), this.scope)
    x.version = 2
    x.method = fields.method
    x.path = fields.path
    x.authority = fields.host
    x.status = faultStatus(fault)
    blame(x, causes.badRequest, faultName(fault))
    settle(x)
  }

  settled(): void {}

  goingAway(): void {}

  closing(): void {
    this.core.wheel.cancel(this.#look)
    this.guests.delete(this)
  }

  // --- from the wheel

  expire(): void {
    const { carrier, core } = this
    const { session } = carrier
    const { now } = core.wheel
    const lateness = now - this.#look.at
    if (session.openStreams > 0) this.#lastUsed = now
    else this.#lastUsed = Math.max(this.#lastUsed, carrier.heardAt)
    // Of what is in flight to a host that vanished the kernel hears for a quarter of an hour only that it is not answered.
    if (this.openTunnel !== null && session.openStreams > 0 && !carrier.isAlive(lateness)) {
      carrier.connection.destroy()
      return
    }
    if (now - this.#sweptAt >= Math.min(sweepEvery, this.#idleTimeout)) this.#sweep(now)
    const left = this.#lastUsed + this.#idleTimeout - now
    if (left <= 0 || now >= this.scope.until) {
      // Requests that run may end; should the peer never end them, the connection goes without asking. Not under tunnels: an
      // application's connection is not cut because a certificate was renewed.
      const isOverdue = carrier.isClosing && now >= this.scope.until + this.#idleTimeout
      if (isOverdue && !session.hasTunnel) carrier.connection.destroy()
      carrier.close()
    }
    core.wheel.arm(this.#look, this.#patience)
  }

  /** Gives up streams whose answers nobody takes, and those that hold them open with windows of nothing. */
  #sweep(now: number): void {
    this.#sweptAt = now
    const { session } = this.carrier
    const limit = stallTimeoutOf(this.core)
    const waiting = new Map<Stream, Stall>()
    for (const stream of session.openStreams === 0 ? [] : session.streams.all()) {
      if (stream.queued === 0) continue
      const stall = this.#stalls.get(stream) ?? new Stall()
      if (stall.isOver(true, stream.bytesOut, now, limit)) {
        session.reset(stream, Code.cancel)
        stream.owner.reset(stream, Code.cancel, false)
      } else waiting.set(stream, stall)
    }
    this.#stalls = waiting
  }

  // --- from the listener

  drain(): boolean {
    this.close()
    return true
  }

  destroy(): void {
    this.carrier.connection.destroy()
  }

  get #idleTimeout(): number {
    return this.core.live?.settings.idleTimeout ?? 60_000
  }

  get #patience(): number {
    return Math.min(this.#idleTimeout, lookEvery)
  }
}

/** The limits of our configuration for what peers send. */
function limitsOf(core: Core, isLink: boolean): SessionLimits {
  const limits = isLink ? linkLimits : defaultLimits
  const settings = core.live?.settings
  if (settings === undefined) return limits
  return { ...limits, maxFields: settings.maxHeaders, maxListBytes: settings.maxHeadBytes }
}
