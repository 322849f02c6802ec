// `npm run bench`: two hops of mTLS side by side with other proxies in one run. CPU per request is the figure that
// carries: on a small shared machine the rate is bounded by the load's core.
//   --scenario h1-c32[,…]  --rounds 3  --seconds 5  --json FILE
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { build } from '../scripts/build.ts'
import { ensure } from '../scripts/setup.ts'
import { makeSecrets } from './certs.ts'
import { cpu, load, rss } from './measure.ts'
import { Place } from './place.ts'
import { ratiosOf, type Run, table } from './report.ts'
import { startHaproxy } from './system/haproxy.ts'
import { startMeshctl } from './system/meshctl.ts'
import { startBackend, startNginx } from './system/nginx.ts'
import type { Setting, System } from './system/system.ts'

/** HTTP/1.1 keep-alive, bodies of 1 KB, two hops; connections at once. */
const scenarios: Record<string, { connections: number }> = {
  'h1-c32': { connections: 32 },
  'h1-c256': { connections: 256 },
  'h1-c4': { connections: 4 },
}
const backendPort = 9000
const bodyBytes = 1024
const warmSeconds = 3

const { values } = parseArgs({
  options: {
    scenario: { type: 'string', default: 'h1-c32' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '5' },
    json: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})
const say = (line: string): void => console.error(line)

if (values.help) {
  console.log(
    `npm run bench -- [--scenario ${Object.keys(scenarios).join(',')}] [--rounds 3] [--seconds 5] [--json FILE]`,
  )
} else {
  try {
    await main()
  } catch (error) {
    say(error instanceof Error ? error.message : String(error))
    process.exitCode = 1
  }
}

async function main(): Promise<void> {
  const asked = values.scenario.split(',')
  const unknown = asked.filter((name) => scenarios[name] === undefined)
  if (unknown.length > 0)
    throw new Error(`unknown scenario ${unknown.join(', ')}; known: ${Object.keys(scenarios).join(', ')}`)
  const [rounds, seconds] = [count(values.rounds, '--rounds'), count(values.seconds, '--seconds')]
  ensure('bench', say)
  await build()
  const place = new Place()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      place.close()
      process.exit(130)
    })
  }
  try {
    const runs = await measure(place, asked, rounds, seconds)
    const ratios = ratiosOf(runs)
    console.log(table(runs, ratios))
    if (values.json !== undefined)
      writeFileSync(values.json, `${JSON.stringify({ runs, ratios }, null, 2)}\n`)
  } finally {
    place.close()
  }
}

async function measure(
  place: Place,
  asked: readonly string[],
  rounds: number,
  seconds: number,
): Promise<Run[]> {
  const setting: Setting = { place, secrets: makeSecrets(), backendPort }
  await startBackend(place, backendPort, bodyBytes)
  const systems: System[] = []
  for (const [name, start] of [
    ['meshctl', startMeshctl],
    ['nginx', startNginx],
    ['haproxy', startHaproxy],
  ] as const) {
    try {
      systems.push(await start(setting))
    } catch (error) {
      // A peer that cannot run is left out and named; without ourselves there is nothing to compare.
      if (name === 'meshctl') throw error
      say(`without ${name}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  systems.push({ name: 'direct', url: `http://10.232.0.2:${backendPort}/`, pids: [] })

  const runs: Run[] = []
  for (const scenario of asked) {
    const { connections } = scenarios[scenario] ?? { connections: 1 }
    for (const { name, url } of systems) {
      say(`${scenario}: warming ${name}`)
      load(place, url, connections, warmSeconds)
    }
    for (let round = 1; round <= rounds; round++) {
      for (const { name, url, pids } of systems) {
        const before = cpu(pids)
        const { requests, rps, p50_ms, p99_ms, p999_ms } = load(place, url, connections, seconds)
        const hops = Math.max(1, pids.length)
        const spent = (cpu(pids) - before) / requests / hops
        runs.push({
          scenario,
          system: name,
          round,
          cpu_us_per_request: Math.round(spent * 100) / 100,
          rps: Math.round(rps),
          p50_ms,
          p99_ms,
          p999_ms,
          rss_mb: Math.round((rss(pids) / hops) * 10) / 10,
        })
        say(
          `${scenario} round ${round} ${name}: ${spent.toFixed(1)} µs per request and hop, ${rps.toFixed(0)}/s`,
        )
      }
    }
  }
  return runs
}

function count(text: string, flag: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1) throw new Error(`${flag} must be a whole number from 1`)
  return value
}
