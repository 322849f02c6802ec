// Conditions of HTTP routes: Istio's fields → the snapshot's.
import type { HttpMatch, MatchString } from '../model/resource.ts'
import type { RouteMatch, StringMatch } from '../snapshot/types.ts'
import { compareText } from './hosts.ts'

export function matchOf(match: HttpMatch): RouteMatch {
  return {
    path: stringOf(match.uri),
    method: stringOf(match.method),
    authority: stringOf(match.authority),
    headers: named(match.headers, true),
    withoutHeaders: named(match.withoutHeaders, true),
    queryParams: named(match.queryParams, false),
    ignoreUriCase: match.ignoreUriCase ?? false,
  }
}

/** A match that only names the port, or nothing, holds for every request. */
export function matchesAll(match: RouteMatch): boolean {
  const lists = [match.headers, match.withoutHeaders, match.queryParams]
  const anyPath = match.path === null || (match.path.kind === 'prefix' && match.path.value === '/')
  return (
    anyPath && match.method === null && match.authority === null && lists.every((item) => item.length === 0)
  )
}

function named(
  matches: Readonly<Record<string, MatchString>> | undefined,
  lowercase: boolean,
): { name: string; match: StringMatch }[] {
  return Object.entries(matches ?? {})
    .map(([name, match]) => ({
      name: lowercase ? name.toLowerCase() : name,
      match: stringOf(match) ?? { kind: 'present' as const, value: '' },
    }))
    .toSorted((a, b) => compareText(a.name, b.name))
}

/** Null where the resource asks nothing of it. */
function stringOf(match: MatchString | undefined): StringMatch | null {
  if (match?.exact !== undefined) return { kind: 'exact', value: match.exact }
  if (match?.prefix !== undefined) return { kind: 'prefix', value: match.prefix }
  if (match?.regex !== undefined) return { kind: 'regex', value: match.regex }
  return null
}
