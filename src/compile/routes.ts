// Routes of one service port, from VirtualServices. First match wins; what matches none is answered 404.
import type { HttpRoute, RouteDestination, TcpRoute, VirtualService } from '../model/resource.ts'
import { retryWords } from '../model/resource.ts'
import { isHttp, isOpaque, type Protocol, type RetryPolicy, type Route } from '../snapshot/types.ts'
import type { Service, ServicePort } from './catalogue.ts'
import { type ClusterTable, durationOr } from './clusters.ts'
import { compareText, nameKey, resolveHost } from './hosts.ts'
import type { CompileProblem } from './input.ts'
import { matchesAll, matchOf } from './matches.ts'

/** What may be sent again after its bytes have left: idempotent by RFC 9110 9.2.2. Never POST or PATCH. */
const safeMethods = ['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE'] as const

/**
 * Istio's default of two retries. `reset` is added to its words, because `methods` holds it to requests that may be
 * repeated: an instance that dies under load then costs its callers nothing.
 */
const defaultRetry: RetryPolicy = {
  attempts: 2,
  perTryTimeout: 0,
  on: ['connect-failure', 'refused-stream', 'reset', 'unavailable'],
  statuses: [],
  methods: safeMethods,
}

/** A weighted cluster by name, until all clusters have their places. */
export interface NamedWeight {
  readonly cluster: string
  readonly weight: number
}

export interface DraftRoute extends Omit<Route, 'clusters'> {
  readonly clusters: readonly NamedWeight[]
}

/** See TlsRoute of the snapshot. */
export interface DraftTls {
  readonly sniHosts: readonly string[]
  readonly clusters: readonly NamedWeight[]
}

export interface DraftPort {
  readonly routes: readonly DraftRoute[]
  readonly tls: readonly DraftTls[]
  readonly tcp: readonly NamedWeight[]
}

/** The VirtualService of each service; where several name one, its own namespace's and then the first by name wins. */
export function routedBy(
  resources: readonly VirtualService[],
  problems: CompileProblem[],
): ReadonlyMap<string, VirtualService> {
  const found = new Map<string, VirtualService>()
  const claims = resources.flatMap((resource) =>
    resource.spec.hosts.map((host) => ({
      resource,
      host,
      name: resolveHost(host, resource.metadata.namespace),
    })),
  )
  const home = (claim: (typeof claims)[number]): boolean =>
    claim.name?.namespace === claim.resource.metadata.namespace
  for (const claim of [...claims.filter(home), ...claims.filter((other) => !home(other))]) {
    if (claim.name === null) {
      problems.push({ where: label(claim.resource), message: `${claim.host} is no service of the mesh` })
      continue
    }
    const key = nameKey(claim.name)
    const other = found.get(key)
    if (other === undefined) found.set(key, claim.resource)
    else if (other !== claim.resource) {
      problems.push({
        where: label(claim.resource),
        message: `ignored for ${key}: ${label(other)} routes it`,
      })
    }
  }
  return found
}

/** Routes of the ports of services, into `clusters`. */
export class Router {
  readonly #services: ReadonlyMap<string, Service>
  readonly #routed: ReadonlyMap<string, VirtualService>
  readonly #clusters: ClusterTable
  readonly #problems: CompileProblem[]

  constructor(
    services: readonly Service[],
    routed: ReadonlyMap<string, VirtualService>,
    clusters: ClusterTable,
    problems: CompileProblem[],
  ) {
    this.#services = new Map(services.map((service) => [nameKey(service), service]))
    this.#routed = routed
    this.#clusters = clusters
    this.#problems = problems
  }

