// HTTP/1.1 as fast as it goes, by wrk: each connection sends its next request when it has its answer.
import { cores, type Place } from '../place.ts'
import type { Load } from '../scenario/scenario.ts'
import type { At } from '../system/system.ts'

export interface WrkOptions {
  readonly connections: number
  /** `Connection: close`: a new connection for each request. */
  readonly isClosing?: boolean
  /** Bytes of a POST's body; none: GET. */
  readonly bodyBytes?: number
}

// wrk's own report has no 99.9th percentile and mixes units.
const report = `
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('{"requests":%d,"us":%d,"p50":%d,"p99":%d,"p999":%d,"errors":%d}\\n', summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9), e.connect + e.read + e.write + e.status + e.timeout))
end
`

export function wrk(place: Place, { host, port }: At, seconds: number, options: WrkOptions): Load {
  const { connections, isClosing = false, bodyBytes } = options
  const post =
    bodyBytes === undefined ? '' : `wrk.method = 'POST'\nwrk.body = string.rep('x', ${bodyBytes})\n`
  const script = place.file('wrk.lua', post + report)
  const url = `http://${host}:${port}/`
  const headers = isClosing ? ['-H', 'Connection: close'] : []
  const text = place.run(
    'client',
    cores.load,
    'wrk',
    '-t1',
    `-c${connections}`,
    `-d${seconds}s`,
    '--timeout',
    '20s',
    '-s',
    script,
    ...headers,
    url,
  )
  const line = text.split('\n').find((one) => one.startsWith('{'))
  if (line === undefined) throw new Error(`wrk gave no report: ${text}`)
  const said = JSON.parse(line) as Record<'requests' | 'us' | 'p50' | 'p99' | 'p999' | 'errors', number>
  if (said.errors > 0 || said.requests === 0)
    throw new Error(`${said.errors} errors in ${said.requests} requests to ${url}`)
  return {
    count: said.requests,
    rps: said.requests / (said.us / 1e6),
    p50_ms: said.p50 / 1000,
    p99_ms: said.p99 / 1000,
    p999_ms: said.p999 / 1000,
  }
}
