// What the commands `join`, `leave` and `init` hand to the transactions, and what they get back.
import type { HostFacts } from '../../host/facts.ts'
import type { Host } from '../../host/host.ts'
import type { Finding } from '../../host/finding.ts'
import type { HostConfig } from '../../model/host.ts'

/** In this order. Everything from `dead-man` on is undone when a later one fails. */
export const joinPhases = [
  'connect',
  'preflight',
  'snapshot',
  'dead-man',
  'upload',
  'prepare',
  'grant',
  'enroll',
  'units',
  'start',
  'capture',
  'probe',
  'finish',
] as const

export type JoinPhase = (typeof joinPhases)[number]

/** In this order. */
export const leavePhases = ['connect', 'drain', 'revoke', 'undo', 'compare'] as const

export type LeavePhase = (typeof leavePhases)[number]

export type PhaseState = 'start' | 'progress' | 'done' | 'skipped' | 'failed' | 'undo'

/** Called at each step; `detail` is one lowercase line for people, '' when there is nothing to add. */
export type Report<Phase extends string> = (phase: Phase, state: PhaseState, detail: string) => void

export interface Grant {
  readonly grant: string
  /** PEM roots of the mesh: what the host trusts when it first calls the signer. */
  readonly roots: string
}

export interface JoinOptions {
  /** host.json as the host shall have it; `registry.token` null when the signer hands one out at enrolment. */
  readonly config: HostConfig
  /** The host's public SSH key, `ssh-ed25519 AAAA…`; '' for this machine: found by itself. */
  readonly sshHostKey: string
  /** Facts that were gathered already; default: gathered anew. */
  readonly facts?: HostFacts | undefined
  /** The release folder to send; default: the one this command runs from. */
  readonly release?: string | undefined
  /** Asks control for a grant pinned to the host's SSH host key (GrantRequest). */
  readonly requestGrant: (sshHostKey: string) => Promise<Grant>
  /** Takes the grant back: DELETE /v1/hosts/<name>. Called when a first join fails after `grant`. */
  readonly revoke: () => Promise<void>
  /** Records these services at control again, when an update that had changed them fails. */
  readonly entitle?: ((services: readonly { name: string; namespace: string }[]) => Promise<void>) | undefined
  /** Removes what the host registered; called on failure of a first join after `start`. */
  readonly deregister: () => Promise<void>
  /** Whether the registry lists this host's services by now; polled in `probe` until true. */
  readonly registered: () => Promise<boolean>
  /** Opens a fresh connection to the same host; null: not possible (this machine itself). */
  readonly reconnect: (() => Promise<Host>) | null
  /** A name outside the mesh that must resolve after the join as it did before; default: the host's own choice. */
  readonly outsideName?: string | undefined
  /** Systemd timers for renew, verify and report; false: cron lines are in the result instead. */
  readonly timers: boolean
  /** Joins again even where nothing changed. */
  readonly force?: boolean | undefined
  /** Seconds for the probes. */
  readonly timeoutSeconds?: number | undefined
  readonly signal?: AbortSignal | undefined
  /** Fails on purpose at the end of this phase (tests). */
  readonly failAt?: JoinPhase | undefined
}

export interface JoinResult {
  /** `unchanged`: the host had all of this already. */
  readonly outcome: 'joined' | 'updated' | 'unchanged'
  readonly findings: readonly Finding[]
  /** Lines for crontab where timers were not wanted. */
  readonly cron: readonly string[]
  readonly seconds: number
}

export interface LeaveOptions {
  /** Holds undo.sh, should the host's copy be lost; default: the one this command runs from. */
  readonly release?: string | undefined
  /** How long peers get to stop using the host. */
  readonly drainSeconds?: number | undefined
  /** Revokes the host at control and removes it from the registry; failures are reported, not thrown. */
  readonly revoke: (() => Promise<void>) | null
  readonly deregister: (() => Promise<void>) | null
  readonly signal?: AbortSignal | undefined
}

export interface LeaveResult {
  /** False: there was nothing of ours. */
  readonly left: boolean
  /** How the host differs from before the join where a join touches it; empty: it is as it was. */
  readonly differences: readonly string[]
  /** What else differs: what others did while the host was joined. */
  readonly others: readonly string[]
  /** What could not be done elsewhere (control or registry unreachable). */
  readonly warnings: readonly string[]
}
