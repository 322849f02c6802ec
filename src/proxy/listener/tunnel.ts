// One opaque connection: endpoint picked, dialled (another one where that fails), then pumped. It may be dialled before
// anybody knows whether the connection is opaque at all; then it waits to be adopted.
import type { Accepted, Channel, Ends, Owner } from '../../net/channel.ts'
import { printAddress } from '../../net/addr.ts'
import { linkTcp } from '../../snapshot/types.ts'
import { causes } from '../chain/reply.ts'
import type { Cause } from '../chain/reply.ts'
import type { ClusterState } from '../cluster/cluster.ts'
import { Connect } from '../cluster/connect.ts'
import type { Reacher } from '../cluster/connect.ts'
import { Dial } from '../cluster/dial.ts'
import type { Dialer } from '../cluster/dial.ts'
import type { EndpointState } from '../cluster/endpoint.ts'
import type { Core } from '../core.ts'
import { logTunnel } from '../filter/access.ts'
import { recorderOf } from '../filter/metrics.ts'
import type { Recorder } from '../filter/metrics.ts'
import type { Live, Scope, Target } from '../live.ts'
import { Pump } from '../pump.ts'
import type { PumpEnd } from '../pump.ts'
import type { Split } from '../route/pick.ts'
import { announcement } from './announce.ts'
import type { Guest, Guests } from './guests.ts'

/** Client bytes that wait for the upstream connection. */
const earlyLimit = 65_536
const maxDials = 4

/** Who waits to learn which side speaks first. */
export interface Listener {
  /** The server sent bytes while nobody had adopted the tunnel. */
  serverSpoke(): void
  /** The server sent its end instead. */
  serverEnded(): void
  /** No endpoint could be reached. */
  tunnelFailed(): void
}

/** A caller who is told whether there is a tunnel before its bytes flow. */
export interface Asking {
  /** Of its connection. */
  readonly socket: Ends
  granted(): void
  denied(cause: Cause, detail: string): void
}

export class Tunnel implements Dialer, Reacher, PumpEnd, Guest {
  readonly core: Core
  readonly scope: Scope
  readonly target: Target
  readonly #live: Live
  readonly #guests: Guests
  readonly #listener: Listener | null
  readonly #startedAt: number
  #cluster: ClusterState | null
  endpoint: EndpointState | null
  #tried: EndpointState[]
  #dial: Connect | Dial | null
  #downstream: Channel | null
  #upstream: Channel | null
  /** Of the downstream connection. */
  #socket: Ends | null
  #asking: Asking | null
  #early: Buffer[]
  #earlyBytes: number
  #isHeld: boolean
  /** Sent upstream by us, not by the client. */
  #ownBytes: number
  #ahead: Buffer[]
  #pump: Pump | null
  #recorder: Recorder | null
  #failure: { cause: Cause; detail: string } | null
  #isOver: boolean

  /** Dials at once. `split`: where it goes, when that is not simply the target's `tcp`. */
  constructor(
    core: Core,
    live: Live,
    scope: Scope,
    target: Target,
    guests: Guests,
    listener: Listener | null,
    split: Split | null = target.tcp,
  ) {
    this.core = core
    this.scope = scope
    this.target = target
    this.#live = live
    this.#guests = guests
    this.#listener = listener
    this.#startedAt = core.clock.monotonic()
    this.#cluster = split?.pick() ?? null
    this.endpoint = null
    this.#tried = []
    this.#dial = null
    this.#downstream = null
    this.#upstream = null
    this.#socket = null
    this.#asking = null
    this.#early = []
    this.#earlyBytes = 0
    this.#isHeld = false
    this.#ownBytes = 0
    this.#ahead = []
    this.#pump = null
    this.#recorder = null
    this.#failure = null
    this.#isOver = false
    this.#next()
  }

  /** The connection is opaque: it belongs to this tunnel. `first` is what its client has sent so far. */
  adopt(downstream: Accepted, first: Buffer | null): void {
    this.#socket = downstream.socket
    if (first !== null) this.#keepEarly(first)
    this.#take(downstream)
  }

  /** The tunnel was asked for, and this is what it will be; the caller waits for the answer. */
  grant(downstream: Channel, asking: Asking): void {
    this.#socket = asking.socket
    this.#asking = asking
    this.#take(downstream)
  }

  #take(downstream: Channel): void {
    this.#downstream = downstream
    this.#guests.add(this)
    downstream.owner = new Waiting(this)
    if (downstream.isClosed) this.downstreamClosed()
    else if (this.#failure !== null) this.#refuse(this.#failure.cause, this.#failure.detail)
    else if (this.#upstream !== null) this.#join()
  }

  /** It was dialled in vain: the connection speaks HTTP. Leaves no trace. */
  discard(): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#dial?.cancel()
    this.#letGo()
    this.#upstream?.destroy()
  }

  // --- from the client, before the upstream is there

  early(buffer: Buffer, start: number, end: number): void {
    this.#keepEarly(Buffer.from(buffer.subarray(start, end)))
  }

