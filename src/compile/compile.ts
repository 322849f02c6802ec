// Resources and the registry's view → the snapshot of one proxy. Pure: no clock, no randomness, no input but its
// argument; the same input gives the same bytes, whatever order its lists are in.
import { printAddress } from '../net/addr.ts'
import { deepFreeze } from '../snapshot/freeze.ts'
import { settle } from '../snapshot/settle.ts'
import type { OutboundService, Settings, Snapshot, WeightedCluster } from '../snapshot/types.ts'
import { servicesOf } from './catalogue.ts'
import { ClusterTable, destinationsOf } from './clusters.ts'
import { fqdn } from '../model/name.ts'
import { compareText } from './hosts.ts'
import { identitiesOf } from './identities.ts'
import { inboundOf } from './inbound.ts'
import type { CompileInput, CompileProblem } from './input.ts'
import { readResources } from './resources.ts'
import { type DraftPort, type NamedWeight, routedBy, Router } from './routes.ts'

export interface Compiled {
  readonly snapshot: Snapshot
  /** Sorted. What is named here was left out or ignored; everything else is in force. */
  readonly problems: readonly CompileProblem[]
}

/** Envoy's and Istio's defaults, where they have one. */
const settings: Omit<Settings, 'accessLog'> = {
  maxHeadBytes: 60 * 1024,
  maxHeaders: 100,
  headTimeout: 10_000,
  idleTimeout: 3_600_000,
  drainTimeout: 10_000,
  unknownDestinations: 'allow',
}

/** What is as it was in `before` is the same objects: giving it saves most of the work where little has changed. */
export function compile(input: CompileInput, before: Snapshot | null = null): Compiled {
  const { config } = input
  const { virtualServices, destinationRules, problems: unread } = readResources(input.resources)
  const problems: CompileProblem[] = [...unread]
  const services = servicesOf(input)
  const table = new ClusterTable(config.trustDomain, destinationsOf(destinationRules, problems))
  const router = new Router(services, routedBy(virtualServices, problems), table, problems)

  // First all routes, then the places of their clusters: a route refers to a cluster by index.
  const drafts = services.map((service) => ({
    service,
    ports: service.ports.map((port) => ({ port, draft: router.port(service, port) })),
  }))
  const clusters = table.sorted()
  const places = new Map(clusters.map((cluster, at) => [cluster.name, at]))
  const owned = new Set<string>()
  const outbound: OutboundService[] = drafts.map(({ service, ports }) => ({
    service: service.service,
    namespace: service.namespace,
    fqdn: fqdn(service.service, service.namespace),
    vip: service.vip,
    ports: ports.map(({ port, draft }) => ({
      port: port.port,
      protocol: port.protocol,
      instances: port.instances
        .map(({ address, port: at }) => printAddress(address, at))
        .filter((key) => claim(owned, key)),
      ...place(draft, places),
    })),
  }))

  const identities = identitiesOf(config, problems)
  const content: Omit<Snapshot, 'hash'> = {
    schema: 1,
    host: config.host,
    mesh: config.mesh,
    trustDomain: config.trustDomain,
    identities: identities.list,
    inbound: inboundOf(config, input.local, identities, problems),
    outbound,
    clusters,
    settings: { ...settings, accessLog: config.accessLog },
  }
  return { snapshot: settle(content, before), problems: deepFreeze(problems.toSorted(byPlace)) }
}

/** A place that two services claim leads to the first: a captured connection must mean one service. */
function claim(owned: Set<string>, key: string): boolean {
  if (owned.has(key)) return false
  owned.add(key)
  return true
}

function place(
  draft: DraftPort,
  places: ReadonlyMap<string, number>,
): Pick<OutboundService['ports'][number], 'routes' | 'tlsRoutes' | 'tcp'> {
  const weigh = (weights: readonly NamedWeight[]): WeightedCluster[] =>
    weights.map(({ cluster, weight }) => ({ cluster: places.get(cluster) ?? -1, weight }))
  return {
    routes: draft.routes.map((route) => ({ ...route, clusters: weigh(route.clusters) })),
    ...(draft.tls.length === 0
      ? {}
      : { tlsRoutes: draft.tls.map((rule) => ({ ...rule, clusters: weigh(rule.clusters) })) }),
    tcp: weigh(draft.tcp),
  }
}

function byPlace(a: CompileProblem, b: CompileProblem): number {
  return compareText(a.where, b.where) || compareText(a.message, b.message)
}
