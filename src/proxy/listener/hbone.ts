// CONNECT on a link: a peer's proxy asks for a connection to a port of a local service, as Istio's HBONE has it
// (https://istio.io/latest/docs/ambient/architecture/hbone/). Ours do so for opaque TCP; ztunnels and waypoints for
// everything, so what is declared to be HTTP is read as such inside the tunnel too.
import type { Ends } from '../../net/channel.ts'
import { isHttp } from '../../snapshot/types.ts'
import type { Fields } from '../../wire/h2/fields.ts'
import { Code } from '../../wire/h2/frame.ts'
import type { Stream } from '../../wire/h2/stream.ts'
import { causes } from '../chain/reply.ts'
import type { Cause } from '../chain/reply.ts'
import { writeDenied, writeGranted } from '../codec/connect2.ts'
import { Server1 } from '../codec/server1.ts'
import { StreamChannel } from '../codec/streamchannel.ts'
import type { Core } from '../core.ts'
import type { Live, LiveInbound, Scope } from '../live.ts'
import type { Guests } from './guests.ts'
import { logRefused } from './refuse.ts'
import { Tunnel } from './tunnel.ts'
import type { Asking } from './tunnel.ts'

/** What a link is for, as its caller proved and its handshake said. */
export interface Link {
  readonly core: Core
  readonly guests: Guests
  readonly socket: Ends
  /** The service port that the server name named; null: it named none, and every port of this host is meant. */
  readonly serverName: string | null
  scopeOf(target: LiveInbound): Scope
  /** For what concerns no service port. */
  readonly scope: Scope
}

/** A CONNECT has come on this stream, whose owner has to be set before return. */
export function openTunnel(link: Link, stream: Stream, { authority }: Fields): void {
  const { core, guests, socket } = link
  const { live } = core
  if (live === null) {
    stream.session.reset(stream, Code.refusedStream)
    return
  }
  const channel = new StreamChannel(stream)
  const asking = new Ask(stream, socket)
  const target = targetOf(link, live, authority)
  if (target === null) {
    const scope = { ...link.scope, refusal: { cause: causes.noRoute, detail: `no port ${authority} here` } }
    asking.denied(causes.noRoute, scope.refusal.detail)
    logRefused(core, live, scope, 0)
    return
  }
  const scope = link.scopeOf(target)
  if (isHttp(target.protocol)) {
    // Each request is answered by itself, also where the application cannot be reached.
    asking.granted()
    new Server1(core, channel, scope, guests)
  } else new Tunnel(core, live, scope, target, guests, null).grant(channel, asking)
}

/** Only the port counts: which of its addresses this host was called by says nothing about its services. */
function targetOf({ serverName }: Link, live: Live, authority: string): LiveInbound | null {
  const port = Number(authority.slice(authority.lastIndexOf(':') + 1))
  const target = live.inboundByPort.get(port)
  if (target === undefined) return null
  return serverName === null || target.service.serverName === serverName ? target : null
}

class Ask implements Asking {
  readonly socket: Ends
  readonly #stream: Stream

  constructor(stream: Stream, socket: Ends) {
    this.socket = socket
    this.#stream = stream
  }

  granted(): void {
    writeGranted(this.#stream.session, this.#stream)
  }

  denied(cause: Cause, detail: string): void {
    const stream = this.#stream
    const { session } = stream
    writeDenied(session, stream, cause, detail)
    // Whatever else the caller sends is of no use to anybody.
    session.reset(stream, Code.noError)
  }
}
