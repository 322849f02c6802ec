// The supervisor: holds the sockets and gives all its workers the same config or none. It carries no traffic, so nothing
// that a peer sends can reach it.
import type { Clock, Timer } from '../clock.ts'
import { reason } from '../errors.ts'
import type { Log } from '../log.ts'
import { patch } from '../snapshot/change.ts'
import { snapshotHash } from '../snapshot/hash.ts'
import type { EndpointHealth, Push, PushReply, Secrets, Snapshot } from '../snapshot/types.ts'
import { version } from '../version.ts'
import { rotate } from './accesslog.ts'
import type { Child } from './child.ts'
import { Crew } from './crew.ts'
import type { Reply, Request } from './message.ts'
import type { HeldSocket } from './sockets.ts'
import { Tally } from './tally.ts'

const lookEveryMs = 2_000
const defaultDrainMs = 5_000
/** A drain that must come to its end closes what was idle for so long; a busier connection ends with its next response. */
const idleMs = 500
/** One that has time waits for the next request, so that no client meets a closed connection. */
const patientIdleMs = 10_000
/** A push that meets no worker waits for one so long: they are just starting, or one has just crashed. */
const liveWithinMs = 5_000
/** After so many workers that ended over the config in force before they served, that config is dropped. */
const maxStillborn = 3

export interface SupervisorOptions {
  readonly clock: Clock
  readonly log: Log
  readonly workers: number
  readonly sockets: readonly HeldSocket[]
  /** The worker program and its arguments. */
  readonly command: readonly string[]
  readonly accessLog: string
  /** The access log has been moved aside. */
  readonly onRotated?: () => void
  /** How long a worker may take over new config; it is replaced if it takes longer. */
  readonly applyTimeoutMs?: number
  /** A worker that last answered longer ago than this does not count as serving. */
  readonly awakeWithinMs?: number
  /** How often workers are looked after; one that is silent for some looks is stuck. */
  readonly lookEveryMs?: number
}

export class Supervisor {
  readonly tally: Tally = new Tally()
  readonly #options: SupervisorOptions
  readonly #applyTimeoutMs: number
  readonly #crew: Crew
  #looking: Timer | null = null
  #snapshot: Snapshot | null = null
  #secrets: Secrets | null = null
  #stillborn = 0
  #isDraining = false
  /** Config changes happen one at a time, also against workers that are just starting. */
  #turn: Promise<unknown> = Promise.resolve()

