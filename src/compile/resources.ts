// Reads objects of the registry into the resources of model/resource.ts. Whoever can write the registry could have put
// anything there, and a newer release may honour fields that this one does not: an object is taken whole or left out
// whole, because half of a route is another route.
import { isRecord } from '../model/problem.ts'
import { parseDuration } from '../model/duration.ts'
import { isName } from '../model/name.ts'
import type { DestinationRule, MatchString, Resource, VirtualService } from '../model/resource.ts'
import { isServerName } from '../model/servername.ts'
import { compileExpression } from '../net/expression.ts'
import { canonical } from '../snapshot/hash.ts'
import { compareText } from './hosts.ts'
import type { CompileProblem } from './input.ts'

export interface ReadResources {
  /** Sorted by namespace and name. */
  readonly virtualServices: readonly VirtualService[]
  readonly destinationRules: readonly DestinationRule[]
  readonly problems: readonly CompileProblem[]
}

/** A shape: returns the fault (with its path) or null. */
type Shape = (value: unknown, path: string) => string | null

export function readResources(objects: readonly unknown[]): ReadResources {
  const virtualServices: VirtualService[] = []
  const destinationRules: DestinationRule[] = []
  const problems: CompileProblem[] = []
  const seen = new Set<string>()
  const sorted = objects.map((object) => ({ object, order: orderOf(object) })).toSorted(byOrder)
  for (const { object, order } of sorted) {
    const where = `${order.kind} ${order.namespace}/${order.name}`
    const fault = seen.has(where) ? 'a second object of this name' : resource(object, '')
    if (fault !== null) {
      problems.push({ where, message: `skipped: ${fault}` })
      continue
    }
    seen.add(where)
    // The shapes below are those of model/resource.ts; nothing else passes.
    const read = withNamespace(object as Resource, order.namespace)
    if (read.kind === 'VirtualService') virtualServices.push(read)
    else destinationRules.push(read)
  }
  return { virtualServices, destinationRules, problems }
}

function orderOf(object: unknown): { kind: string; namespace: string; name: string; bytes: string } {
  const top = isRecord(object) ? object : {}
  const metadata = isRecord(top['metadata']) ? top['metadata'] : {}
  const text = (value: unknown, otherwise: string): string => (typeof value === 'string' ? value : otherwise)
  return {
    kind: text(top['kind'], 'object'),
    namespace: text(metadata['namespace'], 'default'),
    name: text(metadata['name'], '?'),
    bytes: canonical(object ?? null),
  }
}

function byOrder(a: { order: ReturnType<typeof orderOf> }, b: { order: ReturnType<typeof orderOf> }): number {
  return (
    compareText(a.order.namespace, b.order.namespace) ||
    compareText(a.order.name, b.order.name) ||
    compareText(a.order.kind, b.order.kind) ||
    compareText(a.order.bytes, b.order.bytes)
  )
}

function withNamespace<T extends Resource>(object: T, namespace: string): T {
  return { ...object, metadata: { ...object.metadata, namespace } }
}

// --- shapes

const string: Shape = (value, path) => (typeof value === 'string' ? null : `${path} must be a string`)
const boolean: Shape = (value, path) => (typeof value === 'boolean' ? null : `${path} must be true or false`)
const name: Shape = (value, path) =>
  typeof value === 'string' && isName(value) ? null : `${path} must be a name`
const sniHost: Shape = (value, path) =>
  typeof value === 'string' && isServerName(value) ? null : `${path} must be a server name`
const duration: Shape = (value, path) =>
  typeof value === 'string' && parseDuration(value) !== null ? null : `${path} must be a duration like 2s`

function integer(low: number, high: number): Shape {
  return (value, path) =>
    Number.isInteger(value) && Number(value) >= low && Number(value) <= high
      ? null
      : `${path} must be a whole number from ${low} to ${high}`
}

function oneOf(...words: string[]): Shape {
  return (value, path) =>
    typeof value === 'string' && words.includes(value) ? null : `${path} must be one of ${words.join(', ')}`
}

/** A closed object: a key that is not listed is a fault; `!` at the end of a key makes it required. */
function object(members: Readonly<Record<string, Shape>>): Shape {
  const shapes = new Map(Object.entries(members).map(([key, shape]) => [key.replace(/!$/, ''), shape]))
  const required = Object.keys(members).flatMap((key) => (key.endsWith('!') ? [key.slice(0, -1)] : []))
  return (value, path) => {
    if (!isRecord(value)) return `${path === '' ? 'it' : path} must be an object`
    for (const key of required) if (value[key] === undefined) return `${join(path, key)} is missing`
    for (const key of Object.keys(value).toSorted(compareText)) {
      const shape = shapes.get(key)
      if (shape === undefined) return `${join(path, key)} is not honoured by this release`
      const fault = value[key] === undefined ? null : shape(value[key], join(path, key))
      if (fault !== null) return fault
    }
    return null
  }
}

