// The workers of one supervisor: starts them, replaces those that end, kills those that hang. What config they get is the
// supervisor's business.
import type { Clock, Timer } from '../clock.ts'
import type { Log } from '../log.ts'
import { backoff } from '../net/backoff.ts'
import { Child } from './child.ts'
import type { Reply, Request } from './message.ts'
import type { HeldSocket } from './sockets.ts'
import type { Tally } from './tally.ts'

const pingTimeoutMs = 500
const statsTimeoutMs = 2_000
/** A worker that says nothing over so many looks at it is stuck: its event loop serves nobody. */
const stuckAfterLooks = 5
/** Every so many looks a worker is asked for its counts: no more is lost when it is killed. */
const countEveryLooks = 5
const restart = { base: 200, max: 10_000 }
/** A worker that lived so long starts counting its crashes anew. */
const provenAfterMs = 30_000

export interface CrewOptions {
  readonly clock: Clock
  readonly log: Log
  readonly workers: number
  readonly sockets: readonly HeldSocket[]
  /** The worker program and its arguments. */
  readonly command: readonly string[]
  readonly tally: Tally
  /** A worker that last answered longer ago than this does not count as serving. */
  readonly awakeWithinMs: number
  /** A worker is up and wants its config; `admit` it then. */
  readonly onReady: (child: Child) => void
  /** A worker ended before it served. */
  readonly onStillborn: () => void
}

export class Crew {
  readonly #options: CrewOptions
  readonly #children = new Set<Child>()
  readonly #timers = new Set<Timer>()
  #crashes = 0
  #looks = 0
  #isEnding = false
  #wanting: { readonly count: number; readonly resume: () => void }[] = []

  constructor(options: CrewOptions) {
    this.#options = options
  }

  start(): void {
    for (let i = 0; i < this.#options.workers; i++) this.#spawn()
  }

  /** Workers that serve. */
  get live(): number {
    return this.liveOnes.length
  }

  get liveOnes(): Child[] {
    return [...this.#children].filter((child) => child.isLive)
  }

  /** It has its config and serves. */
  admit(child: Child): void {
    child.isLive = true
    const { live } = this
    this.#wanting = this.#wanting.filter(({ count, resume }) => {
      if (live < count) return true
      resume()
      return false
    })
  }

  /** Resolves when so many workers serve, or the time is over. */
  async untilLive(count: number, timeoutMs: number): Promise<void> {
    if (this.live >= count) return
    await new Promise<void>((resolve) => {
      const timer = this.#options.clock.after(timeoutMs, resolve)
      this.#wanting.push({
        count,
        resume: () => {
          timer.cancel()
          resolve()
        },
      })
    })
  }

  ask(request: Request, timeoutMs: number = pingTimeoutMs): Promise<Reply[]> {
    return Promise.all(this.liveOnes.map((child) => child.ask(request, timeoutMs)))
  }

  /** Workers that serve and are not stuck. One that is slow now but answered a moment ago still counts. */
  async awake(): Promise<number> {
    await this.ask({ type: 'ping' })
    const { clock, awakeWithinMs } = this.#options
    const since = clock.monotonic() - awakeWithinMs
    return this.liveOnes.filter((child) => child.heardAt >= since).length
  }

  /** Brings the tally up to date. */
  async count(endpoints: boolean): Promise<void> {
    await Promise.all(this.liveOnes.map((child) => this.#count(child, endpoints)))
  }

  /**
   * To be called at even intervals. Counted in looks and not in time: were we ourselves held up, no worker is to blame.
   */
  look(): void {
    const isCounting = ++this.#looks % countEveryLooks === 0
    for (const child of this.#children) {
      if (child.silentLooks++ >= stuckAfterLooks) {
        this.#options.log.error({ pid: child.pid }, 'worker does not answer and is ended')
        child.kill()
      } else if (isCounting && child.isLive) void this.#count(child, false)
      else void child.ask({ type: 'ping' }, statsTimeoutMs)
    }
  }

  /** Nothing new is accepted; `open`: how many connections were cut off at the end of the time. No worker comes back. */
  async drain(timeoutMs: number, idleMs: number): Promise<number> {
    this.#end()
    const { tally } = this.#options
    const open = [...this.#children].map(async (child) => {
      const reply = await child.ask({ type: 'drain', timeout: timeoutMs, idle: idleMs }, timeoutMs + 2_000)
      if (reply.type !== 'drained') return 0
      if (!child.isGone) tally.record(child.pid, reply.dump)
      return reply.open
    })
    return (await Promise.all(open)).reduce((sum, one) => sum + one, 0)
  }

  /** Has the workers drain by themselves: when this resolves they accept no more, and we may end before them. */
  async leave(timeoutMs: number, idleMs: number): Promise<void> {
    this.#end()
    for (const child of this.#children)
      void child.ask({ type: 'drain', timeout: timeoutMs, idle: idleMs }, timeoutMs)
    await Promise.all([...this.#children].map((child) => child.ask({ type: 'ping' }, pingTimeoutMs)))
  }

  /** Ends whatever still runs. */
  close(): void {
    this.#end()
    for (const child of this.#children) child.kill()
  }

  #end(): void {
    this.#isEnding = true
    for (const timer of this.#timers) timer.cancel()
    this.#timers.clear()
  }

  #spawn(): void {
    const { clock, command, sockets, log, onReady, tally } = this.#options
    const child = new Child({
      clock,
      command,
      sockets,
      onReady,
      onLine: ({ pid }, { level, fields, message }) => log[level]({ pid, ...fields }, message),
      onLast: (worker, { dump }) => tally.record(worker.pid, dump),
      onExit: (gone, how, wasLive) => this.#gone(gone, how, wasLive),
    })
    this.#children.add(child)
    log.debug({ pid: child.pid }, 'worker started')
  }

  #gone(child: Child, how: string, wasLive: boolean): void {
    const { clock, log, tally, onStillborn } = this.#options
    this.#children.delete(child)
    tally.ended(child.pid)
    if (this.#isEnding) return
    if (!wasLive) onStillborn()
    if (clock.monotonic() - child.startedAt > provenAfterMs) this.#crashes = 0
    // The first one is replaced at once; only those that keep on crashing wait.
    const delay = this.#crashes === 0 ? 0 : backoff(restart, this.#crashes - 1)
    this.#crashes++
    log.error({ pid: child.pid, how, delay }, 'worker ended, a new one follows')
    const timer = clock.after(delay, () => {
      this.#timers.delete(timer)
      tally.restarts.add(1)
      this.#spawn()
    })
    this.#timers.add(timer)
  }

  async #count(child: Child, endpoints: boolean): Promise<void> {
    const reply = await child.ask({ type: 'stats', endpoints }, statsTimeoutMs)
    if (reply.type === 'stats' && !child.isGone)
      this.#options.tally.record(child.pid, reply.dump, reply.endpoints)
  }
}
