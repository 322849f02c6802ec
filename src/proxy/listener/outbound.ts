// Captured connections of local callers. Which port they came to says who calls; their original destination says whom.
import { networkInterfaces } from 'node:os'
import { isLoopback, printAddress } from '../../net/addr.ts'
import type { Address } from '../../net/addr.ts'
import type { Accepted } from '../../net/channel.ts'
import { maxIdentities, ports } from '../../paths.ts'
import { compileChain } from '../chain/filter.ts'
import { causes } from '../chain/reply.ts'
import { ClusterState } from '../cluster/cluster.ts'
import { EndpointState } from '../cluster/endpoint.ts'
import { Server1 } from '../codec/server1.ts'
import type { Core } from '../core.ts'
import type { Live, LiveIdentity, Scope, Target } from '../live.ts'
import { Recent } from '../recent.ts'
import { Split } from '../route/pick.ts'
import { RouteTable } from '../route/table.ts'
import type { Guests } from './guests.ts'
import { Hello } from './hello.ts'
import { Sniffing } from './sniffing.ts'
import { Tunnel } from './tunnel.ts'

/** Every virtual address lies in 240.240.0.0/16; nothing else is ever there. */
const virtual = '240.240.'
const passthroughTimeout = 10_000

export function acceptOutbound(
  core: Core,
  guests: Guests,
  connection: Accepted,
  original: Address | null,
  capturePort: number,
): void {
  const { live } = core
  // Not redirected: somebody dialled the capture port itself. Or nothing is known yet: a refusal is better than a hang.
  if (live === null || original === null) {
    connection.abort()
    return
  }
  const source = live.byCapturePort.get(capturePort) ?? live.identities[0]!
  const key = printAddress(original.address, original.port)
  const target = live.outbound.get(key)
  if (target !== undefined) {
    serve(core, live, guests, connection, scopeOf(source, key, target), target)
    return
  }
  const why = refusalOf(live, original)
  const destination = { service: '', name: 'PassthroughCluster', namespace: '' }
  const scope: Scope = {
    reporter: 'source',
    source,
    client: '',
    dialAs: source.principal,
    isSecure: false,
    until: Infinity,
    adds: null,
    announced: null,
    refusal: why === null ? null : { cause: causes.unknownDestination, detail: `${key}: ${why}` },
    recent: new Recent(),
    target: () => null,
    destination: why === null ? destination : { ...destination, service: key, name: 'BlackHoleCluster' },
  }
  if (why !== null) {
    new Sniffing(core, live, connection, scope, null, guests)
    return
  }
  new Tunnel(core, live, scope, passthrough(core, original), guests, null).adopt(connection, null)
}

/** Hands an accepted connection to whatever its service port speaks. */
export function serve(
  core: Core,
  live: Live,
  guests: Guests,
  connection: Accepted,
  scope: Scope,
  target: Target,
): void {
  const openTunnel = (): void => {
    new Tunnel(core, live, scope, target, guests, null).adopt(connection, null)
  }
  switch (target.protocol) {
    case 'http':
    case 'http2':
    case 'grpc':
      new Server1(core, connection, scope, guests)
      break
    case 'tls':
      if (target.tls === null) openTunnel()
      else new Hello(core, live, connection, scope, target, guests)
      break
    case 'tcp':
      openTunnel()
      break
    case 'auto':
      new Sniffing(core, live, connection, scope, target, guests)
      break
  }
}

/** The last connection to each target: the first exchange of the next one mostly goes the same way. */
const last = new WeakMap<Target, Scope>()

function scopeOf(source: LiveIdentity, key: string, target: Target): Scope {
  const before = last.get(target)
  const scope: Scope = {
    reporter: 'source',
    source,
    client: '',
    dialAs: source.principal,
    isSecure: false,
    until: Infinity,
    adds: null,
    announced: null,
    refusal: null,
    recent: new Recent(before?.source === source ? before.recent : null),
    target: (live) => live.outbound.get(key) ?? null,
    destination: target.destination,
  }
  last.set(target, scope)
  return scope
}

/** Why a destination that no service owns is not forwarded; null: it is. */
function refusalOf(live: Live, { address, port }: Address): string | null {
  if (address.startsWith(virtual)) return 'no service has this virtual address and port'
  const isOurs =
    (port > ports.identity && port <= ports.identity + maxIdentities) ||
    (Object.values(ports) as number[]).includes(port)
  if (isOurs && isOwnAddress(address)) return 'it is a port of the proxy itself'
  return live.settings.unknownDestinations === 'allow'
    ? null
    : 'unknown destinations are refused by the outbound policy'
}

function isOwnAddress(address: string): boolean {
  if (isLoopback(address)) return true
  for (const list of Object.values(networkInterfaces())) {
    if (list?.some((one) => one.address === address) === true) return true
  }
  return false
}

/** The original destination itself, as a cluster of one plain endpoint that lives as long as the connection. */
function passthrough(core: Core, { address, port }: Address): Target {
  const destination = { service: '', name: 'PassthroughCluster', namespace: '' }
  const cluster = new ClusterState(
    {
      name: 'PassthroughCluster',
      service: '',
      namespace: '',
      subset: '',
      spiffe: '',
      serverName: '',
      balancer: 'random',
      connectTimeout: passthroughTimeout,
      maxConnections: 0,
      maxPending: 0,
      outlier: { consecutiveErrors: 0, baseEjection: 0, maxEjectionPercent: 0 },
      endpoints: [],
    },
    destination,
  )
  const config = { address, port, host: '', version: '', weight: 1, via: 'plain', linkPort: 0 } as const
  const endpoint = new EndpointState(core, `passthrough ${printAddress(address, port)}`, config, cluster)
  // Never judged: it is gone with its connection.
  endpoint.isRetired = true
  cluster.adopt([endpoint])
  return {
    protocol: 'tcp',
    destination,
    routes: new RouteTable([], []),
    fallback: compileChain([]),
    tls: null,
    tcp: new Split([{ cluster, weight: 1 }]),
    announce: 0,
    key: '',
  }
}
