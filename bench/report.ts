// What a run is: its measurements and how we compare, as a table for people and JSON for others.
export interface Run {
  readonly scenario: string
  readonly system: string
  readonly round: number
  /** Per request and hop. */
  readonly cpu_us_per_request: number
  readonly rps: number
  readonly p50_ms: number
  readonly p99_ms: number
  readonly p999_ms: number
  /** Resident memory of one hop's processes. */
  readonly rss_mb: number
}

/** Our CPU per request divided by the peer's, each round for itself. */
export interface Ratio {
  readonly scenario: string
  readonly peer: string
  readonly median: number
  readonly min: number
  readonly max: number
}

export function ratiosOf(runs: readonly Run[]): Ratio[] {
  const ratios: Ratio[] = []
  for (const scenario of new Set(runs.map((run) => run.scenario))) {
    const of = (system: string): Run[] =>
      runs.filter((run) => run.scenario === scenario && run.system === system)
    for (const peer of new Set(runs.map((run) => run.system))) {
      if (peer === 'meshctl' || peer === 'direct') continue
      const found = of('meshctl').flatMap((ours) => {
        const theirs = of(peer).find((run) => run.round === ours.round)
        return theirs === undefined || theirs.cpu_us_per_request === 0
          ? []
          : [ours.cpu_us_per_request / theirs.cpu_us_per_request]
      })
      if (found.length === 0) continue
      ratios.push({
        scenario,
        peer,
        median: round(median(found)),
        min: round(Math.min(...found)),
        max: round(Math.max(...found)),
      })
    }
  }
  return ratios
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? 0
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2
}

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
          system === 'direct' ? '–' : middle((run) => run.cpu_us_per_request).toFixed(1),
          middle((run) => run.rps).toFixed(0),
          middle((run) => run.p50_ms).toFixed(2),
          middle((run) => run.p99_ms).toFixed(2),
          middle((run) => run.p999_ms).toFixed(2),
          system === 'direct' ? '–' : middle((run) => run.rss_mb).toFixed(0),
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
