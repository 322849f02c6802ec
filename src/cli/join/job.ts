// What one join knows: what it was asked for, what it has found, and how far it came.
import { randomBytes } from 'node:crypto'
import type { HostFacts } from '../../host/facts.ts'
import type { Host } from '../../host/host.ts'
import type { Inventory } from '../../host/inventory.ts'
import type { Finding } from '../../host/finding.ts'
import type { Release } from '../../host/release.ts'
import type { HostConfig } from '../../model/host.ts'
import type { UnitChange } from './install.ts'
import type { Grant, JoinOptions, JoinPhase, Report } from './types.ts'

/** What the phases hand on to each other. */
export interface Job {
  host: Host
  readonly options: JoinOptions
  readonly report: Report<JoinPhase>
  readonly id: string
  phase: JoinPhase
  config: HostConfig
  /** From `preflight` on. */
  facts: HostFacts
  findings: Finding[]
  /** What is sent; null until it is prepared. */
  release: Release | null
  /** host.json of the joined host that this updates; null: a first join. */
  previous: HostConfig | null
  /** How the host is before anything; null until `snapshot`. */
  before: Inventory | null
  /** A name outside the mesh that resolves before the join, and has to after it. */
  outside: string | null
  /** Null: not asked for (yet). */
  grant: Grant | null
  /** Units that were written anew. */
  changed: UnitChange
  /** How far it came, for the undoing. */
  readonly did: { lock: boolean; armed: boolean; granted: boolean; started: boolean }
}

/** Before the first phase. */
export function makeJob(host: Host, options: JoinOptions, report: Report<JoinPhase>): Job {
  return {
    host,
    options,
    report,
    id: randomBytes(8).toString('hex'),
    phase: 'connect',
    config: options.config,
    facts: options.facts as HostFacts,
    findings: [],
    release: null,
    previous: null,
    before: null,
    outside: null,
    grant: null,
    changed: { socket: false, agentSocket: false, proxy: false },
    did: { lock: false, armed: false, granted: false, started: false },
  }
}
