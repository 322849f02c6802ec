// TLS server names in routes: `db.example.com`, `*.example.com` for every name below it, `*` for everything.
import type { Findings } from './findings.ts'
import type { TlsRoute } from './resource.ts'
import type { Path } from './text.ts'

const label = '[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?'
const pattern = new RegExp(`^(?:\\*|(?:\\*\\.)?${label}(?:\\.${label})*)$`, 'i')

export function isServerName(text: string): boolean {
  return text.length <= 253 && pattern.test(text)
}

/** Whether every name that `narrow` stands for is one of `wide`'s. */
export function covers(wide: string, narrow: string): boolean {
  const [a, b] = [wide.toLowerCase(), narrow.toLowerCase()]
  if (a === '*' || a === b) return true
  return a.startsWith('*.') && b.endsWith(a.slice(1)) && b.length > a.length - 1
}

/** Every rule must say its names, well formed; a name that an earlier rule takes already is warned of. */
export function checkServerNames(routes: readonly TlsRoute[], findings: Findings): void {
  const earlier: { host: string; port: number | undefined; at: number }[] = []
  for (const [at, route] of routes.entries()) {
    const path: Path = ['spec', 'tls', at, 'match']
    // The schema lets the lists be empty.
    if (route.match.length === 0) findings.error(path, 'needs at least one match', 'sniHosts: ["*"]')
    const own: typeof earlier = []
    for (const [index, { sniHosts, port }] of route.match.entries()) {
      const names: Path = [...path, index, 'sniHosts']
      if (sniHosts.length === 0) findings.error(names, 'needs at least one server name', '"*" takes all')
      for (const [place, host] of sniHosts.entries()) {
        if (!isServerName(host)) {
          const hint = 'write db.example.com, *.example.com or *'
          findings.error([...names, place], `"${host}" is no server name`, hint)
          continue
        }
        const taken = earlier.find(
          (other) => (other.port === undefined || other.port === port) && covers(other.host, host),
        )
        if (taken !== undefined) {
          const hint = `put it before spec.tls[${taken.at}]`
          findings.warn([...names, place], `"${host}" is never used: "${taken.host}" above takes it`, hint)
        }
        own.push({ host, port, at })
      }
    }
    earlier.push(...own)
  }
}
