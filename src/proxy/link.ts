// Snapshot (and the generation before) → Live. All or nothing: everything that can fail is built before anything that is
// shared is touched.
import { MeshError } from '../errors.ts'
import { plainAddress, printAddress } from '../net/addr.ts'
import type { Cluster, RetryPolicy, Route, Snapshot, TlsRoute, WeightedCluster } from '../snapshot/types.ts'
import { compileChain } from './chain/filter.ts'
import { ClusterState } from './cluster/cluster.ts'
import type { Core } from './core.ts'
import type { Keep } from './keep.ts'
import type { Destination, Live, LiveIdentity, LiveInbound, LiveRetry, LiveRoute, Target } from './live.ts'
import * as order from './order.ts'
import { compileMatches } from './route/match.ts'
import { Split } from './route/pick.ts'
import { RouteTable } from './route/table.ts'
import { ServerNames } from './route/sni.ts'

const noRetry: RetryPolicy = { attempts: 0, perTryTimeout: 0, on: [], statuses: [], methods: [] }
/** Connects to an application on this host. */
const localConnectTimeout = 5000
const nowhere: Destination = { service: '', name: '', namespace: '' }

/** Throws MSH0701; then nothing has changed. `adopt` makes the survivors' new owners known: call it when all is well. */
export function link(core: Core, keep: Keep, snapshot: Snapshot): { live: Live; adopt: () => void } {
  if ((snapshot.schema as number) !== 1) throw new MeshError('MSH0701', `unknown schema ${snapshot.schema}`)
  const identities = snapshot.identities.map((identity): LiveIdentity => ({
    principal: identity.spiffe,
    workload: identity.service,
    namespace: identity.namespace,
    capturePort: identity.capturePort,
  }))
  if (identities.length === 0) throw new MeshError('MSH0701', 'no identity: not even the host itself')
  const clusters = snapshot.clusters.map(
    (cluster) =>
      new ClusterState(cluster, {
        service: `${cluster.service}.${cluster.namespace}.mesh`,
        name: cluster.service,
        namespace: cluster.namespace,
      }),
  )
  const split = (parts: readonly WeightedCluster[], where: string): Split =>
    new Split(
      parts.map(({ cluster, weight }) => {
        const state = clusters[cluster]
        if (state === undefined)
          throw new MeshError('MSH0701', `${where} names the cluster ${cluster}, which is not there`)
        return { cluster: state, weight }
      }),
    )
  const outbound = new Map<string, Target>()
  for (const service of snapshot.outbound) {
    const destination = { service: service.fqdn, name: service.service, namespace: service.namespace }
    for (const port of service.ports) {
      const where = `${service.fqdn}:${port.port}`
      const target: Target = {
        protocol: port.protocol,
        destination,
        routes: new RouteTable(
          port.routes.map((route) => linkRoute(snapshot, route, split, where)),
          port.routes.map((route) => route.matches),
        ),
        fallback: compileChain(order.outbound(snapshot.settings, { timeout: 0 })),
        tls: linkTls(port.tlsRoutes ?? [], split, where),
        tcp: port.tcp.length === 0 ? null : split(port.tcp, where),
        announce: 0,
        key: `out ${where}`,
      }
      outbound.set(printAddress(plainAddress(service.vip), port.port), target)
      for (const instance of port.instances) outbound.set(instance, target)
    }
  }
  const locals: ClusterState[] = []
  const inbound = snapshot.inbound.map((service): LiveInbound => {
    const identity = identities[service.identity]
    if (identity === undefined) {
      throw new MeshError(
        'MSH0701',
        `${service.service}.${service.namespace} names an identity that is not there`,
      )
    }
    const destination = {
      service: `${service.service}.${service.namespace}.mesh`,
      name: service.service,
      namespace: service.namespace,
    }
    const local = new ClusterState(localCluster(snapshot, service, identity.principal), destination)
    locals.push(local)
    const chain = compileChain(order.inbound(snapshot.settings))
    const parts = new Split([{ cluster: local, weight: 1 }])
    const route: LiveRoute = {
      name: 'inbound',
      matches: null,
      split: parts,
      chain,
      timeout: 0,
      retry: linkRetry(noRetry),
    }
    return {
      protocol: service.protocol,
      destination,
      routes: new RouteTable([route], [[]]),
      fallback: chain,
      tls: null,
      tcp: parts,
      announce: service.proxyProtocol?.send === true ? service.port : 0,
      key: `in ${service.port}`,
      service,
      spiffe: identity.principal,
    }
  })
  const live: Live = {
    snapshot,
    settings: snapshot.settings,
    identities,
    byCapturePort: new Map(identities.map((identity) => [identity.capturePort, identity])),
    outbound,
    inboundByPort: new Map(inbound.map((service) => [service.service.port, service])),
    inboundByName: new Map(inbound.map((service) => [service.service.serverName, service])),
    clusters: [...clusters, ...locals],
    nowhere: {
      protocol: 'http',
      destination: nowhere,
      routes: new RouteTable([], []),
      fallback: compileChain(order.outbound(snapshot.settings, { timeout: 0 })),
      tls: null,
      tcp: null,
      announce: 0,
      key: '',
    },
  }
  return { live, adopt: () => keep.adopt(core, live.clusters) }
}

function linkTls(
  routes: readonly TlsRoute[],
  split: (parts: readonly WeightedCluster[], where: string) => Split,
  where: string,
): ServerNames | null {
  if (routes.length === 0) return null
  return new ServerNames(
    routes.map(({ sniHosts, clusters }) => ({
      hosts: sniHosts,
      split: split(clusters, `the route of ${sniHosts.join()} of ${where}`),
    })),
  )
}

function linkRoute(
  snapshot: Snapshot,
  route: Route,
  split: (parts: readonly WeightedCluster[], where: string) => Split,
  where: string,
): LiveRoute {
  return {
    name: route.name,
    matches: compileMatches(route.matches),
    split: split(route.clusters, `route ${route.name} of ${where}`),
    chain: compileChain(order.outbound(snapshot.settings, route)),
    timeout: route.timeout,
    retry: linkRetry(route.retry),
  }
}

/** `connect-failure`, `refused-stream` and `unavailable` say what happens anyway: what was never sent goes elsewhere. */
function linkRetry(retry: RetryPolicy): LiveRetry {
  return {
    attempts: retry.attempts,
    perTryTimeout: retry.perTryTimeout,
    onReset: retry.on.includes('reset'),
    onServerError: retry.on.includes('5xx'),
    onGatewayError: retry.on.includes('gateway-error'),
    statuses: retry.on.includes('retriable-status-codes') ? retry.statuses : [],
    methods: retry.methods,
  }
}

/** The application on this host as a cluster of one plain endpoint. */
function localCluster(snapshot: Snapshot, service: Snapshot['inbound'][number], spiffe: string): Cluster {
  return {
    name: `inbound|${service.port}||${service.service}.${service.namespace}.mesh`,
    service: service.service,
    namespace: service.namespace,
    subset: '',
    spiffe,
    serverName: '',
    balancer: 'round-robin',
    connectTimeout: localConnectTimeout,
    maxConnections: 0,
    maxPending: 1024,
    outlier: { consecutiveErrors: 0, baseEjection: 0, maxEjectionPercent: 0 },
    endpoints: [
      {
        address: service.address,
        // Where the application listens; the kernel redirected the same port.
        port: service.port,
        host: snapshot.host,
        version: service.version,
        weight: 1,
        via: 'plain',
        linkPort: 0,
      },
    ],
  }
}
