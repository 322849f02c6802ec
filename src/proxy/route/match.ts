// Predicates of routes, compiled once at link: an array of small tests, the cheapest first.
import { MeshError, reason } from '../../errors.ts'
import { compileExpression } from '../../net/expression.ts'
import type { RouteMatch, StringMatch } from '../../snapshot/types.ts'
import type { Headers } from '../chain/ends.ts'
import type { Exchange } from '../chain/exchange.ts'

export type Predicate = (x: Exchange, head: Headers) => boolean
type Test = (value: string) => boolean

/** Any of the matches; null where that is always so. Throws MSH0701 for an expression that cannot be compiled. */
export function compileMatches(matches: readonly RouteMatch[]): Predicate | null {
  const any: Predicate[] = []
  for (const match of matches) {
    const all = compileMatch(match)
    if (all.length === 0) return null
    any.push(all.length === 1 ? all[0]! : (x, head) => all.every((test) => test(x, head)))
  }
  if (any.length === 0) return null
  return any.length === 1 ? any[0]! : (x, head) => any.some((test) => test(x, head))
}

function compileMatch(match: RouteMatch): Predicate[] {
  const all: Predicate[] = []
  if (match.method !== null) {
    const test = compileString(match.method)
    all.push((x) => test(x.method))
  }
  if (match.path !== null) {
    const test = compileString(match.path, match.ignoreUriCase)
    all.push((x) => test(pathOf(x.path)))
  }
  if (match.authority !== null) {
    const test = compileString(match.authority)
    all.push((x) => test(x.authority))
  }
  for (const { name, match: value } of match.headers) {
    const test = compileString(value)
    all.push((_x, head) => {
      const given = head.get(name)
      return given !== undefined && test(given)
    })
  }
  for (const { name, match: value } of match.withoutHeaders) {
    const test = compileString(value)
    all.push((_x, head) => {
      const given = head.get(name)
      return given === undefined || !test(given)
    })
  }
  for (const { name, match: value } of match.queryParams) {
    const test = compileString(value)
    all.push((x) => {
      const given = queryParameter(x.path, name)
      return given !== null && test(given)
    })
  }
  return all
}

export function compileString(match: StringMatch, ignoreCase: boolean = false): Test {
  const { kind } = match
  const value = ignoreCase && kind !== 'regex' ? match.value.toLowerCase() : match.value
  switch (kind) {
    case 'present':
      return () => true
    case 'exact':
      return ignoreCase ? (given) => given.toLowerCase() === value : (given) => given === value
    case 'prefix':
      return ignoreCase
        ? (given) => given.toLowerCase().startsWith(value)
        : (given) => given.startsWith(value)
    case 'regex':
      // Istio ignores case for exact and prefix only.
      return compileRegex(value)
  }
}

function compileRegex(source: string): Test {
  try {
    return compileExpression(source)
  } catch (error) {
    throw new MeshError(
      'MSH0701',
      `the expression ${JSON.stringify(source)} cannot be used: ${reason(error)}`,
    )
  }
}

/** The path of a request target, without its query. */
export function pathOf(target: string): string {
  const mark = target.indexOf('?')
  return mark < 0 ? target : target.slice(0, mark)
}

/** The first value of a parameter, decoded; null: not there. */
function queryParameter(target: string, name: string): string | null {
  const mark = target.indexOf('?')
  return mark < 0 ? null : new URLSearchParams(target.slice(mark + 1)).get(name)
}
