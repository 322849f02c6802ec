// One worker process as its supervisor sees it.
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import type { Clock, Timer } from '../clock.ts'
import type { Counts, FromWorker, Reply, Request, ToWorker } from './message.ts'
import type { HeldSocket } from './sockets.ts'
import type { Line } from './workerlog.ts'

/** In the child, descriptors 0 to 2 are the usual ones and 3 is the IPC channel. */
const firstSocketFd = 4

/**
 * A small young generation fits the cache; 1 MB is collected too often. Measured at 32 connections on a quiet machine:
 * 1.61 of nginx's CPU with 1 MB, 1.35–1.44 with 4 MB; 16 MB was no better (docs/deadends.md). The supervisor carries no
 * traffic and has less (templates/meshctl-proxy.service).
 */
export const nodeFlags = [
  '--max-semi-space-size=4',
  '--single-threaded-gc',
  // Hot code is compiled to the end after 1,000 calls instead of 3,000, and 200 after it last met something new instead of
  // 500. A proxy's code settles early; a worker at 1,000 requests a second ran half-optimized code for many seconds, while
  // a compiler worked beside it on the same core.
  '--invocation-count-for-turbofan=1000',
  '--minimum-invocations-after-ic-update=200',
  '--disable-warning=ExperimentalWarning',
]

/** One heap of glibc's for all threads of a worker: those of V8 hardly ask for memory, and each would keep some of its own. */
export const environment = { MALLOC_ARENA_MAX: '1' }

export interface ChildOptions {
  readonly clock: Clock
  /** The program and its arguments, without the sockets. */
  readonly command: readonly string[]
  readonly sockets: readonly HeldSocket[]
  /** The worker has said that it is up. */
  readonly onReady: (child: Child) => void
  /** It has something for the log. */
  readonly onLine: (child: Child, line: Line) => void
  /** It crashes: what it has counted until then. */
  readonly onLast: (child: Child, counts: Counts) => void
  /** It is gone, for whatever reason; exactly once. `wasLive`: it had begun to serve. */
  readonly onExit: (child: Child, how: string, wasLive: boolean) => void
}

export class Child {
  readonly pid: number
  readonly startedAt: number
  /** When it last answered anything, monotonic. */
  heardAt: number
  /** How often it was looked at since then. */
  silentLooks = 0
  /** It has the current config and serves. */
  isLive = false
  isGone = false
  readonly #process: ChildProcess
  readonly #clock: Clock
  readonly #waiting = new Map<number, { resolve: (reply: Reply) => void; timer: Timer }>()
  #nextId = 1

  constructor(options: ChildOptions) {
    this.#clock = options.clock
    this.startedAt = this.heardAt = options.clock.monotonic()
    const sockets = options.sockets.map(({ role }, i) => `${role}=${firstSocketFd + i}`)
    this.#process = spawn(process.execPath, [...nodeFlags, ...options.command, ...sockets], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...options.sockets.map(({ fd }) => fd)],
      env: { ...process.env, ...environment },
    })
    this.pid = this.#process.pid ?? 0
    this.#process.on('message', (message) => {
      const { id, reply } = message as FromWorker
      this.heardAt = this.#clock.monotonic()
      this.silentLooks = 0
      if (reply.type === 'line') options.onLine(this, reply)
      else if (id === 0 && reply.type === 'stats') options.onLast(this, reply)
      else if (id === 0) options.onReady(this)
      else this.#settle(id, reply)
    })
    // Spawn errors come without an exit, an exit without an error; both may come when the channel breaks.
    const gone = (how: string): void => {
      if (this.isGone) return
      const wasLive = this.isLive
      this.isGone = true
      this.isLive = false
      for (const id of this.#waiting.keys()) this.#settle(id, lost(`the worker ended (${how})`))
      options.onExit(this, how, wasLive)
    }
    this.#process.on('exit', (code, signal) => gone(signal ?? `status ${code}`))
    this.#process.on('error', (error) => {
      if (this.pid === 0) gone(error.message)
      else this.kill()
    })
  }

  /** Always resolves; `lost` when the worker is gone or does not answer in time. */
  ask(request: Request, timeoutMs: number): Promise<Reply> {
    return new Promise((resolve) => {
      if (this.isGone || !this.#process.connected) return resolve(lost('the worker has ended'))
      const id = this.#nextId++
      const timer = this.#clock.after(timeoutMs, () => {
        this.#settle(id, lost(`the worker did not answer within ${timeoutMs} ms`))
      })
      this.#waiting.set(id, { resolve, timer })
      this.#process.send({ id, request } satisfies ToWorker, (error) => {
        if (error !== null) this.#settle(id, lost(error.message))
      })
    })
  }

  kill(): void {
    this.#process.kill('SIGKILL')
  }

  #settle(id: number, reply: Reply): void {
    const waiting = this.#waiting.get(id)
    if (waiting === undefined) return
    this.#waiting.delete(id)
    waiting.timer.cancel()
    waiting.resolve(reply)
  }
}

function lost(reason: string): Reply {
  return { type: 'lost', reason }
}
