// What Istio's schema cannot say about a VirtualService.
import { compileExpression } from '../net/expression.ts'
import { parseDuration } from './duration.ts'
import type { Findings, World } from './findings.ts'
import { serviceOf, shortName } from './name.ts'
import { didYouMean } from './near.ts'
import {
  retryWords,
  type HttpMatch,
  type HttpRoute,
  type MatchString,
  type Retries,
  type RouteDestination,
  type VirtualService,
} from './resource.ts'
import { checkServerNames } from './servername.ts'
import type { Path } from './text.ts'

export function checkVirtualService(service: VirtualService, world: World, findings: Findings): void {
  checkHosts(service, world, findings)
  const { http = [], tls = [], tcp = [] } = service.spec
  if (http.length + tls.length + tcp.length === 0) findings.error(['spec'], 'needs http, tls or tcp routes')
  for (const [index, route] of http.entries()) {
    const path = ['spec', 'http', index]
    checkHttpRoute(route, path, findings)
    checkRoutes(route.route, path, service.metadata.namespace, world, findings)
    const open = route.match === undefined || route.match.length === 0
    if (open && index < http.length - 1) {
      findings.warn(path, 'matches everything: the routes after it are never used', 'put it last')
    }
  }
  checkServerNames(tls, findings)
  for (const [kind, routes] of [
    ['tls', tls],
    ['tcp', tcp],
  ] as const) {
    for (const [index, route] of routes.entries()) {
      checkRoutes(route.route, ['spec', kind, index], service.metadata.namespace, world, findings)
      for (const [at, match] of (route.match ?? []).entries()) {
        checkPort(match.port, ['spec', kind, index, 'match', at, 'port'], findings)
      }
    }
  }
}

function checkHosts(service: VirtualService, world: World, findings: Findings): void {
  const { namespace, name } = service.metadata
  // The schema lets the field be absent.
  const hosts = (service.spec.hosts as readonly string[] | undefined) ?? []
  if (hosts.length === 0) findings.error(['spec', 'hosts'], 'needs at least one host')
  for (const [index, host] of hosts.entries()) {
    const path = ['spec', 'hosts', index]
    const own = checkHost(host, path, namespace, findings)
    if (own === null) continue
    if (hosts.findIndex((other) => sameHost(other, host, namespace)) < index)
      findings.error(path, 'is written twice')
    const rival = world.resources.find(
      (other) =>
        other.kind === 'VirtualService' &&
        (other.metadata.name !== name || other.metadata.namespace !== namespace) &&
        other.spec.hosts.some((theirs) => sameHost(theirs, host, other.metadata.namespace, namespace)),
    )
    if (rival !== undefined) {
      findings.warn(
        path,
        `VirtualService ${rival.metadata.namespace}/${rival.metadata.name} has routes for it too`,
      )
    }
  }
}

function sameHost(a: string, b: string, spaceOfA: string, spaceOfB: string = spaceOfA): boolean {
  const one = serviceOf(a, spaceOfA)
  const two = serviceOf(b, spaceOfB)
  return one !== null && two !== null && one.service === two.service && one.namespace === two.namespace
}

/** `service.namespace` of a host, or null after saying why not. */
export function checkHost(host: unknown, path: Path, namespace: string, findings: Findings): string | null {
  if (typeof host !== 'string' || host === '') {
    findings.error(path, 'is missing')
    return null
  }
  if (host.includes('*')) {
    findings.error(path, `"${host}": wildcard hosts are not honoured yet`)
    return null
  }
  const service = serviceOf(host, namespace)
  if (service === null) {
    findings.error(
      path,
      `"${host}" is no service of the mesh; hosts outside it are not honoured yet`,
      'write `web`, `web.namespace` or `web.namespace.mesh`',
    )
    return null
  }
  return `${service.service}.${service.namespace}`
}

export function checkPort(port: number | undefined, path: Path, findings: Findings): void {
  if (port !== undefined && (port < 1 || port > 65_535))
    findings.error(path, 'must be a port from 1 to 65535')
}

export function checkDuration(
  text: string | undefined,
  path: Path,
  least: number,
  findings: Findings,
): number | null {
  if (text === undefined) return null
  const ms = parseDuration(text)
  if (ms === null) findings.error(path, `"${text}" is no duration`, 'write 2s or 500ms')
  else if (ms < least) findings.error(path, `must be at least ${least} ms`)
  return ms
}

function checkRoutes(
  routes: readonly RouteDestination[] | undefined,
  above: Path,
  namespace: string,
  world: World,
  findings: Findings,
): void {
  const path = [...above, 'route']
  if (routes === undefined || routes.length === 0) {
    findings.error(path, 'needs at least one destination')
    return
  }
  let sum = 0
  for (const [index, route] of routes.entries()) {
    const weight = route.weight ?? 0
    sum += weight
    if (weight < 0) findings.error([...path, index, 'weight'], 'must not be negative')
    if (weight > 1_000_000) findings.error([...path, index, 'weight'], 'must be at most 1000000')
    checkDestination(route, [...path, index, 'destination'], namespace, world, findings)
  }
  if (routes.length > 1 && sum === 0)
    findings.error(path, 'the weights sum to 0: nothing would be routed', 'write weight:')
}

