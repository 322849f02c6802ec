// What a supervisor and its workers counted together: Prometheus text for readers, and counts that outlive whoever counted
// them. A supervisor hands its counts to its successor, so that a reload takes nothing out of them either.
import type { EndpointHealth } from '../snapshot/types.ts'
import { version } from '../version.ts'
import { Stats } from './stats.ts'
import type { Counter, Dump } from './stats.ts'
import { mergeEndpoints, Totals } from './totals.ts'
import { Usage } from './usage.ts'

/** The supervisor before us counts like one more worker: no process has this pid. */
const predecessor = 0

export class Tally {
  readonly restarts: Counter
  readonly reloads: Counter
  readonly #stats = new Stats()
  readonly #usage = new Usage(this.#stats)
  readonly #totals = new Totals()
  readonly #endpoints = new Map<number, readonly EndpointHealth[]>()

  constructor() {
    this.restarts = this.#stats.counter(
      'meshctl_proxy_worker_restarts_total',
      'Workers that ended and were replaced.',
    )
    this.reloads = this.#stats.counter(
      'meshctl_proxy_reloads_total',
      'Times that a new supervisor took the sockets over from a running one.',
    )
  }

  /** What a worker has counted since its start. */
  record(pid: number, dump: Dump, endpoints: readonly EndpointHealth[] | null = null): void {
    this.#totals.record(pid, dump)
    if (endpoints !== null) this.#endpoints.set(pid, endpoints)
  }

  ended(pid: number): void {
    this.#totals.ended(pid)
    this.#endpoints.delete(pid)
  }

  /** What the supervisor before us and its workers have counted, theirs before them included. */
  inherit(dump: Dump): void {
    this.#totals.record(predecessor, dump)
  }

  /** It has ended: its counters stay. */
  inherited(): void {
    this.#totals.ended(predecessor)
  }

  /** For our successor. */
  dump(): Dump {
    this.#usage.read()
    return this.#totals.with(this.#stats.dump())
  }

  endpoints(): EndpointHealth[] {
    return mergeEndpoints([...this.#endpoints.values()])
  }

  text(workers: number, isReady: boolean): string {
    // Apart from what is counted: a successor says these of itself.
    const now = new Stats()
    now.gauge('meshctl_proxy_workers', 'Workers that serve.').set(workers)
    now.gauge('meshctl_proxy_ready', '1 when a snapshot is applied and workers serve.').set(isReady ? 1 : 0)
    now.gauge('meshctl_build_info', 'Version of the proxy.', { version }).set(1)
    return Stats.text([...this.dump(), ...now.dump()])
  }
}
