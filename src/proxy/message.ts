// What supervisor and worker say to each other over the IPC channel. Each request has one reply with its id.
import type { Change } from '../snapshot/change.ts'
import type { EndpointHealth, Secrets, Snapshot } from '../snapshot/types.ts'
import type { Dump } from './stats.ts'
import type { Line } from './workerlog.ts'

export type Request =
  | { readonly type: 'apply'; readonly snapshot: Snapshot }
  /** What to change in the snapshot of the hash `base`. */
  | { readonly type: 'change'; readonly base: string; readonly change: Change }
  | { readonly type: 'secrets'; readonly secrets: Secrets }
  | { readonly type: 'ping' }
  /** Endpoints may be thousands: only for those who want to see them. */
  | { readonly type: 'stats'; readonly endpoints: boolean }
  /** The access log has been moved aside. */
  | { readonly type: 'reopen' }
  /**
   * Refuse new, finish old within `timeout` ms, closing what is idle for `idle` ms; the worker ends after its reply. A
   * second one can only shorten the time.
   */
  | { readonly type: 'drain'; readonly timeout: number; readonly idle: number }

export type Reply =
  | { readonly type: 'done' }
  | { readonly type: 'refused'; readonly reason: string }
  /** Not from the worker: it ended or did not answer, and what it has done is not known. */
  | { readonly type: 'lost'; readonly reason: string }
  | Counts
  | { readonly type: 'drained'; readonly open: number; readonly dump: Dump }

export interface Counts {
  readonly type: 'stats'
  readonly dump: Dump
  /** Null: nobody asked for them. */
  readonly endpoints: readonly EndpointHealth[] | null
}

export interface ToWorker {
  readonly id: number
  readonly request: Request
}

/** Id 0 answers nothing: `done` is the worker's first word, it is up; `stats` its last, it crashes; `line` is for the log. */
export interface FromWorker {
  readonly id: number
  readonly reply: Reply | Line
}
