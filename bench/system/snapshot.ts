// What an agent would have compiled for the two hosts of a benchmark.
import { snapshotHash } from '../../src/snapshot/hash.ts'
import {
  type Cluster,
  type Endpoint,
  type InboundService,
  type OutboundService,
  type Route,
  type RouteMatch,
  serverName,
  type Settings,
  type Snapshot,
} from '../../src/snapshot/types.ts'
import { ids, trustDomain, webName } from '../certs.ts'
import { addresses, instanceAddress } from '../place.ts'

export interface Shape {
  readonly protocol: 'http' | 'tcp'
  readonly backendPort: number
  readonly vip: string
  readonly outboundPort: number
  readonly linkPort: number
  /** How many instances `web` has; all of them are the one backend, under addresses of their own from the second on. */
  readonly instances: number
  /** Further services, each with so many routes and endpoints; `web` has as many routes, the last of them matches. */
  readonly others: { readonly services: number; readonly routes: number; readonly endpoints: number } | null
}

/** The port that the service `web` has at its virtual address. */
export const webPort = 8080

export function clientSnapshot(shape: Shape): Snapshot {
  const { others, vip, instances } = shape
  const first: Endpoint = endpoint(shape, addresses.server)
  const more = Array.from({ length: instances - 1 }, (_, index) => endpoint(shape, instanceAddress(index)))
  const web = cluster('web', [first, ...more], instances > 1 ? 'round-robin' : 'least-request')
  const clusters = [web]
  const outbound = [service(shape, 'web', vip, 0, others?.routes ?? 1)]
  for (let index = 1; others !== null && index <= others.services; index++) {
    const name = `other-${index}`
    const from = index * others.endpoints
    const endpoints = Array.from({ length: others.endpoints }, (_, at) =>
      endpoint(shape, instanceAddress(from + at)),
    )
    clusters.push(cluster(name, endpoints, 'least-request'))
    outbound.push(service(shape, name, `240.241.${index >> 8}.${index & 255}`, index, others.routes))
  }
  return finish({ ...frame('client', shape), outbound, clusters })
}

export function serverSnapshot(shape: Shape): Snapshot {
  const inbound: InboundService = {
    service: 'web',
    namespace: 'default',
    version: 'v1',
    identity: 1,
    serverName: serverName('web', 'default', webPort),
    port: shape.backendPort,
    address: '127.0.0.1',
    protocol: shape.protocol,
    mtls: 'permissive',
  }
  return finish({ ...frame('server', shape), inbound: [inbound] })
}

function finish(draft: Omit<Snapshot, 'hash'>): Snapshot {
  return { ...draft, hash: snapshotHash(draft) }
}

function frame(side: 'client' | 'server', { outboundPort }: Shape): Omit<Snapshot, 'hash'> {
  const host = { spiffe: ids[side], service: '', namespace: '', version: '', capturePort: outboundPort }
  const web = {
    spiffe: ids.web,
    service: 'web',
    namespace: 'default',
    version: 'v1',
    capturePort: outboundPort + 1,
  }
  return {
    schema: 1,
    host: side,
    mesh: 'bench',
    trustDomain,
    identities: side === 'server' ? [host, web] : [host],
    inbound: [],
    outbound: [],
    clusters: [],
    settings,
  }
}

const settings: Settings = {
  maxHeadBytes: 65_536,
  maxHeaders: 128,
  headTimeout: 30_000,
  idleTimeout: 300_000,
  drainTimeout: 5000,
  // Off for everybody in a benchmark; metrics and request ids are on.
  accessLog: false,
  unknownDestinations: 'allow',
}

function endpoint({ backendPort, linkPort }: Shape, address: string): Endpoint {
  return { address, port: backendPort, host: address, version: 'v1', weight: 1, via: 'link', linkPort }
}

function cluster(name: string, endpoints: readonly Endpoint[], balancer: Cluster['balancer']): Cluster {
  return {
    name: `outbound|${webPort}||${name}.default.mesh`,
    service: name,
    namespace: 'default',
    subset: '',
    spiffe: ids.web,
    serverName: serverName(name, 'default', webPort),
    balancer,
    connectTimeout: 5000,
    maxConnections: 0,
    maxPending: 0,
    outlier: { consecutiveErrors: 5, baseEjection: 30_000, maxEjectionPercent: 100 },
    endpoints,
  }
}

function service(
  { protocol }: Shape,
  name: string,
  vip: string,
  cluster: number,
  routes: number,
): OutboundService {
  const to = [{ cluster, weight: 100 }]
  const route = (index: number): Route => ({
    name: index === routes - 1 ? 'default' : `api-${index}`,
    matches: index === routes - 1 ? [] : [prefix(`/api/${index}/`)],
    clusters: to,
    timeout: 0,
    retry: { attempts: 2, perTryTimeout: 0, on: ['connect-failure'], statuses: [], methods: ['GET'] },
  })
  return {
    service: name,
    namespace: 'default',
    fqdn: name === 'web' ? webName : `${name}.default.mesh`,
    vip,
    ports: [
      {
        port: webPort,
        protocol,
        instances: [],
        routes: protocol === 'tcp' ? [] : Array.from({ length: routes }, (_, index) => route(index)),
        tcp: to,
      },
    ],
  }
}

function prefix(value: string): RouteMatch {
  return {
    path: { kind: 'prefix', value },
    method: null,
    authority: null,
    headers: [],
    withoutHeaders: [],
    queryParams: [],
    ignoreUriCase: false,
  }
}
