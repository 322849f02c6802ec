// Clusters: a service port, or a subset of it, with its endpoints and limits, from DestinationRules.
import { parseDuration } from '../model/duration.ts'
import type { DestinationRule, Subset, TrafficPolicy } from '../model/resource.ts'
import { serviceSpiffe } from '../model/service.ts'
import { type Cluster, type Endpoint, type Outlier, serverName } from '../snapshot/types.ts'
import type { Service, ServicePort } from './catalogue.ts'
import { compareText, nameKey, resolveHost } from './hosts.ts'
import type { MeshInstance } from '../model/instance.ts'
import type { CompileProblem } from './input.ts'

/** Where Istio waits 10 s: hosts of one mesh answer in milliseconds, and a retry must come while the caller still waits. */
const connectTimeout = 3000
const maxPending = 1024
/**
 * Without an outlierDetection only the proxy's own judgement of failed connects counts: an application that answers 500
 * is not taken out of balancing unless somebody asked for that.
 */
const noOutlier: Outlier = { consecutiveErrors: 0, baseEjection: 30_000, maxEjectionPercent: 100 }

/** What the DestinationRules say of one service, merged. */
export interface Destination {
  readonly policy: TrafficPolicy
  readonly subsets: ReadonlyMap<string, Subset>
}

/**
 * The rules by service. Several rules of one service merge as in Istio: subsets add up, the first of a name and the
 * first traffic policy win. A rule in the service's own namespace comes first.
 */
export function destinationsOf(
  rules: readonly DestinationRule[],
  problems: CompileProblem[],
): ReadonlyMap<string, Destination> {
  const merged = new Map<
    string,
    { policy: TrafficPolicy | null; subsets: Map<string, Subset>; own: boolean }
  >()
  const targets = rules.map((rule) => ({ rule, name: resolveHost(rule.spec.host, rule.metadata.namespace) }))
  const home = (target: (typeof targets)[number]): boolean =>
    target.name?.namespace === target.rule.metadata.namespace
  for (const target of [...targets.filter(home), ...targets.filter((other) => !home(other))]) {
    const { rule, name } = target
    const where = `DestinationRule ${rule.metadata.namespace}/${rule.metadata.name}`
    if (name === null) {
      problems.push({ where, message: `skipped: spec.host ${rule.spec.host} is no service of the mesh` })
      continue
    }
    const key = nameKey(name)
    const entry = merged.get(key) ?? { policy: null, subsets: new Map<string, Subset>(), own: home(target) }
    merged.set(key, entry)
    if (rule.spec.trafficPolicy !== undefined) {
      if (entry.policy === null) entry.policy = rule.spec.trafficPolicy
      else problems.push({ where, message: `its trafficPolicy is ignored: another rule has one for ${key}` })
    }
    for (const subset of rule.spec.subsets ?? []) {
      if (!entry.subsets.has(subset.name)) entry.subsets.set(subset.name, subset)
      else problems.push({ where, message: `its subset ${subset.name} is ignored: ${key} has one already` })
    }
  }
  return new Map(
    [...merged].map(([key, { policy, subsets }]) => [key, { policy: policy ?? {}, subsets }] as const),
  )
}

/** Collects the clusters that routes refer to and gives each its place. */
export class ClusterTable {
  readonly #trustDomain: string
  readonly #destinations: ReadonlyMap<string, Destination>
  readonly #clusters = new Map<string, Cluster>()

  constructor(trustDomain: string, destinations: ReadonlyMap<string, Destination>) {
    this.#trustDomain = trustDomain
    this.#destinations = destinations
  }

  hasSubset(service: Service, subset: string): boolean {
    return this.#destinations.get(nameKey(service))?.subsets.has(subset) ?? false
  }

  /** The cluster's name; an unknown subset gives one without endpoints: 503 no healthy upstream, as in Istio. */
  add(service: Service, port: ServicePort, subset: string): string {
    const name = `outbound|${port.port}|${subset}|${service.service}.${service.namespace}.mesh`
    if (!this.#clusters.has(name)) this.#clusters.set(name, this.#build(name, service, port, subset))
    return name
  }

  /** Sorted by name, so that the order in which routes were read does not show. */
  sorted(): readonly Cluster[] {
    return [...this.#clusters.values()].toSorted((a, b) => compareText(a.name, b.name))
  }

  #build(name: string, service: Service, port: ServicePort, subset: string): Cluster {
    const destination = this.#destinations.get(nameKey(service))
    const chosen = destination?.subsets.get(subset)
    // A block of the subset's policy replaces the same block of the service's, as in Istio.
    const policy: TrafficPolicy = { ...destination?.policy, ...chosen?.trafficPolicy }
    const instances =
      subset === '' ? port.instances : port.instances.filter((instance) => selects(chosen, instance))
    const tcp = policy.connectionPool?.tcp
    return {
      name,
      service: service.service,
      namespace: service.namespace,
      subset,
      spiffe: serviceSpiffe(this.#trustDomain, service.namespace, service.service),
      serverName: serverName(service.service, service.namespace, port.port),
      balancer: balancerOf(policy),
      connectTimeout: durationOr(tcp?.connectTimeout, connectTimeout) || connectTimeout,
      maxConnections: tcp?.maxConnections ?? 0,
      maxPending: policy.connectionPool?.http?.http1MaxPendingRequests || maxPending,
      outlier: outlierOf(policy),
      // All failing: none is kept. Sending to instances that said they cannot serve only hides the cause.
      endpoints: instances.filter((instance) => instance.passing).map(endpointOf),
    }
  }
}

/** Milliseconds, rounded up; `otherwise` where the resource says nothing. */
export function durationOr(text: string | undefined, otherwise: number): number {
  const ms = text === undefined ? null : parseDuration(text)
  return ms === null ? otherwise : Math.ceil(ms)
}

function selects(subset: Subset | undefined, instance: MeshInstance): boolean {
  if (subset === undefined) return false
  return Object.entries(subset.labels ?? {}).every(([key, value]) =>
    key === 'version' ? instance.version === value : instance.labels[key] === value,
  )
}

function balancerOf(policy: TrafficPolicy): Cluster['balancer'] {
  const simple = policy.loadBalancer?.simple
  if (simple === 'ROUND_ROBIN') return 'round-robin'
  return simple === 'RANDOM' ? 'random' : 'least-request'
}

function outlierOf(policy: TrafficPolicy): Outlier {
  const detection = policy.outlierDetection
  if (detection === undefined) return noOutlier
  // Istio: gateway errors are counted apart where both are given; one counter stands for both here, so the smaller wins.
  const limits = [
    detection.consecutive5xxErrors ?? (detection.consecutiveGatewayErrors === undefined ? 5 : 0),
    detection.consecutiveGatewayErrors ?? 0,
  ].filter((limit) => limit > 0)
  return {
    consecutiveErrors: limits.length === 0 ? 0 : Math.min(...limits),
    baseEjection: durationOr(detection.baseEjectionTime, 30_000),
    maxEjectionPercent: detection.maxEjectionPercent ?? 10,
  }
}

function endpointOf(instance: MeshInstance): Endpoint {
  return {
    address: instance.address,
    port: instance.port,
    host: instance.host,
    version: instance.version,
    weight: 1,
    via: instance.linkPort === null ? 'plain' : 'link',
    linkPort: instance.linkPort ?? 0,
  }
}
