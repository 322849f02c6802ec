// The rules by server name that `route set --sni` writes and `route unset --sni` takes out.
import type { RouteDestination, TlsRoute } from './resource.ts'
import { covers } from './servername.ts'

/** The rule for exactly these names (in any order) with new destinations; a new one goes before what would take them. */
export function changeTls(
  sniHosts: readonly string[],
  to: readonly RouteDestination[],
  whole: RouteDestination,
  routes: readonly TlsRoute[],
): TlsRoute[] {
  const at = findTls(sniHosts, routes)
  const old = routes[at]
  if (old !== undefined) return routes.toSpliced(at, 1, { ...old, route: to })
  const fresh: TlsRoute = { match: [{ sniHosts }], route: to }
  const taker = routes.findIndex((route) =>
    namesOf(route).some((wide) => sniHosts.some((narrow) => covers(wide, narrow))),
  )
  if (taker >= 0) return routes.toSpliced(taker, 0, fresh)
  // What names another server must still arrive.
  if (routes.length === 0 && !sniHosts.includes('*')) {
    return [fresh, { match: [{ sniHosts: ['*'] }], route: [whole] }]
  }
  return [...routes, fresh]
}

/** -1: there is none. */
export function findTls(sniHosts: readonly string[], routes: readonly TlsRoute[]): number {
  const wanted = key(sniHosts)
  return routes.findIndex((route) => route.match.length === 1 && key(namesOf(route)) === wanted)
}

function namesOf(route: TlsRoute): string[] {
  return route.match.flatMap((match) => match.sniHosts)
}

function key(sniHosts: readonly string[]): string {
  return [...new Set(sniHosts.map((host) => host.toLowerCase()))].toSorted().join(' ')
}