function list(item: Shape, least: number = 0): Shape {
  return (value, path) => {
    if (!Array.isArray(value)) return `${path} must be a list`
    if (value.length < least) return `${path} must not be empty`
    return first(value.map((inner: unknown, at) => item(inner, `${path}[${at}]`)))
  }
}

function record(item: Shape): Shape {
  return (value, path) =>
    isRecord(value)
      ? first(
          Object.entries(value)
            .toSorted(([a], [b]) => compareText(a, b))
            .map(([key, inner]) => item(inner, join(path, key))),
        )
      : `${path} must be an object`
}

function first(faults: readonly (string | null)[]): string | null {
  return faults.find((fault) => fault !== null) ?? null
}

function join(path: string, key: string): string {
  return path === '' ? key : `${path}.${key}`
}

const matchString: Shape = (value, path) => {
  const fault = object({ exact: string, prefix: string, regex: string })(value, path)
  if (fault !== null) return fault
  const given = value as MatchString
  if (Object.keys(given).length > 1) return `${path} must hold one of exact, prefix, regex`
  return given.regex === undefined || readable(given.regex) ? null : `${path}.regex cannot be read`
}

function readable(regex: string): boolean {
  try {
    // As the proxy will, which rejects a snapshot whole.
    compileExpression(regex)
    return true
  } catch {
    return false
  }
}

const port = integer(1, 65535)

const destinations = list(
  object({
    'destination!': object({ 'host!': string, subset: string, port: object({ number: port }) }),
    weight: integer(0, 1_000_000),
  }),
  1,
)

const weighted: Shape = (value, path) => {
  const fault = destinations(value, path)
  if (fault !== null || !Array.isArray(value) || value.length < 2) return fault
  const sum = value.reduce((total: number, item: { weight?: number }) => total + (item.weight ?? 0), 0)
  return sum > 0 ? null : `${path} has weights that sum to 0`
}

const httpMatch = object({
  name: string,
  uri: matchString,
  method: matchString,
  authority: matchString,
  headers: record(matchString),
  withoutHeaders: record(matchString),
  queryParams: record(matchString),
  ignoreUriCase: boolean,
  port,
})

const httpRoute = object({
  name: string,
  match: list(httpMatch),
  'route!': weighted,
  timeout: duration,
  retries: object({ attempts: integer(0, 100), perTryTimeout: duration, retryOn: string }),
})

const trafficPolicy = object({
  loadBalancer: object({
    simple: oneOf('LEAST_REQUEST', 'ROUND_ROBIN', 'RANDOM', 'LEAST_CONN', 'UNSPECIFIED'),
  }),
  connectionPool: object({
    tcp: object({ maxConnections: integer(0, 2 ** 31 - 1), connectTimeout: duration }),
    http: object({ http1MaxPendingRequests: integer(0, 2 ** 31 - 1) }),
  }),
  outlierDetection: object({
    consecutive5xxErrors: integer(0, 2 ** 31 - 1),
    consecutiveGatewayErrors: integer(0, 2 ** 31 - 1),
    baseEjectionTime: duration,
    maxEjectionPercent: integer(0, 100),
  }),
})

const metadata = object({
  'name!': name,
  namespace: name,
  labels: record(string),
  annotations: record(string),
})

const virtualService = object({
  apiVersion: string,
  'kind!': oneOf('VirtualService'),
  'metadata!': metadata,
  'spec!': object({
    'hosts!': list(string, 1),
    http: list(httpRoute),
    tls: list(
      object({
        'match!': list(object({ 'sniHosts!': list(sniHost, 1), port }), 1),
        'route!': weighted,
      }),
    ),
    tcp: list(object({ match: list(object({ port })), 'route!': weighted })),
  }),
})

const destinationRule = object({
  apiVersion: string,
  'kind!': oneOf('DestinationRule'),
  'metadata!': metadata,
  'spec!': object({
    'host!': string,
    trafficPolicy,
    subsets: list(object({ 'name!': string, labels: record(string), trafficPolicy })),
  }),
})

const resource: Shape = (value, path) => {
  const kind = isRecord(value) ? value['kind'] : undefined
  if (kind === 'VirtualService') return virtualService(value, path)
  if (kind === 'DestinationRule') return destinationRule(value, path)
  return 'this kind is not honoured by this release'
}
