// The plan's bars beside what was measured.
import { compare, median, type Ratio, type Run } from './report.ts'
import type { Scenario } from './scenario/scenario.ts'

/** One line for each bar of what was measured, and for what the floor leaves of it where that was measured too. */
export function verdicts(
  runs: readonly Run[],
  ratios: readonly Ratio[],
  scenarios: readonly Pick<Scenario, 'name' | 'bars'>[],
): string[] {
  const lines: string[] = []
  const judge = (what: string, value: number, bar: number, unit: string = ''): void => {
    const word = value <= bar ? 'reached' : 'missed'
    lines.push(`${what}: ${value.toFixed(2)}${unit}, bar ${bar}${unit}: ${word}`)
  }
  for (const { name, bars } of scenarios) {
    const own = ratios.filter(({ scenario }) => scenario === name)
    // Our share is largest of the peer that needs least.
    const best = own
      .filter(({ peer }) => peer !== 'meshctl' && peer !== 'floor')
      .toSorted((a, b) => b.median - a.median)[0]
    const envoy = own.find(({ peer }) => peer === 'envoy')
    const ours = own.find(({ peer }) => peer === 'meshctl')
    if (best !== undefined && bars.best !== undefined)
      judge(`${name}, CPU ÷ the best peer's (${best.peer})`, best.median, bars.best)
    const floor = best === undefined ? null : compare(runs, name, 'floor', best.peer)
    if (best !== undefined && floor !== null)
      lines.push(`${name}, the floor's CPU ÷ the best peer's (${best.peer}): ${floor.median.toFixed(2)}`)
    if (envoy !== undefined && bars.envoy !== undefined)
      judge(`${name}, CPU ÷ Envoy's`, envoy.median, bars.envoy)
    if (ours !== undefined && bars.ours !== undefined)
      judge(`${name}, CPU ÷ our own without it`, ours.median, bars.ours)
    const peer = bars.p99 === undefined ? undefined : bestP99(runs, name)
    if (peer !== undefined) judge(`${name}, p99 against ${peer.name}`, peer.ours, peer.theirs, ' ms')
  }
  const middle = (scenario: string, pick: (run: Run) => number | undefined): number | null => {
    const found = runs
      .filter((run) => run.scenario === scenario && run.system === 'meshctl')
      .flatMap((run) => pick(run) ?? [])
    return found.length === 0 ? null : median(found)
  }
  for (const [what, scenario, pick, bar, unit] of [
    ['memory of an idle worker', 'memory', (run) => run.rss_mb, 70, ' MB'],
    ['memory of an idle connection', 'memory', (run) => run.kb_per_connection, 12, ' KB'],
    ['update, from push to answer', 'update', (run) => run.apply_ms, 20, ' ms'],
    ['update, longest pause', 'update', (run) => run.pause_ms, 10, ' ms'],
  ] as const satisfies readonly [string, string, (run: Run) => number | undefined, number, string][]) {
    const value = middle(scenario, pick)
    if (value !== null) judge(what, value, bar, unit)
  }
  return lines
}

function bestP99(
  runs: readonly Run[],
  scenario: string,
): { name: string; ours: number; theirs: number } | undefined {
  const of = (system: string): number | undefined => {
    const own = runs.filter((run) => run.scenario === scenario && run.system === system)
    return own.length === 0 ? undefined : median(own.map(({ p99_ms }) => p99_ms))
  }
  const ours = of('meshctl')
  const peers = ['nginx', 'haproxy', 'envoy'].flatMap((name) => {
    const theirs = of(name)
    return theirs === undefined ? [] : [{ name, theirs }]
  })
  const best = peers.toSorted((a, b) => a.theirs - b.theirs)[0]
  return ours === undefined || best === undefined ? undefined : { ...best, ours }
}
