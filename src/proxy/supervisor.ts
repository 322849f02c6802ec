// The supervisor: holds the sockets, keeps N workers alive, gives all of them the same config or none. It carries no
// traffic, so nothing that a peer sends can reach it.
import type { Clock, Timer } from '../clock.ts'
import { reason } from '../errors.ts'
import type { Log } from '../log.ts'
import { backoff } from '../net/backoff.ts'
import { snapshotHash } from '../snapshot/hash.ts'
import type { EndpointHealth, Push, PushReply, Secrets, Snapshot } from '../snapshot/types.ts'
import { version } from '../version.ts'
import { rotate } from './accesslog.ts'
import { Child } from './child.ts'
import type { Reply, Request } from './message.ts'
import type { HeldSocket } from './sockets.ts'
import { Stats } from './stats.ts'
import { mergeEndpoints, Totals } from './totals.ts'
import { Usage } from './usage.ts'

const pingTimeoutMs = 500
const statsTimeoutMs = 2_000
const watchEveryMs = 2_000
/** A worker that says nothing for so long is stuck: its event loop serves nobody. */
const stuckAfterMs = 15_000
const restart = { base: 200, max: 10_000 }
/** A worker that lived so long starts counting its crashes anew. */
const provenAfterMs = 30_000
const defaultDrainMs = 5_000
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
  /** How long a worker may take over new config; it is replaced if it takes longer. */
  readonly applyTimeoutMs?: number
  /** A worker that last answered longer ago than this does not count as serving. */
  readonly awakeWithinMs?: number
}

