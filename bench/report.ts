// What a run is: its measurements and how we compare, as a table for people and JSON for others.
export interface Run {
  readonly scenario: string
  readonly system: string
  readonly round: number
  /** Per unit of the scenario (request, message, MB) and hop. */
  readonly cpu_us_per_request: number
  readonly rps: number
  readonly p50_ms: number
  readonly p99_ms: number
  readonly p999_ms: number
  /** Resident memory of one hop's processes. */
  readonly rss_mb: number

  // Only in `memory`, of one worker, as is its rss_mb: without what processes share, of an idle client connection, and of a
  // link at either end.
  readonly private_mb?: number
  readonly kb_per_connection?: number
  readonly kb_per_link?: number
  readonly kb_per_link_server?: number

  // Only in `update`: median from push to answer, of that in the worker, and the longest pause of its event loop.
  readonly apply_ms?: number
  readonly worker_ms?: number
  readonly pause_ms?: number
}

/** Our CPU per request divided by the peer's, each round for itself. */
export interface Ratio {
  readonly scenario: string
  /** `meshctl` where we are compared with ourselves. */
  readonly peer: string
  readonly median: number
  readonly min: number
  readonly max: number
}

/** A scenario that is compared with ours of another one, by name. */
export type Beside = ReadonlyMap<string, string>

export function ratiosOf(runs: readonly Run[], beside: Beside = new Map()): Ratio[] {
  const ratios: Ratio[] = []
  const add = (scenario: string, peer: string, theirs: string = scenario): void => {
    const found = compare(runs, scenario, 'meshctl', peer, theirs)
    if (found !== null) ratios.push({ scenario, peer, ...found })
  }
  for (const scenario of new Set(runs.map((run) => run.scenario))) {
    for (const peer of new Set(runs.map((run) => run.system))) {
      if (peer !== 'meshctl' && peer !== 'direct') add(scenario, peer)
    }
    const other = beside.get(scenario)
    if (other !== undefined) add(scenario, 'meshctl', other)
  }
  return ratios
}

/** CPU of one system divided by another's, each round for itself; null without a round that has both. */
export function compare(
  runs: readonly Run[],
  scenario: string,
  system: string,
  other: string,
  otherScenario: string = scenario,
): Pick<Ratio, 'median' | 'min' | 'max'> | null {
  const of = (from: string, name: string): Run[] =>
    runs.filter((run) => run.scenario === from && run.system === name)
  const theirs = of(otherScenario, other)
  const found = of(scenario, system).flatMap(({ round: number, cpu_us_per_request: ours }) => {
    const their = theirs.find((run) => run.round === number)?.cpu_us_per_request ?? 0
    return their === 0 || ours === 0 ? [] : [ours / their]
  })
  if (found.length === 0) return null
  return { median: round(median(found)), min: round(Math.min(...found)), max: round(Math.max(...found)) }
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? 0
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2
}

/** What only one scenario has, medians per system. */
export function details(runs: readonly Run[]): string[] {
  const lines: string[] = []
  for (const scenario of new Set(runs.map((run) => run.scenario))) {
    for (const system of new Set(runs.map((run) => run.system))) {
      const own = runs.filter((run) => run.scenario === scenario && run.system === system)
      const parts = extras.flatMap(([key, name]) => {
        const found = own.flatMap((run) => run[key] ?? [])
        return found.length === 0 ? [] : [`${name} ${median(found)}`]
      })
      if (parts.length > 0) lines.push(`${scenario}, ${system}: ${parts.join(', ')}`)
    }
  }
  return lines
}

const extras = [
  ['private_mb', 'MB of it for itself alone'],
  ['kb_per_connection', 'KB per idle connection'],
  ['kb_per_link', "KB per link at the client's end"],
  ['kb_per_link_server', "KB at the server's"],
  ['apply_ms', 'ms from push to answer'],
  ['worker_ms', 'ms of it in the worker'],
  ['pause_ms', 'ms longest pause of its event loop'],
] as const satisfies readonly (readonly [keyof Run, string])[]

/** Medians per scenario and system. */
export function table(runs: readonly Run[], ratios: readonly Ratio[]): string {
  const lines = [
    row(
      'scenario',
      'system',
      'CPU µs/req/hop',
      'req/s',
      'p50 ms',
      'p99 ms',
      'p99.9 ms',
      'MB/hop',
      'ours ÷ it (min–max)',
    ),
  ]
  const number = (value: number, digits: number): string => (value === 0 ? '–' : value.toFixed(digits))
  for (const scenario of new Set(runs.map((run) => run.scenario))) {
    for (const system of new Set(runs.map((run) => run.system))) {
      const own = runs.filter((run) => run.scenario === scenario && run.system === system)
      if (own.length === 0) continue
      const middle = (pick: (run: Run) => number): number => median(own.map(pick))
      const ratio = ratios.find((one) => one.scenario === scenario && one.peer === system)
      lines.push(
        row(
          scenario,
          system,
          number(
            middle((run) => run.cpu_us_per_request),
            1,
          ),
          number(
            middle((run) => run.rps),
            0,
          ),
          number(
            middle((run) => run.p50_ms),
            2,
          ),
          number(
            middle((run) => run.p99_ms),
            2,
          ),
          number(
            middle((run) => run.p999_ms),
            2,
          ),
          number(
            middle((run) => run.rss_mb),
            0,
          ),
          ratio === undefined
            ? ''
            : `${ratio.median.toFixed(2)} (${ratio.min.toFixed(2)}–${ratio.max.toFixed(2)})`,
        ),
      )
    }
  }
  return lines.join('\n')
}

const widths = [9, 8, 15, 8, 7, 7, 9, 7, 20]

function row(...cells: string[]): string {
  return cells
    .map((cell, at) => (at < 2 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0)))
    .join('  ')
    .trimEnd()
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000
}