  constructor(options: SupervisorOptions) {
    const { clock, log, workers, sockets, command, awakeWithinMs = 5_000 } = options
    this.#options = options
    this.#applyTimeoutMs = options.applyTimeoutMs ?? 5_000
    this.#crew = new Crew({
      clock,
      log,
      workers,
      sockets,
      command,
      tally: this.tally,
      awakeWithinMs,
      onReady: (child) => void this.inTurn(() => this.#prepare(child)),
      onStillborn: () => this.#dropDeadly(),
    })
  }

  /** Config that the first workers begin with; a snapshot that they refuse is dropped and said so. */
  start(secrets: Secrets | null, snapshot: Snapshot | null): void {
    const { clock, log } = this.#options
    this.#secrets = secrets
    const fault = snapshot === null ? '' : checkSnapshot(snapshot)
    if (fault === '') this.#snapshot = snapshot
    else log.error({ reason: fault }, 'the snapshot of before the start is refused')
    this.#crew.start()
    this.#looking = clock.every(this.#options.lookEveryMs ?? lookEveryMs, () => void this.#look())
  }

  /** Workers that serve. */
  get live(): number {
    return this.#crew.live
  }

  get hash(): string {
    return this.#snapshot?.hash ?? ''
  }

  get host(): string {
    return this.#snapshot?.host ?? ''
  }

  get snapshot(): Snapshot | null {
    return this.#snapshot
  }

  get secrets(): Secrets | null {
    return this.#secrets
  }

  get isReady(): boolean {
    return this.#snapshot !== null && this.live > 0 && !this.#isDraining
  }

  get drainTimeout(): number {
    return this.#snapshot?.settings.drainTimeout ?? defaultDrainMs
  }

  handle = async (push: Exclude<Push, { type: 'reload' }>): Promise<PushReply> => {
    switch (push.type) {
      case 'snapshot':
        await this.#crew.untilLive(1, liveWithinMs)
        return this.inTurn(() => this.#applySnapshot(push.snapshot))
      case 'patch':
        await this.#crew.untilLive(1, liveWithinMs)
        return this.inTurn(() => this.#applyPatch(push))
      case 'secrets':
        await this.#crew.untilLive(1, liveWithinMs)
        return this.inTurn(() => this.#applySecrets(push.secrets))
      case 'ping': {
        const workers = await this.#crew.awake()
        // Config that nobody serves is none: the agent must let capture lapse.
        return { type: 'pong', hash: workers > 0 ? this.hash : '', workers, version }
      }
      case 'stats':
        return { type: 'stats', ...(await this.stats()) }
      case 'drain':
        return { type: 'drained', open: await this.drain(push.timeout) }
    }
  }

  /** Whether all workers serve within that time. */
  async allLive(timeoutMs: number): Promise<boolean> {
    await this.#crew.untilLive(this.#options.workers, timeoutMs)
    return this.live >= this.#options.workers
  }

  /** Metrics of all processes as Prometheus text, and the endpoints as all workers see them. */
  async stats(): Promise<{ text: string; endpoints: EndpointHealth[] }> {
    await this.#crew.count(true)
    return { text: this.tally.text(this.live, this.isReady), endpoints: this.tally.endpoints() }
  }

  /** Brings the tally up to date. */
  count(): Promise<void> {
    return this.#crew.count(false)
  }

  /** Refuses new connections, lets old ones end within `timeout` ms; how many were cut off. No worker comes back. */
  drain(timeout: number = this.drainTimeout): Promise<number> {
    this.#end()
    return this.#crew.drain(timeout, idleMs)
  }

  /** The same while a successor serves: there is no hurry. A later `drain` can shorten it. */
  retire(timeout: number): Promise<number> {
    this.#end()
    return this.#crew.drain(timeout, Math.min(patientIdleMs, timeout / 2))
  }

  /** Has the workers drain by themselves: when this resolves they accept no more, and we may end before them. */
  leave(): Promise<void> {
    this.#end()
    return this.#crew.leave(this.drainTimeout, idleMs)
  }

  /** Has the workers open the access log anew. */
  async reopen(): Promise<void> {
    await this.#crew.ask({ type: 'reopen' })
  }

  /** Ends whatever still runs. */
  close(): void {
    this.#end()
    this.#crew.close()
  }

  /** Runs when every config change before is over, and holds up later ones. */
  inTurn<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(run)
    this.#turn = result.catch(() => undefined)
    return result
  }

  #end(): void {
    this.#isDraining = true
    this.#looking?.cancel()
  }

  async #applySnapshot(snapshot: Snapshot): Promise<PushReply> {
    const { hash } = snapshot
    const fault = checkSnapshot(snapshot)
    if (fault !== '') return this.#rejected(hash, fault)
    if (hash === this.hash) return { type: 'applied', hash }
    return this.#replace(snapshot, { type: 'apply', snapshot })
  }

  /**
   * The hash of the result is what the agent says, who has tried the patch: to compute it here would take longer than all the
   * rest. Whoever is given the whole later, another supervisor, checks it.
   */
  async #applyPatch({ base, hash, change }: Extract<Push, { type: 'patch' }>): Promise<PushReply> {
    const before = this.#snapshot
    const mismatch = (why: string): PushReply => {
      this.#options.log.warn({ hash, base, reason: why, kept: this.hash }, 'patch does not fit')
      return { type: 'mismatch', hash: this.hash }
    }
    if (before === null || before.hash !== base) return mismatch('it is for another snapshot')
    let snapshot
    try {
      snapshot = patch(before, change)
    } catch (error) {
      return mismatch(reason(error))
    }
    if (snapshot.hash !== hash) return mismatch('it gives another snapshot than it says')
    return this.#replace(snapshot, { type: 'change', base, change })
  }

  async #replace(snapshot: Snapshot, request: Request): Promise<PushReply> {
    const { hash } = snapshot
    const before = this.#snapshot
    const refusal = await this.#applyToAll(request, before && { type: 'apply', snapshot: before })
    if (refusal !== '') return this.#rejected(hash, refusal)
    this.#snapshot = snapshot
    this.#options.log.info({ hash, workers: this.live }, 'snapshot applied')
    return { type: 'applied', hash }
  }

  #rejected(hash: string, why: string): PushReply {
    this.#options.log.error({ hash, reason: why, kept: this.hash }, 'snapshot rejected')
    return { type: 'rejected', hash, reason: why }
  }

  async #applySecrets(secrets: Secrets): Promise<PushReply> {
    const before = this.#secrets
    const refusal = await this.#applyToAll(
      { type: 'secrets', secrets },
      before && { type: 'secrets', secrets: before },
    )
    if (refusal !== '') return { type: 'error', reason: refusal }
    this.#secrets = secrets
    return { type: 'applied', hash: this.hash }
  }

  /** All workers take it, or those that did go back; '' or why not. The first one is the canary of the others. */
  async #applyToAll(request: Request, undo: Request | null): Promise<string> {
    const changed: Child[] = []
    for (const child of this.#crew.liveOnes) {
      const reply = await child.ask(request, this.#applyTimeoutMs)
      if (reply.type === 'done') {
        changed.push(child)
        continue
      }
      // One that ended or hung over it may apply it yet: its successor begins with what was before.
      if (reply.type === 'lost') child.kill()
      await Promise.all(changed.map((other) => this.#revert(other, undo)))
      return whyNot(reply)
    }
    return changed.length > 0 ? '' : 'no worker is running'
  }

  async #revert(child: Child, undo: Request | null): Promise<void> {
    const reply = undo === null ? null : await child.ask(undo, this.#applyTimeoutMs)
    if (reply?.type !== 'done') child.kill()
  }

  /** Gives a new worker the config in force. Without any it waits: its sockets are not listened on yet. */
  async #prepare(child: Child): Promise<void> {
    const { log } = this.#options
    for (const request of [
      this.#secrets && ({ type: 'secrets', secrets: this.#secrets } as const),
      this.#snapshot && ({ type: 'apply', snapshot: this.#snapshot } as const),
    ]) {
      if (request === null) continue
      const reply = await child.ask(request, this.#applyTimeoutMs)
      if (reply.type === 'done') continue
      const why = reply.type === 'refused' ? reply.reason : reply.type
      log.error(
        { pid: child.pid, what: request.type, reason: why },
        'a new worker refused the config in force',
      )
      if (child.isGone) return
      if (this.live > 0) return child.kill()
      // No worker has ever taken it (it came from disk): better without than in a circle of restarts.
      if (request.type === 'apply') this.#snapshot = null
      else this.#secrets = null
    }
    if (child.isGone) return
    this.#stillborn = 0
    this.#crew.admit(child)
  }

  #dropDeadly(): void {
    if (++this.#stillborn < maxStillborn || this.live > 0 || this.#snapshot === null) return
    this.#options.log.error(
      { hash: this.hash },
      'no worker survives the snapshot in force: starting without it',
    )
    this.#snapshot = null
  }

  async #look(): Promise<void> {
    const { accessLog, log, onRotated } = this.#options
    this.#crew.look()
    try {
      if (!(await rotate(accessLog))) return
      onRotated?.()
      await this.reopen()
    } catch (error) {
      log.warn({ reason: reason(error) }, 'access log cannot be rotated')
    }
  }
}

function whyNot(reply: Reply): string {
  return reply.type === 'refused' || reply.type === 'lost'
    ? reply.reason
    : `the worker answered ${reply.type}`
}

/** '' or what is wrong: before any worker sees it. */
function checkSnapshot(snapshot: Snapshot): string {
  // What was read is whatever was sent.
  const { schema, hash } = snapshot as { schema: unknown; hash: unknown }
  if (schema !== 1) return `schema ${JSON.stringify(schema)} is not supported by version ${version}`
  if (typeof hash !== 'string' || hash === '') return 'the snapshot has no hash'
  if (snapshotHash(snapshot) !== hash) return 'the hash does not match the content'
  return ''
}
