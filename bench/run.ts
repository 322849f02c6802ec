// Measures scenarios: all systems of one are up at once and are loaded in turn, round after round. What cannot be
// measured is said, left out, and the rest goes on.
import { cpu, rss } from './measure.ts'
import type { Place } from './place.ts'
import type { Run } from './report.ts'
import type { Backend, Scenario } from './scenario/scenario.ts'
import { startDirect } from './system/direct.ts'
import { startEnvoy } from './system/envoy.ts'
import { startFloor } from './system/floor.ts'
import { startHaproxy } from './system/haproxy.ts'
import { startMeshctl } from './system/meshctl.ts'
import { startNginx } from './system/nginx.ts'
import type { Hop, Setting, System, SystemName } from './system/system.ts'

export interface Plan {
  readonly place: Place
  readonly secrets: Setting['secrets']
  readonly rounds: number
  readonly seconds: number
  /** The systems that are measured, where a scenario has them. */
  readonly systems: readonly string[]
  /** What all peers that can choose speak between their hops; null: what each scenario says. */
  readonly hop: Hop | 'both' | null
  readonly say: (line: string) => void
  /** Told of what is not measured, and why. */
  readonly without: (scenario: string, system: string, why: unknown) => void
}

/** The floor is measured only where it is asked for. */
export const systemNames = [
  'direct',
  'meshctl',
  'nginx',
  'haproxy',
  'envoy',
  'floor',
] as const satisfies readonly SystemName[]

interface Entry {
  readonly scenario: Scenario
  readonly label: string
  readonly system: System
}

/** Scenarios whose rounds are shared, with the systems of each. */
interface Group {
  readonly lead: Scenario
  readonly parts: readonly { readonly scenario: Scenario; readonly systems: readonly SystemName[] }[]
}

const warmSeconds = 3

export function groupsOf(asked: readonly Scenario[]): Group[] {
  const groups: Group[] = []
  for (const scenario of asked) {
    const { beside } = scenario
    if (beside === undefined) {
      const riders = asked.filter((other) => other.beside === scenario)
      groups.push({
        lead: scenario,
        parts: [
          { scenario, systems: systemNames },
          ...riders.map((rider) => ({ scenario: rider, systems: ['meshctl'] as const })),
        ],
      })
    } else if (!asked.includes(beside)) {
      const systems = ['direct', 'meshctl'] as const
      groups.push({
        lead: beside,
        parts: [
          { scenario: beside, systems },
          { scenario, systems: ['meshctl'] },
        ],
      })
    }
  }
  return groups
}

export async function measureGroup(plan: Plan, { lead, parts }: Group): Promise<Run[]> {
  const { place, say, rounds } = plan
  let backend: Backend
  try {
    backend = lead.backend(place)
  } catch (error) {
    for (const { scenario } of parts) plan.without(scenario.name, 'everything', error)
    return []
  }
  const entries: Entry[] = []
  try {
    for (const { scenario, systems } of parts) {
      for (const name of systems) {
        if (!plan.systems.includes(name)) continue
        for (const { label, hop } of variantsOf(plan, scenario, name)) {
          say(`${scenario.name}: starting ${label}`)
          try {
            const system = await startSystem(plan, scenario, name, backend.port, hop)
            entries.push({ scenario, label, system })
          } catch (error) {
            plan.without(scenario.name, label, error)
          }
        }
      }
    }
    attempt(plan, entries, ({ scenario, label, system }) => {
      say(`${scenario.name}: warming ${label}`)
      scenario.load(place, system.at, warmSeconds, [])
    })
    const runs: Run[] = []
    for (let round = 1; round <= rounds; round++) {
      attempt(plan, entries, (entry) => runs.push(measure(plan, entry, round)))
    }
    return runs
  } finally {
    for (const { system } of entries) system.stop()
    place.end(backend.pids)
  }
}

/** Does something with each; one that fails is left out from then on. */
function attempt(plan: Plan, entries: Entry[], act: (entry: Entry) => void): void {
  const failed: Entry[] = []
  for (const entry of entries) {
    try {
      act(entry)
    } catch (error) {
      plan.without(entry.scenario.name, entry.label, error)
      entry.system.stop()
      failed.push(entry)
    }
  }
  for (const entry of failed) entries.splice(entries.indexOf(entry), 1)
}

function measure({ place, seconds, say }: Plan, { scenario, label, system }: Entry, round: number): Run {
  const { at, pids } = system
  const before = cpu(pids)
  const { count, rps, p50_ms, p99_ms, p999_ms, cpu_us } = scenario.load(place, at, seconds, pids)
  const hops = Math.max(1, pids.length)
  const spent = (cpu_us ?? cpu(pids) - before) / count / hops
  say(
    `${scenario.name} round ${round} ${label}: ${spent.toFixed(1)} µs per ${scenario.per} and hop, ${rps.toFixed(0)}/s`,
  )
  return {
    scenario: scenario.name,
    system: label,
    round,
    cpu_us_per_request: Math.round(spent * 100) / 100,
    rps: Math.round(rps * 10) / 10,
    p50_ms,
    p99_ms,
    p999_ms,
    rss_mb: Math.round((rss(pids) / hops) * 10) / 10,
  }
}

/** A system with what it speaks between its hops: the one way, or both for those that can choose. */
function variantsOf(
  { hop }: Plan,
  { kind, hops }: Scenario,
  name: SystemName,
): readonly { label: string; hop: Hop }[] {
  if (name !== 'haproxy' && name !== 'envoy') return [{ label: name, hop: 'h1' }]
  if (kind === 'grpc' || kind === 'tcp') return [{ label: name, hop: hops[name] }]
  if (hop !== 'both') return [{ label: name, hop: hop ?? hops[name] }]
  return (['h1', 'h2'] as const).map((each) => ({ label: `${name}-${each}`, hop: each }))
}

export function settingOf(
  { place, secrets }: Plan,
  scenario: Scenario,
  backendPort: number,
  hop: Hop,
): Setting {
  const { kind, probe } = scenario
  return { place, secrets, backendPort, kind, hop, probe }
}

export function startSystem(
  plan: Plan,
  scenario: Scenario,
  name: SystemName,
  backendPort: number,
  hop: Hop,
): Promise<System> {
  const setting = settingOf(plan, scenario, backendPort, hop)
  switch (name) {
    case 'direct':
      return startDirect(setting)
    case 'meshctl':
      return startMeshctl(setting, scenario.mesh)
    case 'floor':
      return startFloor(setting)
    case 'nginx':
      return startNginx(setting, plan.say)
    case 'haproxy':
      return startHaproxy(setting, plan.say)
    case 'envoy':
      return startEnvoy(setting, plan.say)
  }
}