  downstreamClosed(): void {
    if (this.#isOver) return
    this.#dial?.cancel()
    this.#upstream?.destroy()
    this.#finish(causes.clientGone, '')
  }

  // --- from the upstream, before somebody adopts the tunnel

  ahead(buffer: Buffer, start: number, end: number): void {
    this.#ahead.push(Buffer.from(buffer.subarray(start, end)))
    // One read is enough to know who speaks first; the rest waits in the kernel.
    if (this.#ahead.length === 1) this.#upstream?.hold()
    this.#listener?.serverSpoke()
  }

  upstreamEnded(): void {
    this.#listener?.serverEnded()
  }

  // --- from the dial

  dialed(channel: Channel): void {
    this.#dial = null
    this.#upstream = channel
    if (this.#downstream !== null) this.#join()
    else {
      channel.owner = new Ahead(this)
      if (channel.isEnded) this.upstreamEnded()
    }
  }

  dialFailed(cause: Cause, detail: string): void {
    if (this.#dial instanceof Dial) this.endpoint?.connectFailed(this.scope.dialAs)
    this.#dial = null
    this.#letGo()
    this.#failure = { cause, detail }
    this.#next()
  }

  // --- from the pump

  pumped(failed: 'downstream' | 'upstream' | null, error: Error | null): void {
    if (failed === null) this.#finish(null, '')
    else this.#finish(failed === 'upstream' ? causes.streamReset : causes.clientGone, error?.message ?? '')
  }

  // --- from the listener

  drain(): boolean {
    return true
  }

  destroy(): void {
    if (this.#pump !== null) this.#pump.destroy()
    else this.#downstream?.destroy()
  }

  // --- inside

  #next(): void {
    const cluster = this.#cluster
    const endpoint = cluster !== null && this.#tried.length < maxDials ? cluster.pick(this.#tried) : null
    if (endpoint === null) {
      this.#failure ??= { cause: causes.noHealthy, detail: cluster?.config.name ?? '' }
      if (this.#downstream !== null) this.#refuse(this.#failure.cause, this.#failure.detail)
      else this.#listener?.tunnelFailed()
      return
    }
    this.#tried.push(endpoint)
    this.endpoint = endpoint
    endpoint.active++
    const { dialAs } = this.scope
    this.#dial =
      endpoint.config.via === 'link' && !endpoint.isBulk
        ? new Connect(endpoint.links(dialAs), this)
        : new Dial(endpoint, dialAs, linkTcp, this)
  }

  #keepEarly(bytes: Buffer): void {
    this.#early.push(bytes)
    this.#earlyBytes += bytes.length
    if (this.#earlyBytes < earlyLimit || this.#isHeld) return
    this.#isHeld = true
    this.#downstream?.hold()
  }

  #join(): void {
    const downstream = this.#downstream!
    const upstream = this.#upstream!
    this.#failure = null
    this.#asking?.granted()
    this.#recorder = recorderOf(this, this.target.destination)
    this.#recorder.opened()
    if (this.target.announce > 0) {
      const header = announcement(this.scope, this.#socket!, this.target.announce)
      this.#ownBytes = header.length
      upstream.write(header)
    }
    if (this.#early.length > 0) upstream.write(Buffer.concat(this.#early))
    if (this.#ahead.length > 0) {
      downstream.write(Buffer.concat(this.#ahead))
      upstream.release()
    }
    this.#early = []
    this.#ahead = []
    this.#pump = new Pump(downstream, upstream, this)
    if (this.#isHeld) downstream.release()
  }

  #refuse(cause: Cause, detail: string): void {
    // Else a reset, so that the client sees a failure and not an empty answer.
    if (this.#asking !== null) this.#asking.denied(cause, detail)
    else this.#downstream?.abort()
    this.#finish(cause, detail)
  }

  #letGo(): void {
    if (this.endpoint === null) return
    this.endpoint.active--
    this.endpoint = null
  }

  #finish(cause: Cause | null, detail: string): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#guests.delete(this)
    const { core, scope, endpoint } = this
    const bytesIn = (this.#upstream?.bytesOut ?? 0) - this.#ownBytes
    const bytesOut = this.#upstream?.bytesIn ?? 0
    if (this.#pump !== null) endpoint?.carried(bytesIn + bytesOut)
    this.#recorder?.closed(cause?.flag ?? '', bytesIn, bytesOut)
    if (this.#live.settings.accessLog) {
      logTunnel(core, {
        reporter: scope.reporter,
        service: this.target.destination.service,
        upstream: endpoint === null ? '' : printAddress(endpoint.config.address, endpoint.config.port),
        client: scope.client,
        source: scope.source.principal,
        destination: this.#cluster?.config.spiffe ?? '',
        isSecure: scope.isSecure,
        isUpstreamSecure: endpoint?.config.via === 'link',
        flag: cause?.flag ?? '',
        reason: cause?.reason ?? '',
        detail,
        bytesIn,
        bytesOut,
        duration: core.clock.monotonic() - this.#startedAt,
      })
    }
    this.#letGo()
  }
}

/** Owns the client's side until there is an upstream. */
class Waiting implements Owner {
  readonly #tunnel: Tunnel

  constructor(tunnel: Tunnel) {
    this.#tunnel = tunnel
  }

  bytes(buffer: Buffer, start: number, end: number): void {
    this.#tunnel.early(buffer, start, end)
  }

  // The pump passes the end on; the connection remembers it.
  ended(): void {}

  drained(): void {}

  closed(): void {
    this.#tunnel.downstreamClosed()
  }
}

/** Owns the server's side until somebody adopts the tunnel. */
class Ahead implements Owner {
  readonly #tunnel: Tunnel

  constructor(tunnel: Tunnel) {
    this.#tunnel = tunnel
  }

  bytes(buffer: Buffer, start: number, end: number): void {
    this.#tunnel.ahead(buffer, start, end)
  }

  ended(): void {
    this.#tunnel.upstreamEnded()
  }

  drained(): void {}

  closed(): void {
    this.#tunnel.upstreamEnded()
  }
}
