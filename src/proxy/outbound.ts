// What local callers can reach, linked: routes to clusters, matches compiled, chains flat. What has not changed since the
// generation before is taken from there, down to the single route: an instance that comes or goes compiles nothing.
import { MeshError } from '../errors.ts'
import { plainAddress, printAddress } from '../net/addr.ts'
import type {
  OutboundPort,
  RetryPolicy,
  Route,
  Settings,
  Snapshot,
  TlsRoute,
  WeightedCluster,
} from '../snapshot/types.ts'
import { compileChain } from './chain/filter.ts'
import type { ClusterState } from './cluster/cluster.ts'
import type { Destination, LiveRetry, LiveRoute, Outbound, Target } from './live.ts'
import * as order from './order.ts'
import { compileMatches } from './route/match.ts'
import { Split } from './route/pick.ts'
import { ServerNames } from './route/sni.ts'
import { RouteTable } from './route/table.ts'

type Clusters = readonly ClusterState[]

/** A port as it was linked. */
interface Linked {
  readonly config: OutboundPort
  readonly clusters: Clusters
  readonly target: Target
}

/** `before`: of the same settings. Throws MSH0701. */
export function linkOutbound(
  { outbound: services, settings }: Snapshot,
  clusters: Clusters,
  before: Outbound | null,
): Outbound {
  if (before?.services === services && areSame(before.clusters, clusters)) return before
  const ports = new Map<string, { config: OutboundPort; target: Target }>()
  const targets = new Map<string, Target>()
  for (const service of services) {
    const destination = { service: service.fqdn, name: service.service, namespace: service.namespace }
    for (const config of service.ports) {
      const where = `${service.fqdn}:${config.port}`
      const known = before?.ports.get(where)
      const linked = known === undefined ? null : { ...known, clusters: before!.clusters }
      const target =
        linked !== null && isSamePort(linked, config, clusters)
          ? linked.target
          : new Linker(settings, clusters, where, linked).target(config, destination)
      ports.set(where, { config, target })
      targets.set(printAddress(plainAddress(service.vip), config.port), target)
      for (const instance of config.instances) targets.set(instance, target)
    }
  }
  return { services, clusters, ports, targets }
}

/** Links one port. */
class Linker {
  readonly #settings: Settings
  readonly #clusters: Clusters
  readonly #where: string
  readonly #before: Linked | null
  /** Places of its routes, by name. */
  readonly #places: ReadonlyMap<string, number>

  constructor(settings: Settings, clusters: Clusters, where: string, before: Linked | null) {
    this.#settings = settings
    this.#clusters = clusters
    this.#where = where
    this.#before = before
    this.#places = new Map(before?.config.routes.map(({ name }, place) => [name, place]))
  }

  target(port: OutboundPort, destination: Destination): Target {
    return {
      protocol: port.protocol,
      destination,
      routes: new RouteTable(
        port.routes.map((route) => this.#known(route) ?? this.#route(route)),
        port.routes.map((route) => route.matches),
      ),
      fallback: compileChain(order.outbound(this.#settings, { timeout: 0 })),
      tls: this.#tls(port.tlsRoutes ?? []),
      tcp: port.tcp.length === 0 ? null : this.#split(port.tcp, this.#where),
      announce: 0,
      key: `out ${this.#where}`,
    }
  }

  /** As it was linked before; null: it has changed. */
  #known(route: Route): LiveRoute | null {
    const place = this.#places.get(route.name)
    if (this.#before === null || place === undefined) return null
    const { config, clusters, target } = this.#before
    const isKnown = isSameRoute(config.routes[place]!, clusters, route, this.#clusters)
    return isKnown ? target.routes.routes[place]! : null
  }

  #route(route: Route): LiveRoute {
    return {
      name: route.name,
      matches: compileMatches(route.matches),
      split: this.#split(route.clusters, `route ${route.name} of ${this.#where}`),
      chain: compileChain(order.outbound(this.#settings, route)),
      timeout: route.timeout,
      retry: linkRetry(route.retry),
    }
  }

  #tls(routes: readonly TlsRoute[]): ServerNames | null {
    if (routes.length === 0) return null
    return new ServerNames(
      routes.map(({ sniHosts, clusters }) => ({
        hosts: sniHosts,
        split: this.#split(clusters, `the route of ${sniHosts.join()} of ${this.#where}`),
      })),
    )
  }

  #split(parts: readonly WeightedCluster[], where: string): Split {
    return new Split(
      parts.map(({ cluster, weight }) => {
        const state = this.#clusters[cluster]
        if (state === undefined)
          throw new MeshError('MSH0701', `${where} names the cluster ${cluster}, which is not there`)
        return { cluster: state, weight }
      }),
    )
  }
}

/** `connect-failure`, `refused-stream` and `unavailable` say what happens anyway: what was never sent goes elsewhere. */
export function linkRetry(retry: RetryPolicy): LiveRetry {
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

// --- what is the same: the same objects, or the same clusters at other places

function areSame<T>(a: readonly T[], b: readonly T[]): boolean {
  return a === b || (a.length === b.length && a.every((item, at) => item === b[at]))
}

function isSamePort(before: Linked, port: OutboundPort, clusters: Clusters): boolean {
  const { config, clusters: old } = before
  if (config.protocol !== port.protocol) return false
  const routes = config.routes.length === port.routes.length
  const [tls, newTls] = [config.tlsRoutes ?? [], port.tlsRoutes ?? []]
  return (
    routes &&
    config.routes.every((route, at) => isSameRoute(route, old, port.routes[at]!, clusters)) &&
    tls.length === newTls.length &&
    tls.every(({ sniHosts, clusters: parts }, at) => {
      const other = newTls[at]!
      return sniHosts === other.sniHosts && leadsSame(parts, old, other.clusters, clusters)
    }) &&
    leadsSame(config.tcp, old, port.tcp, clusters)
  )
}

function isSameRoute(a: Route, old: Clusters, b: Route, clusters: Clusters): boolean {
  return (
    a.name === b.name &&
    a.matches === b.matches &&
    a.timeout === b.timeout &&
    a.retry === b.retry &&
    leadsSame(a.clusters, old, b.clusters, clusters)
  )
}

function leadsSame(
  a: readonly WeightedCluster[],
  old: Clusters,
  b: readonly WeightedCluster[],
  clusters: Clusters,
): boolean {
  return (
    a.length === b.length &&
    a.every(({ cluster, weight }, at) => {
      const other = b[at]!
      return weight === other.weight && old[cluster] === clusters[other.cluster]
    })
  )
}
