// `route set` and friends: sugar over one VirtualService and one DestinationRule per service. Pure: what is there →
// what shall be there. The objects may have been written by hand; what the sugar does not speak of stays as it is.
import { MeshError } from '../errors.ts'
import { canonicalMatch } from './routematch.ts'
import { serviceOf, type Qualified } from './name.ts'
import {
  istioVersion,
  type DestinationRule,
  type HttpMatch,
  type HttpRoute,
  type Retries,
  type RouteDestination,
  type Subset,
  type TcpRoute,
  type VirtualService,
} from './resource.ts'
import type { Protocol } from './protocol.ts'
import { changeTls, findTls } from './tlschange.ts'

export interface RouteChange {
  /** Versions and weights in the order given; empty: leave the destinations as they are. */
  readonly to: readonly { readonly version: string; readonly weight: number }[]
  /** Null: the rule that takes everything. */
  readonly match: HttpMatch | null
  /** Server names of TLS that is passed through; empty: the rule is none of those. */
  readonly sni: readonly string[]
  /** Names the rule; null: found by its match. */
  readonly rule: string | null
  readonly timeout: string | null
  readonly retries: Retries | null
}

export interface RouteObjects {
  readonly virtualService: VirtualService | null
  readonly destinationRule: DestinationRule | null
}

/** The objects that hold a service's routes: by host, so that hand-written names are found too. */
export function routesOf(
  service: Qualified,
  virtualServices: readonly VirtualService[],
  destinationRules: readonly DestinationRule[],
): RouteObjects {
  const own = (host: string, namespace: string): boolean => {
    const named = serviceOf(host, namespace)
    return named !== null && named.service === service.service && named.namespace === service.namespace
  }
  return {
    virtualService:
      virtualServices.find(({ spec, metadata }) =>
        spec.hosts.some((host) => own(host, metadata.namespace)),
      ) ?? null,
    destinationRule:
      destinationRules.find(({ spec, metadata }) => own(spec.host, metadata.namespace)) ?? null,
  }
}

export function setRoute(
  service: Qualified,
  protocol: Protocol,
  change: RouteChange,
  before: RouteObjects,
): { virtualService: VirtualService; destinationRule: DestinationRule | null } {
  const plain =
    change.match === null && change.rule === null && change.timeout === null && change.retries === null
  checkProtocol(service, protocol, change, plain)
  const destinationRule =
    change.to.length === 0 ? before.destinationRule : withSubsets(service, change, before)
  const old = before.virtualService
  const spec = old?.spec ?? { hosts: [service.service] }
  const to = destinations(service, change, destinationRule)
  // As in Istio, a port declared as tls has routes by server name alone.
  const sni = protocol === 'tls' && change.sni.length === 0 ? ['*'] : change.sni
  const byName = sni.length > 0
  const isWeb = !byName && protocol !== 'tcp'
  // A port whose protocol is sniffed may turn out to be either: the split holds for both.
  const isOpaque = !byName && (protocol === 'tcp' || (protocol === 'auto' && plain))
  const http = isWeb ? changeHttp(service, change, spec.http ?? [], to) : spec.http
  const whole = { destination: { host: service.service } }
  const tls = byName ? changeTls(sni, to, whole, spec.tls ?? []) : spec.tls
  const tcp = isOpaque ? changeTcp(change, spec.tcp ?? [], to) : spec.tcp
  return {
    destinationRule,
    virtualService: {
      apiVersion: old?.apiVersion ?? istioVersion,
      kind: 'VirtualService',
      metadata: old?.metadata ?? { name: service.service, namespace: service.namespace },
      spec: {
        ...spec,
        ...(http === undefined ? {} : { http }),
        ...(tls === undefined ? {} : { tls }),
        ...(tcp === undefined ? {} : { tcp }),
      },
    },
  }
}

/** Throws MSH0101 where the flags are about something that the service does not speak. */
function checkProtocol(service: Qualified, protocol: Protocol, change: RouteChange, plain: boolean): void {
  if (change.sni.length > 0) {
    if (protocol === 'tls' || protocol === 'auto') {
      if (plain && change.to.length > 0) return
      throw new MeshError('MSH0101', 'a rule with --sni takes --to and nothing else', {
        hint: 'TLS is passed through: there are no requests to match, to retry or to wait for',
      })
    }
    throw new MeshError(
      'MSH0101',
      `${service.service} speaks ${protocol}: --sni is for TLS that is passed through`,
      {
        hint: 'declare the service with protocol=tls',
      },
    )
  }
  if ((protocol !== 'tcp' && protocol !== 'tls') || plain) return
  throw new MeshError('MSH0101', `${service.service} speaks ${protocol}: only --to applies to it`, {
    hint: 'leave out matches, timeouts and retries, or declare the service with protocol=http',
  })
}

/** Istio's subset names are DNS labels; versions may be `1.2`. */
export function subsetName(version: string): string {
  return version.toLowerCase().replaceAll(/[^a-z0-9-]/g, '-')
}