export class Supervisor {
  readonly #options: SupervisorOptions
  readonly #applyTimeoutMs: number
  readonly #children = new Set<Child>()
  readonly #timers = new Set<Timer>()
  readonly #stats = new Stats()
  readonly #restarts = this.#stats.counter(
    'meshctl_proxy_worker_restarts_total',
    'Workers that ended and were replaced.',
  )
  readonly #usage = new Usage(this.#stats)
  readonly #totals = new Totals()
  #snapshot: Snapshot | null = null
  #secrets: Secrets | null = null
  #crashes = 0
  #stillborn = 0
  #isDraining = false
  #wanting: (() => void)[] = []
  /** Config changes happen one at a time, also against workers that are just starting. */
  #turn: Promise<unknown> = Promise.resolve()

  constructor(options: SupervisorOptions) {
    this.#options = options
    this.#applyTimeoutMs = options.applyTimeoutMs ?? 5_000
  }

  /** Config that the first workers begin with; a snapshot that they refuse is dropped and said so. */
  start(secrets: Secrets | null, snapshot: Snapshot | null): void {
    const { clock, log, workers } = this.#options
    this.#secrets = secrets
    const fault = snapshot === null ? '' : checkSnapshot(snapshot)
    if (fault === '') this.#snapshot = snapshot
    else log.error({ reason: fault }, 'the snapshot on disk is refused')
    for (let i = 0; i < workers; i++) this.#spawn()
    this.#timers.add(clock.every(watchEveryMs, () => void this.#watch()))
  }

  /** Workers that serve. */
  get live(): number {
    let live = 0
    for (const child of this.#children) if (child.isLive) live++
    return live
  }

  get hash(): string {
    return this.#snapshot?.hash ?? ''
  }

  get host(): string {
    return this.#snapshot?.host ?? ''
  }

  get isReady(): boolean {
    return this.#snapshot !== null && this.live > 0 && !this.#isDraining
  }

  handle = async (push: Push): Promise<PushReply> => {
    switch (push.type) {
      case 'snapshot':
        await this.#untilLive()
        return this.#inTurn(() => this.#applySnapshot(push.snapshot))
      case 'secrets':
        await this.#untilLive()
        return this.#inTurn(() => this.#applySecrets(push.secrets))
      case 'ping': {
        const workers = await this.#awake()
        // Config that nobody serves is none: the agent must let capture lapse.
        return { type: 'pong', hash: workers > 0 ? this.hash : '', workers, version }
      }
      case 'stats':
        return { type: 'stats', ...(await this.stats()) }
      case 'drain':
        return { type: 'drained', open: await this.drain(push.timeout) }
    }
  }

  /** Metrics of all processes as Prometheus text, and the endpoints as all workers see them. */
  async stats(): Promise<{ text: string; endpoints: EndpointHealth[] }> {
    const reports: (readonly EndpointHealth[])[] = []
    await Promise.all(
      [...this.#children].map(async (child) => {
        const reply = child.isLive ? await child.ask({ type: 'stats' }, statsTimeoutMs) : null
        if (reply?.type !== 'stats') return
        reports.push(reply.endpoints)
        if (!child.isGone) this.#totals.record(child.pid, reply.dump)
      }),
    )
    const stats = this.#stats
    stats.gauge('meshctl_proxy_workers', 'Workers that serve.').set(this.live)
    stats
      .gauge('meshctl_proxy_ready', '1 when a snapshot is applied and workers serve.')
      .set(this.isReady ? 1 : 0)
    stats.gauge('meshctl_build_info', 'Version of the proxy.', { version }).set(1)
    this.#usage.read()
    return { text: Stats.text(this.#totals.with(stats.dump())), endpoints: mergeEndpoints(reports) }
  }

  /** Refuses new connections, lets old ones end within `timeout` ms; how many were cut off. No worker comes back. */
  async drain(timeout: number = this.#snapshot?.settings.drainTimeout ?? defaultDrainMs): Promise<number> {
    this.#isDraining = true
    for (const timer of this.#timers) timer.cancel()
    this.#timers.clear()
    const replies = await Promise.all(
      [...this.#children].map((child) => child.ask({ type: 'drain', timeout }, timeout + 2_000)),
    )
    return replies.reduce((open, reply) => open + (reply.type === 'drained' ? reply.open : 0), 0)
  }

  /** Ends whatever still runs. */
  close(): void {
    this.#isDraining = true
    for (const timer of this.#timers) timer.cancel()
    for (const child of this.#children) child.kill()
  }

  async #applySnapshot(snapshot: Snapshot): Promise<PushReply> {
    const { hash } = snapshot
    const rejected = (why: string): PushReply => {
      this.#options.log.error({ hash, reason: why, kept: this.hash }, 'snapshot rejected')
      return { type: 'rejected', hash, reason: why }
    }
    const fault = checkSnapshot(snapshot)
    if (fault !== '') return rejected(fault)
    if (hash === this.hash) return { type: 'applied', hash }
    const before = this.#snapshot
    const refusal = await this.#applyToAll(
      { type: 'apply', snapshot },
      before && { type: 'apply', snapshot: before },
    )
    if (refusal !== '') return rejected(refusal)
    this.#snapshot = snapshot
    this.#options.log.info({ hash, workers: this.live }, 'snapshot applied')
    return { type: 'applied', hash }
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
    for (const child of this.#children) {
      if (!child.isLive) continue
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

  #spawn(): void {
    const { clock, command, sockets, log } = this.#options
    const child = new Child({
      clock,
      command,
      sockets,
      onReady: (ready) => void this.#inTurn(() => this.#prepare(ready)),
      onExit: (gone, how, wasLive) => this.#gone(gone, how, wasLive),
    })
    this.#children.add(child)
    log.debug({ pid: child.pid }, 'worker started')
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
    child.isLive = true
    this.#stillborn = 0
    for (const resume of this.#wanting.splice(0)) resume()
  }

  async #untilLive(): Promise<void> {
    if (this.live > 0) return
    await new Promise<void>((resolve) => {
      this.#wanting.push(resolve)
      const timer = this.#options.clock.after(liveWithinMs, resolve)
      this.#wanting.push(() => timer.cancel())
    })
  }

  #gone(child: Child, how: string, wasLive: boolean): void {
    const { clock, log } = this.#options
    this.#children.delete(child)
    this.#totals.ended(child.pid)
    if (this.#isDraining) return
    if (!wasLive && ++this.#stillborn >= maxStillborn && this.live === 0 && this.#snapshot !== null) {
      log.error({ hash: this.hash }, 'no worker survives the snapshot in force: starting without it')
      this.#snapshot = null
    }
    if (clock.monotonic() - child.startedAt > provenAfterMs) this.#crashes = 0
    const delay = backoff(restart, this.#crashes++)
    log.error({ pid: child.pid, how, delay }, 'worker ended, a new one follows')
    const timer = clock.after(delay, () => {
      this.#timers.delete(timer)
      this.#restarts.add(1)
      this.#spawn()
    })
    this.#timers.add(timer)
  }

  async #watch(): Promise<void> {
    const { clock, accessLog, log } = this.#options
    for (const child of this.#children) {
      if (clock.monotonic() - child.heardAt > stuckAfterMs) {
        log.error({ pid: child.pid }, 'worker does not answer and is ended')
        child.kill()
      } else {
        void child.ask({ type: 'ping' }, stuckAfterMs)
      }
    }
    try {
      if (await rotate(accessLog)) await this.#askLive({ type: 'reopen' }, pingTimeoutMs)
    } catch (error) {
      log.warn({ reason: reason(error) }, 'access log cannot be rotated')
    }
  }

  /** Workers that serve and are not stuck. One that is slow now but answered a moment ago still counts. */
  async #awake(): Promise<number> {
    await this.#askLive({ type: 'ping' }, pingTimeoutMs)
    const since = this.#options.clock.monotonic() - (this.#options.awakeWithinMs ?? 5_000)
    return [...this.#children].filter((child) => child.isLive && child.heardAt >= since).length
  }

  #askLive(request: Request, timeoutMs: number): Promise<Reply[]> {
    return Promise.all(
      [...this.#children].filter((child) => child.isLive).map((child) => child.ask(request, timeoutMs)),
    )
  }

  #inTurn<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(run)
    this.#turn = result.catch(() => undefined)
    return result
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
