// `npm run bench`: two hops of mTLS side by side with other proxies in one run. CPU per request is the figure that
// carries: on a small shared machine the rate is bounded by the load's core. docs/performance.md has the method.
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { build } from '../scripts/build.ts'
import { ensure } from '../scripts/setup.ts'
import { makeSecrets } from './certs.ts'
import { Place } from './place.ts'
import { details, ratiosOf, type Run, table } from './report.ts'
import { groupsOf, measureGroup, type Plan, systemNames } from './run.ts'
import { grpcScenario } from './scenario/grpc.ts'
import { httpScenarios } from './scenario/http.ts'
import { measureMemory } from './scenario/memory.ts'
import type { Scenario } from './scenario/scenario.ts'
import { tcpScenario, websocketScenario } from './scenario/stream.ts'
import { measureUpdate } from './scenario/update.ts'
import { verdicts } from './verdict.ts'

const scenarios: readonly Scenario[] = [...httpScenarios, grpcScenario, tcpScenario, websocketScenario]
/** Those that are no load and have their own way to be measured. */
const apart: Readonly<Record<string, (plan: Plan) => Promise<Run[]>>> = {
  memory: measureMemory,
  update: measureUpdate,
}
const names = [...scenarios.map(({ name }) => name), ...Object.keys(apart)]

const usage = `npm run bench -- [options]

  --scenario NAME[,NAME]  ${names.join(' ')}
                          or all; default h1-c32
  --rounds N              default 3
  --seconds N             of each measurement; default 5
  --json FILE             also write all measurements and ratios there
  --system NAME[,NAME]    ${systemNames.join(' ')};
                          default all but floor, which only carries bytes
  --hop h1|h2|both        what HAProxy and Envoy speak between their hops;
                          default: the faster of the two in each scenario`

const { values } = parseArgs({
  options: {
    scenario: { type: 'string', default: 'h1-c32' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '5' },
    json: { type: 'string' },
    system: { type: 'string' },
    hop: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})
const say = (line: string): void => console.error(line)

if (values.help) {
  console.log(usage)
} else {
  try {
    await main()
  } catch (error) {
    say(error instanceof Error ? error.message : String(error))
    process.exitCode = 1
  }
}

async function main(): Promise<void> {
  const asked = values.scenario === 'all' ? names : chosen('scenario', values.scenario, names)
  const systems =
    values.system === undefined
      ? systemNames.filter((name) => name !== 'floor')
      : chosen('system', values.system, systemNames)
  const [rounds, seconds] = [count(values.rounds, '--rounds'), count(values.seconds, '--seconds')]
  const { hop } = values
  if (hop !== undefined && hop !== 'h1' && hop !== 'h2' && hop !== 'both')
    throw new Error('--hop must be h1, h2 or both')
  ensure('bench', say)
  await build()
  const place = new Place()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      place.close()
      process.exit(130)
    })
  }
  const missing: string[] = []
  const plan: Plan = {
    place,
    secrets: makeSecrets(),
    rounds,
    seconds,
    systems,
    hop: hop ?? null,
    say,
    without(scenario, system, why) {
      const line = `${scenario} without ${system}: ${why instanceof Error ? why.message : String(why)}`
      say(line)
      missing.push(line)
    },
  }
  const runs: Run[] = []
  try {
    for (const group of groupsOf(scenarios.filter(({ name }) => asked.includes(name)))) {
      runs.push(...(await measureGroup(plan, group)))
    }
    for (const [name, measure] of Object.entries(apart)) {
      if (asked.includes(name)) runs.push(...(await measure(plan)))
    }
  } finally {
    place.close()
  }
  const beside = new Map(
    scenarios.flatMap(({ name, beside: other }) => (other === undefined ? [] : [[name, other.name]])),
  )
  const ratios = ratiosOf(runs, beside)
  const units = scenarios.flatMap(({ name, per }) => {
    return per === 'request' || !asked.includes(name) ? [] : [`${name}: CPU and rate are per ${per}`]
  })
  const parts = [
    [table(runs, ratios), ...units],
    details(runs),
    verdicts(runs, ratios, scenarios),
    missing.map((line) => `not measured: ${line}`),
  ]
  console.log(
    parts
      .filter((lines) => lines.length > 0)
      .map((lines) => lines.join('\n'))
      .join('\n\n'),
  )
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ runs, ratios }, null, 2)}\n`)
}

function chosen(what: string, text: string, known: readonly string[]): string[] {
  const asked = text.split(',')
  const unknown = asked.filter((name) => !known.includes(name))
  if (unknown.length > 0) throw new Error(`unknown ${what} ${unknown.join(', ')}; known: ${known.join(', ')}`)
  return asked
}

function count(text: string, flag: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1) throw new Error(`${flag} must be a whole number from 1`)
  return value
}