  port(service: Service, port: ServicePort): DraftPort {
    const resource = this.#routed.get(nameKey(service))
    const whole = (): NamedWeight[] => [{ cluster: this.#clusters.add(service, port, ''), weight: 100 }]
    const http = resource?.spec.http ?? []
    const routes: DraftRoute[] = []
    if (!isOpaque(port.protocol)) {
      if (resource === undefined || http.length === 0) {
        routes.push({ name: 'default', matches: [], clusters: whole(), timeout: 0, retry: defaultRetry })
      } else {
        routes.push(...this.#http(resource, http, port.port))
      }
    }
    if (resource?.spec.tls !== undefined && service.ports.every(({ protocol }) => !takesTls(protocol))) {
      this.#problem(resource, `spec.tls is not used: no port of ${nameKey(service)} is declared as tls`)
    }
    if (isHttp(port.protocol)) return { routes, tls: [], tcp: [] }
    // As in Istio, `tcp` is not for ports declared as tls, nor `tls` for those declared as tcp.
    const tls = takesTls(port.protocol) ? this.#tls(resource, port.port) : []
    if (port.protocol === 'tls') return { routes, tls, tcp: tls.length === 0 ? whole() : [] }
    return { routes, tls, tcp: this.#tcp(resource, port.port) ?? whole() }
  }

  #http(resource: VirtualService, http: readonly HttpRoute[], port: number): DraftRoute[] {
    const routes: DraftRoute[] = []
    for (const [at, route] of http.entries()) {
      const matches = (route.match ?? []).filter((match) => match.port === undefined || match.port === port)
      if (route.match !== undefined && route.match.length > 0 && matches.length === 0) continue
      const path = `spec.http[${at}]`
      const read = matches.map(matchOf)
      routes.push({
        name: route.name ?? `${resource.metadata.name}[${at}]`,
        // A match that only names the port, or nothing, holds for every request.
        matches: read.some(matchesAll) ? [] : read,
        clusters: this.#weights(resource, `${path}.route`, route.route ?? [], port),
        timeout: durationOr(route.timeout, 0),
        retry: this.#retry(resource, path, route),
      })
      // Nothing behind a route that always matches can be reached.
      if (routes.at(-1)?.matches.length === 0) break
    }
    return routes
  }

  #tls(resource: VirtualService | undefined, port: number): DraftTls[] {
    const rules: DraftTls[] = []
    for (const [at, route] of (resource?.spec.tls ?? []).entries()) {
      if (resource === undefined) break
      const matches = route.match.filter((match) => match.port === undefined || match.port === port)
      const sniHosts = matches.flatMap((match) => match.sniHosts.map((host) => host.toLowerCase()))
      if (sniHosts.length === 0) continue
      const clusters = this.#weights(resource, `spec.tls[${at}].route`, route.route ?? [], port)
      rules.push({ sniHosts: [...new Set(sniHosts)], clusters })
    }
    return rules
  }

  #tcp(resource: VirtualService | undefined, port: number): NamedWeight[] | null {
    for (const [at, route] of (resource?.spec.tcp ?? []).entries()) {
      if (resource !== undefined && tcpMatches(route, port)) {
        return this.#weights(resource, `spec.tcp[${at}].route`, route.route ?? [], port)
      }
    }
    return null
  }

  #weights(
    resource: VirtualService,
    path: string,
    route: readonly RouteDestination[],
    requestPort: number,
  ): NamedWeight[] {
    const weights: NamedWeight[] = []
    for (const [at, { destination, weight }] of route.entries()) {
      // The only destination takes everything, whatever its weight says; among several no weight means 0.
      const share = route.length === 1 ? 100 : (weight ?? 0)
      if (share === 0) continue
      const cluster = this.#cluster(resource, `${path}[${at}].destination`, destination, requestPort)
      if (cluster !== null) weights.push({ cluster, weight: share })
    }
    return weights
  }

  #cluster(
    resource: VirtualService,
    path: string,
    destination: RouteDestination['destination'],
    requestPort: number,
  ): string | null {
    const name = resolveHost(destination.host, resource.metadata.namespace)
    if (name === null) {
      this.#problem(resource, `${path}.host ${destination.host} is no service of the mesh`)
      return null
    }
    const service = this.#services.get(nameKey(name))
    if (service === undefined) this.#problem(resource, `${path}.host ${destination.host} is no known service`)
    // A service that nobody has registered yet still takes its share of requests: 503, not somebody else's answer.
    const target: Service = service ?? { ...name, vip: '', ports: [] }
    const wanted = destination.port?.number
    const port =
      target.ports.find((candidate) => candidate.port === (wanted ?? requestPort)) ??
      (wanted === undefined && target.ports.length === 1 ? target.ports[0] : undefined)
    if (port === undefined && service !== undefined) {
      this.#problem(resource, `${path}: ${nameKey(target)} has no port ${wanted ?? requestPort}`)
    }
    const subset = destination.subset ?? ''
    if (subset !== '' && !this.#clusters.hasSubset(target, subset)) {
      this.#problem(resource, `${path}.subset ${subset} of ${nameKey(target)} is in no DestinationRule`)
    }
    return this.#clusters.add(
      target,
      port ?? { port: wanted ?? requestPort, protocol: 'auto', instances: [] },
      subset,
    )
  }

  #retry(resource: VirtualService, path: string, route: HttpRoute): RetryPolicy {
    const { retries } = route
    if (retries === undefined) return defaultRetry
    const words = (retries.retryOn ?? '')
      .split(',')
      .map((word) => word.trim())
      .filter((word) => word !== '')
    const honoured: readonly string[] = retryWords
    const on = new Set<string>()
    const statuses = new Set<number>()
    for (const word of words) {
      if (/^[1-5]\d\d$/.test(word)) {
        statuses.add(Number(word))
        on.add('retriable-status-codes')
      } else if (honoured.includes(word)) on.add(word)
      else this.#problem(resource, `${path}.retries.retryOn ${word} is not honoured by this release`)
    }
    return {
      attempts: retries.attempts ?? defaultRetry.attempts,
      perTryTimeout: durationOr(retries.perTryTimeout, 0),
      on: words.length === 0 ? defaultRetry.on : [...on].toSorted(compareText),
      statuses: [...statuses].toSorted((a, b) => a - b),
      methods: safeMethods,
    }
  }

  #problem(resource: VirtualService, message: string): void {
    const problem = { where: label(resource), message }
    // One resource serves several ports; it is told once.
    if (!this.#problems.some((other) => other.where === problem.where && other.message === message)) {
      this.#problems.push(problem)
    }
  }
}

function label(resource: VirtualService): string {
  return `VirtualService ${resource.metadata.namespace}/${resource.metadata.name}`
}

function takesTls(protocol: Protocol): boolean {
  return protocol === 'tls' || protocol === 'auto'
}

function tcpMatches(route: TcpRoute, port: number): boolean {
  const matches = route.match ?? []
  return matches.length === 0 || matches.some((match) => match.port === undefined || match.port === port)
}
