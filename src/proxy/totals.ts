// What all workers counted together. The last known counts of a worker that has ended stay in, so that a crash takes
// nothing out of the totals.
import type { EndpointHealth } from '../snapshot/types.ts'
import { Stats } from './stats.ts'
import type { Dump } from './stats.ts'

export class Totals {
  readonly #counted = new Map<number, Dump>()
  #past: Dump = []

  /** What a worker has counted since its start, by its pid. */
  record(pid: number, dump: Dump): void {
    this.#counted.set(pid, dump)
  }

  ended(pid: number): void {
    const counted = this.#counted.get(pid) ?? []
    // Gauges say how things are, and of this worker nothing is any more.
    this.#past = Stats.merge([this.#past, counted.filter(({ kind }) => kind !== 'gauge')])
    this.#counted.delete(pid)
  }

  with(own: Dump): Dump {
    return Stats.merge([own, this.#past, ...this.#counted.values()])
  }
}

/** One line per endpoint: ejected where any worker ejected it, active exchanges added up. */
export function mergeEndpoints(reports: readonly (readonly EndpointHealth[])[]): EndpointHealth[] {
  const merged = new Map<string, EndpointHealth>()
  for (const endpoint of reports.flat()) {
    const key = `${endpoint.cluster}\0${endpoint.endpoint}`
    const other = merged.get(key)
    const ejected = endpoint.ejected || other?.ejected === true
    merged.set(key, { ...endpoint, ejected, active: endpoint.active + (other?.active ?? 0) })
  }
  return [...merged.values()]
}
