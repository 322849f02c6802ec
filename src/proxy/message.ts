// What supervisor and worker say to each other over the IPC channel. Each request has one reply with its id.
import type { EndpointHealth, Secrets, Snapshot } from '../snapshot/types.ts'
import type { Dump } from './stats.ts'

export type Request =
  | { readonly type: 'apply'; readonly snapshot: Snapshot }
  | { readonly type: 'secrets'; readonly secrets: Secrets }
  | { readonly type: 'ping' }
  | { readonly type: 'stats' }
  /** The access log has been moved aside. */
  | { readonly type: 'reopen' }
  /** Refuse new, finish old; the worker ends after its reply. */
  | { readonly type: 'drain'; readonly timeout: number }

export type Reply =
  | { readonly type: 'done' }
  | { readonly type: 'refused'; readonly reason: string }
  /** Not from the worker: it ended or did not answer, and what it has done is not known. */
  | { readonly type: 'lost'; readonly reason: string }
  | { readonly type: 'stats'; readonly dump: Dump; readonly endpoints: readonly EndpointHealth[] }
  | { readonly type: 'drained'; readonly open: number }

export interface ToWorker {
  readonly id: number
  readonly request: Request
}

/** Id 0 without reply is the worker's first word: it is up. */
export interface FromWorker {
  readonly id: number
  readonly reply: Reply
}
