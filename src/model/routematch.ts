// Matches of a route rule as people write them in flags and read them in tables.
import { MeshError } from '../errors.ts'
import type { HttpMatch, HttpRoute, MatchString, RouteDestination, TlsRoute } from './resource.ts'

export interface MatchFlags {
  readonly path?: string | undefined
  readonly pathPrefix?: string | undefined
  readonly pathRegex?: string | undefined
  readonly method?: string | undefined
  readonly authority?: string | undefined
  readonly header?: readonly string[] | undefined
  readonly withoutHeader?: readonly string[] | undefined
  readonly query?: readonly string[] | undefined
  readonly port?: number | undefined
}

/** Null: no match flag was given. Throws MSH0101. */
export function readMatch(flags: MatchFlags): HttpMatch | null {
  const paths: MatchString[] = []
  if (flags.path !== undefined) paths.push({ exact: flags.path })
  if (flags.pathPrefix !== undefined) paths.push({ prefix: flags.pathPrefix })
  if (flags.pathRegex !== undefined) paths.push({ regex: flags.pathRegex })
  if (paths.length > 1)
    throw new MeshError('MSH0101', '--path, --path-prefix and --path-regex exclude each other')
  const headers = readPairs(flags.header ?? [], true)
  const withoutHeaders = readPairs(flags.withoutHeader ?? [], true)
  const queryParams = readPairs(flags.query ?? [], false)
  const match: HttpMatch = {
    ...(paths[0] === undefined ? {} : { uri: paths[0] }),
    ...(flags.method === undefined ? {} : { method: { exact: flags.method.toUpperCase() } }),
    ...(flags.authority === undefined ? {} : { authority: { exact: flags.authority } }),
    ...(headers === null ? {} : { headers }),
    ...(withoutHeaders === null ? {} : { withoutHeaders }),
    ...(queryParams === null ? {} : { queryParams }),
    ...(flags.port === undefined ? {} : { port: flags.port }),
  }
  return Object.keys(match).length === 0 ? null : match
}

// `name=value`, `name^=prefix`, `name~=regex`, `name` (present)
function readPairs(pairs: readonly string[], lower: boolean): Record<string, MatchString> | null {
  if (pairs.length === 0) return null
  const found: Record<string, MatchString> = {}
  for (const pair of pairs) {
    const parts = /^([^=~^]+)(?:(=|\^=|~=)([\s\S]*))?$/.exec(pair)
    if (parts === null) {
      throw new MeshError('MSH0101', `"${pair}" is no match`, {
        hint: 'write name=value, name^=prefix, name~=regex or name',
      })
    }
    const [, written = '', operator, value = ''] = parts
    const name = lower ? written.toLowerCase() : written
    if (operator === undefined) found[name] = {}
    else if (operator === '^=') found[name] = { prefix: value }
    else if (operator === '~=') found[name] = { regex: value }
    else found[name] = { exact: value }
  }
  return found
}

/** The same text for the same match, whatever the order of its keys. The rule's own name does not count. */
export function canonicalMatch(match: HttpMatch): string {
  const sort = (value: unknown): unknown =>
    typeof value === 'object' && value !== null
      ? Object.fromEntries(
          Object.entries(value)
            .toSorted(([a], [b]) => (a < b ? -1 : 1))
            .map(([key, inner]) => [key, sort(inner)]),
        )
      : value
  const { name: _, ...rest } = match
  return JSON.stringify(sort(rest))
}

/** `path /api* method GET x-canary=true`; `*` for everything. */
export function printMatch(route: HttpRoute): string {
  if (route.match === undefined || route.match.length === 0) return '*'
  return route.match.map(printOne).join(' or ')
}

/** `sni *.example.com`, `sni a,b port 443`. */
export function printNames({ match }: TlsRoute): string {
  return match
    .map(({ sniHosts, port }) => `sni ${sniHosts.join(',')}${port === undefined ? '' : ` port ${port}`}`)
    .join(' or ')
}

function printOne(match: HttpMatch): string {
  const parts: string[] = []
  if (match.uri !== undefined) parts.push(`path ${printString(match.uri)}`)
  if (match.method !== undefined) parts.push(`method ${printString(match.method)}`)
  if (match.authority !== undefined) parts.push(`host ${printString(match.authority)}`)
  const pairs = (record: Readonly<Record<string, MatchString>> | undefined, mark: string): void => {
    for (const [name, value] of Object.entries(record ?? {})) parts.push(`${mark}${name}${printPair(value)}`)
  }
  pairs(match.headers, '')
  pairs(match.withoutHeaders, '!')
  pairs(match.queryParams, '?')
  if (match.port !== undefined) parts.push(`port ${match.port}`)
  return parts.length === 0 ? '*' : parts.join(' ')
}

function printString(match: MatchString): string {
  if (match.prefix !== undefined) return `${match.prefix}*`
  if (match.regex !== undefined) return `~${match.regex}`
  return match.exact ?? '*'
}

function printPair(match: MatchString): string {
  if (match.exact !== undefined) return `=${match.exact}`
  if (match.prefix !== undefined) return `^=${match.prefix}`
  return match.regex === undefined ? '' : `~=${match.regex}`
}

/** `v1=90 v2=10`; the service's name where there is no subset. */
export function printDestinations(routes: readonly RouteDestination[] | undefined): string {
  const all = routes ?? []
  return all
    .map(({ destination, weight }) => {
      const name = destination.subset ?? destination.host
      return all.length === 1 ? name : `${name}=${weight ?? 0}`
    })
    .join(' ')
}

/** `v1=90,v2=10`, or `v1` alone. Throws MSH0101 naming the part. */
export function readSplit(text: string): { version: string; weight: number }[] {
  const found: { version: string; weight: number }[] = []
  const parts = text.split(',').map((part) => part.trim())
  for (const part of parts) {
    const cut = part.indexOf('=')
    const version = cut < 0 ? part : part.slice(0, cut)
    const written = cut < 0 ? '' : part.slice(cut + 1).replace(/%$/, '')
    const weight = cut < 0 && parts.length === 1 ? 100 : Number(written === '' ? Number.NaN : written)
    if (version === '' || !Number.isInteger(weight) || weight < 0 || weight > 1_000_000) {
      throw new MeshError('MSH0101', `--to "${part}": write version=weight, weights are whole numbers`, {
        hint: '--to v1=90,v2=10',
      })
    }
    if (found.some((other) => other.version === version)) {
      throw new MeshError('MSH0101', `--to names ${version} twice`)
    }
    found.push({ version, weight })
  }
  if (found.every(({ weight }) => weight === 0)) {
    throw new MeshError('MSH0101', '--to: the weights sum to 0: nothing would be routed')
  }
  return found
}
