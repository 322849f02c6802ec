// Plain connections from outside the mesh to a local service's own port, captured by the kernel.
import { printAddress } from '../../net/addr.ts'
import type { Address } from '../../net/addr.ts'
import { peerOf } from '../../net/channel.ts'
import type { Accepted } from '../../net/channel.ts'
import { isOpaque } from '../../snapshot/types.ts'
import { causes } from '../chain/reply.ts'
import type { Core } from '../core.ts'
import type { Party, Scope } from '../live.ts'
import { Recent } from '../recent.ts'
import { Announced } from './announce.ts'
import type { Guests } from './guests.ts'
import { serve } from './outbound.ts'
import { refuseOpaque } from './refuse.ts'
import { Sniffing } from './sniffing.ts'

const stranger: Party = { principal: '', workload: '', namespace: '' }

export function acceptInbound(
  core: Core,
  guests: Guests,
  connection: Accepted,
  original: Address | null,
): void {
  const { live } = core
  const target = original === null ? undefined : live?.inboundByPort.get(original.port)
  // Not redirected, or a port that no service of ours declares: whoever sends it is not ours to serve.
  if (live === null || original === null || target === undefined) {
    connection.abort()
    return
  }
  const { port, mtls } = target.service
  const scope: Scope = {
    reporter: 'destination',
    source: stranger,
    client: peerOf(connection.socket),
    dialAs: target.spiffe,
    isSecure: false,
    until: Infinity,
    adds: null,
    announced: null,
    refusal:
      mtls === 'strict'
        ? {
            cause: causes.plainText,
            detail: `${target.destination.service} on ${printAddress(original.address, port)}`,
          }
        : null,
    recent: new Recent(),
    target: (now) => now.inboundByPort.get(port) ?? null,
    destination: target.destination,
  }
  const begin = (now: Scope): void => {
    if (now.refusal === null) serve(core, live, guests, connection, now, target)
    else if (isOpaque(target.protocol)) refuseOpaque(core, live, connection, now)
    else new Sniffing(core, live, connection, now, target, guests)
  }
  if (target.service.proxyProtocol?.accept === true)
    new Announced(core, live, connection, scope, guests, begin)
  else begin(scope)
}
