// One measurement: CPU time of the proxies, rate and latencies of the load, memory.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { cores, type Place, tree } from './place.ts'

export interface Load {
  readonly requests: number
  readonly rps: number
  readonly p50_ms: number
  readonly p99_ms: number
  readonly p999_ms: number
}

const ticks = 100 // USER_HZ; the same on every Linux that Node runs on

/** User and system time of process trees, microseconds, all threads and children that still live. */
export function cpu(pids: readonly number[]): number {
  let used = 0
  for (const pid of pids.flatMap(tree)) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      used += Number(fields[11]) + Number(fields[12])
    } catch {
      // ended meanwhile
    }
  }
  return (used / ticks) * 1e6
}

/** Resident memory of process trees, megabytes. */
export function rss(pids: readonly number[]): number {
  let kilobytes = 0
  for (const pid of pids.flatMap(tree)) {
    try {
      kilobytes += Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0)
    } catch {
      // ended meanwhile
    }
  }
  return kilobytes / 1024
}

// wrk's own report has no 99.9th percentile and mixes units.
const report = `
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('{"requests":%d,"us":%d,"p50":%d,"p99":%d,"p999":%d,"errors":%d}\\n', summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9), e.connect + e.read + e.write + e.status + e.timeout))
end
`

/** Keep-alive load from the client's side. Any error spoils the measurement, so it throws. */
export function load(place: Place, url: string, connections: number, seconds: number): Load {
  const script = place.file('report.lua', report)
  const text = place.run(
    'client',
    cores.load,
    'wrk',
    '-t1',
    `-c${connections}`,
    `-d${seconds}s`,
    '-s',
    script,
    url,
  )
  const line = text.split('\n').find((one) => one.startsWith('{'))
  if (line === undefined) throw new Error(`wrk gave no report: ${text}`)
  const said = JSON.parse(line) as Record<'requests' | 'us' | 'p50' | 'p99' | 'p999' | 'errors', number>
  if (said.errors > 0)
    throw new Error(`${said.errors} of ${said.requests} requests to ${url} failed; see ${join(place.dir)}`)
  return {
    requests: said.requests,
    rps: said.requests / (said.us / 1e6),
    p50_ms: said.p50 / 1000,
    p99_ms: said.p99 / 1000,
    p999_ms: said.p999 / 1000,
  }
}
