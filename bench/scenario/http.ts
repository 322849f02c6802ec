// HTTP/1.1: many small exchanges, and large bodies both ways.
import { startBodies } from '../backend/own.ts'
import { smallBytes, startSmall } from '../backend/small.ts'
import { generated } from '../load/program.ts'
import { wrk } from '../load/wrk.ts'
import { cores, type Place } from '../place.ts'
import type { At } from '../system/system.ts'
import type { Scenario } from './scenario.ts'

/** One GET that is answered with the whole small body. */
export function probeSmall(place: Place, { host, port }: At): void {
  curl(place, `http://${host}:${port}/`, smallBytes)
}

function curl(place: Place, url: string, bytes: number, ...more: string[]): void {
  const wanted = `200 ${bytes}`
  const flags = ['-s', '-S', '-m', '5', '-o', '/dev/null', '-w', '%{http_code} %{size_download}']
  const said = place.run('client', cores.load, 'curl', ...flags, ...more, url)
  if (said !== wanted) throw new Error(`${url} answered ${said} instead of ${wanted}`)
}

function small(
  name: string,
  connections: number,
  hops: Scenario['hops'],
  bars: Scenario['bars'],
  isClosing: boolean = false,
): Scenario {
  return {
    name,
    per: 'request',
    kind: 'http',
    hops,
    bars,
    backend: startSmall,
    probe: probeSmall,
    load: (place, at, seconds) => wrk(place, at, seconds, { connections, isClosing }),
  }
}

function bodies(name: string, bodyBytes: number, connections: number): Scenario {
  return {
    name,
    per: 'request',
    kind: 'http',
    hops: { haproxy: 'h1', envoy: 'h1' },
    bars: { best: 1.1 },
    backend: (place) => startBodies(place, bodyBytes),
    probe: (place, { host, port }) => {
      const file = place.file('body', 'x'.repeat(bodyBytes))
      const post = [
        '-H',
        'content-type: application/octet-stream',
        '-H',
        'expect:',
        '--data-binary',
        `@${file}`,
      ]
      curl(place, `http://${host}:${port}/`, bodyBytes, ...post)
    },
    load: (place, at, seconds) => wrk(place, at, seconds, { connections, bodyBytes }),
  }
}

export const c32: Scenario = small('h1-c32', 32, { haproxy: 'h2', envoy: 'h2' }, { best: 0.8, envoy: 0.4 })

const rate: Scenario = {
  ...small('h1-1krps', 16, { haproxy: 'h1', envoy: 'h2' }, { best: 1.1, p99: true }),
  load: (place, at, seconds, pids) => generated(place, 'rate', at, pids, 1000, 16, seconds),
}

/** The mesh has a thousand routes, ten of them of the service that is called, and five thousand endpoints. */
export const bigMesh = { services: 100, routes: 10, endpoints: 50 } as const

export const httpScenarios: readonly Scenario[] = [
  c32,
  small('h1-c256', 256, { haproxy: 'h2', envoy: 'h2' }, { best: 0.6, envoy: 0.35, p99: true }),
  small('h1-c4', 4, { haproxy: 'h1', envoy: 'h2' }, { best: 1.1, p99: true }),
  rate,
  bodies('body-64k', 65_536, 32),
  bodies('body-1m', 1_048_576, 8),
  small('connect', 32, { haproxy: 'h2', envoy: 'h2' }, { best: 1.2 }, true),
  { ...c32, name: 'config', bars: { ours: 1.05 }, beside: c32, mesh: { others: bigMesh } },
]