function checkDestination(
  { destination }: RouteDestination,
  path: Path,
  namespace: string,
  world: World,
  findings: Findings,
): void {
  // The schema lets `destination` be absent.
  const there = destination as RouteDestination['destination'] | undefined
  const host = checkHost(there?.host, [...path, 'host'], namespace, findings)
  checkPort(there?.port?.number, [...path, 'port', 'number'], findings)
  if (host === null || there?.subset === undefined) return
  const rules = world.resources.filter(
    (other) => other.kind === 'DestinationRule' && sameHost(other.spec.host, host, other.metadata.namespace),
  )
  const names = rules.flatMap((rule) =>
    rule.kind === 'DestinationRule' ? (rule.spec.subsets ?? []).map((subset) => subset.name) : [],
  )
  if (names.includes(there.subset)) return
  const at = [...path, 'subset']
  const [service = '', space = ''] = host.split('.')
  const of = shortName(service, space)
  if (rules.length === 0) {
    findings.warn(
      at,
      `no DestinationRule for ${of} defines the subset "${there.subset}"${world.complete ? '' : ' here'}`,
    )
  } else {
    const listed = names.length === 0 ? 'it has none' : `it has ${names.join(', ')}`
    const rule = rules[0]?.metadata.name ?? ''
    const hint = didYouMean(there.subset, names) ?? listed
    findings.error(at, `DestinationRule ${rule} for ${of} has no subset "${there.subset}"`, hint)
  }
}

function checkHttpRoute(route: HttpRoute, path: Path, findings: Findings): void {
  const timeout = checkDuration(route.timeout, [...path, 'timeout'], 0, findings)
  checkRetries(route.retries, [...path, 'retries'], timeout, findings)
  for (const [index, match] of (route.match ?? []).entries())
    checkMatch(match, [...path, 'match', index], findings)
}

function checkRetries(
  retries: Retries | undefined,
  path: Path,
  timeout: number | null,
  findings: Findings,
): void {
  if (retries === undefined) return
  const { attempts } = retries
  if (attempts !== undefined && (attempts < 0 || attempts > 100)) {
    findings.error([...path, 'attempts'], 'must be from 0 to 100')
  }
  const each = checkDuration(retries.perTryTimeout, [...path, 'perTryTimeout'], 1, findings)
  if (each !== null && timeout !== null && timeout > 0 && each > timeout) {
    findings.warn([...path, 'perTryTimeout'], 'is longer than the timeout of the whole request')
  }
  for (const raw of retries.retryOn?.split(',') ?? []) {
    const word = raw.trim()
    if (retryWords.some((known) => known === word) || /^[1-5]\d\d$/.test(word)) continue
    const hint = didYouMean(word, retryWords) ?? `one of ${retryWords.join(', ')} or a status`
    findings.error([...path, 'retryOn'], `"${word}" is not honoured yet`, hint)
  }
}

const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/

function checkMatch(match: HttpMatch, path: Path, findings: Findings): void {
  checkPort(match.port, [...path, 'port'], findings)
  for (const field of ['uri', 'method', 'authority'] as const) {
    checkString(match[field], [...path, field], false, findings)
  }
  const start = match.uri?.exact ?? match.uri?.prefix
  if (start !== undefined && !start.startsWith('/'))
    findings.warn([...path, 'uri'], `"${start}" does not begin with /: it never matches`)
  const method = match.method?.exact
  if (method !== undefined && method !== method.toUpperCase()) {
    findings.warn([...path, 'method'], `"${method}": methods are upper case; it never matches`)
  }
  for (const field of ['headers', 'withoutHeaders'] as const) {
    for (const [name, value] of Object.entries(match[field] ?? {})) {
      const at = [...path, field, name]
      if (name.startsWith(':'))
        findings.error(at, 'pseudo headers are not honoured', 'match authority, method or uri')
      else if (!token.test(name)) findings.error(at, 'is no header name')
      checkString(value, at, true, findings)
    }
  }
  for (const [name, value] of Object.entries(match.queryParams ?? {})) {
    checkString(value, [...path, 'queryParams', name], true, findings)
  }
}

function checkString(
  match: MatchString | undefined,
  path: Path,
  mayBeEmpty: boolean,
  findings: Findings,
): void {
  if (match === undefined) return
  const given = Object.keys(match)
  if (given.length > 1) findings.error(path, `${given.join(' and ')} exclude each other`)
  if (given.length === 0 && !mayBeEmpty) findings.error(path, 'needs exact, prefix or regex')
  if (match.regex === undefined) return
  try {
    // As the proxy will: what only it refused would keep every later change of the config out too.
    compileExpression(match.regex)
  } catch (error) {
    findings.error(
      [...path, 'regex'],
      `does not compile: ${String(error)
        .replace(/^.*?: /, '')
        .replace(/^[A-Z]/, (first) => first.toLowerCase())}`,
    )
  }
}