function withSubsets(
  service: Qualified,
  change: RouteChange,
  { destinationRule: old }: RouteObjects,
): DestinationRule {
  const subsets: Subset[] = [...(old?.spec.subsets ?? [])]
  for (const { version } of change.to) {
    if (findSubset(subsets, version) === undefined)
      subsets.push({ name: subsetName(version), labels: { version } })
  }
  return {
    apiVersion: old?.apiVersion ?? istioVersion,
    kind: 'DestinationRule',
    metadata: old?.metadata ?? { name: service.service, namespace: service.namespace },
    spec: { ...(old?.spec ?? { host: service.service }), subsets },
  }
}

function findSubset(subsets: readonly Subset[], version: string): Subset | undefined {
  return (
    subsets.find(
      (subset) => subset.labels?.['version'] === version && Object.keys(subset.labels).length === 1,
    ) ?? subsets.find((subset) => subset.name === version)
  )
}

function destinations(
  service: Qualified,
  change: RouteChange,
  rule: DestinationRule | null,
): RouteDestination[] {
  const single = change.to.length === 1
  return change.to.map(({ version, weight }) => {
    const subset = findSubset(rule?.spec.subsets ?? [], version)?.name ?? subsetName(version)
    return { destination: { host: service.service, subset }, ...(single ? {} : { weight }) }
  })
}

function changeHttp(
  service: Qualified,
  change: RouteChange,
  routes: readonly HttpRoute[],
  to: readonly RouteDestination[],
): HttpRoute[] {
  const at = findRule(routes, change)
  const old = at < 0 ? undefined : routes[at]
  const match = change.match === null ? old?.match : [change.match]
  const name = change.rule ?? old?.name
  const timeout = change.timeout ?? old?.timeout
  const retries = change.retries === null ? old?.retries : { ...old?.retries, ...change.retries }
  const fresh: HttpRoute = {
    ...(name === undefined ? {} : { name }),
    ...(match === undefined ? {} : { match }),
    route: change.to.length > 0 ? to : (old?.route ?? [{ destination: { host: service.service } }]),
    ...(timeout === undefined ? {} : { timeout }),
    ...(retries === undefined ? {} : { retries }),
  }
  if (at >= 0) return routes.toSpliced(at, 1, fresh)
  // Rules are tried in order: one with a match goes before the one that takes everything.
  const open = routes.findIndex((route) => isOpen(route))
  if (match !== undefined && open >= 0) return routes.toSpliced(open, 0, fresh)
  if (match !== undefined && routes.length === 0) {
    // What does not match must still arrive.
    return [fresh, { route: [{ destination: { host: service.service } }] }]
  }
  return [...routes, fresh]
}

function changeTcp(
  change: RouteChange,
  routes: readonly TcpRoute[],
  to: readonly RouteDestination[],
): readonly TcpRoute[] {
  if (change.to.length === 0) return routes
  const fresh: TcpRoute = { route: to }
  const at = routes.findIndex((route) => route.match === undefined || route.match.length === 0)
  return at >= 0 ? routes.toSpliced(at, 1, fresh) : [...routes, fresh]
}

function isOpen(route: HttpRoute): boolean {
  return route.match === undefined || route.match.length === 0
}

/** By name where one is given, else by its only match; -1: there is none. */
function findRule(routes: readonly HttpRoute[], change: Pick<RouteChange, 'match' | 'rule'>): number {
  if (change.rule !== null) return routes.findIndex((route) => route.name === change.rule)
  if (change.match === null) return routes.findIndex((route) => isOpen(route))
  const wanted = canonicalMatch(change.match)
  return routes.findIndex(
    (route) => route.match?.length === 1 && canonicalMatch(route.match[0] ?? {}) === wanted,
  )
}

/** What is left after taking out one rule, or (nothing selected) everything. Null: delete the object. */
export function unsetRoute(
  selector: Pick<RouteChange, 'match' | 'rule' | 'sni'>,
  before: RouteObjects,
): RouteObjects {
  const { virtualService, destinationRule } = before
  if (selector.match === null && selector.rule === null && selector.sni.length === 0) {
    const plain =
      destinationRule?.spec.trafficPolicy === undefined &&
      (destinationRule?.spec.subsets ?? []).every(isPlain)
    // Traffic policies were written by hand and are about more than routes.
    return { virtualService: null, destinationRule: plain ? null : destinationRule }
  }
  if (selector.sni.length > 0 && (selector.match !== null || selector.rule !== null))
    throw new MeshError('MSH0101', '--sni goes with no other match', { hint: 'take out one rule at a time' })
  if (virtualService === null) return before
  const { http = [], tls = [], ...others } = virtualService.spec
  const byName = selector.sni.length > 0
  const at = byName ? findTls(selector.sni, tls) : findRule(http, selector)
  if (at < 0) return before
  const rest = { http: byName ? http : http.toSpliced(at, 1), tls: byName ? tls.toSpliced(at, 1) : tls }
  if (rest.http.length + rest.tls.length + (others.tcp ?? []).length === 0)
    return { virtualService: null, destinationRule }
  const spec = {
    ...others,
    ...(rest.http.length === 0 ? {} : { http: rest.http }),
    ...(rest.tls.length === 0 ? {} : { tls: rest.tls }),
  }
  return { virtualService: { ...virtualService, spec }, destinationRule }
}

function isPlain(subset: Subset): boolean {
  return subset.trafficPolicy === undefined
}
