// The older supervisor's side of a reload: starts the supervisor of the release in use now beside itself, on the same
// sockets. Until that one serves nothing is given up; a reload that fails changes nothing.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Duplex } from 'node:stream'
import { MeshError } from '../errors.ts'
import type { Secrets, Snapshot } from '../snapshot/types.ts'
import { Channel, channelFd } from './channel.ts'
import type { Dump } from './stats.ts'

/** Workers of another release may take a while to start on a busy host; the older ones serve meanwhile. */
const prepareMs = 30_000
const takeMs = 10_000

/** A socket that is passed on: a role of sockets.ts, or `health`, `prometheus`. */
export interface PassedSocket {
  readonly role: string
  readonly fd: number
  readonly port: number
}

export class Successor {
  pid = 0
  version = ''
  readonly #channel: Channel

  private constructor(channel: Channel) {
    this.#channel = channel
  }

  /**
   * `program`: as it was started, through the link to the release in use; `args` without the sockets. The new process is
   * nobody's child but the init process's, which then looks after it: systemd would not notice the end of a grandchild.
   */
  static start(program: string, args: readonly string[], sockets: readonly PassedSocket[]): Successor {
    const runtime = join(dirname(program), 'node')
    const words = sockets.flatMap(({ role, port }, i) => ['--take', `${role}=${channelFd + 1 + i}:${port}`])
    const command = [existsSync(runtime) ? runtime : process.execPath, ...process.execArgv, program, ...args]
    const shell = spawn('/bin/sh', ['-c', '"$@" &', 'sh', ...command, ...words], {
      stdio: ['ignore', 'inherit', 'inherit', 'pipe', ...sockets.map(({ fd }) => fd)],
    })
    const channel = new Channel(shell.stdio[channelFd] as Duplex)
    // Without a shell the channel ends at once, and says so.
    shell.on('error', () => channel.close())
    return new Successor(channel)
  }

  /** It runs and all its workers serve this config. Throws MSH0705 with the reason; then it is gone. */
  async prepare(snapshot: Snapshot | null, secrets: Secrets | null): Promise<void> {
    const failed = this.#channel.next('failed')
    const ready = this.#channel.next('ready')
    this.#channel.send({ type: 'config', snapshot, secrets })
    const answer = await this.#within(prepareMs, Promise.race([ready, failed]))
    if (answer?.type === 'ready') return
    this.#channel.close()
    const why = answer?.type === 'failed' ? answer.reason : 'it did not get ready'
    throw new MeshError('MSH0705', `the new release does not serve: ${why}`, {
      hint: 'journalctl -u meshctl-proxy says more; the running one serves on',
    })
  }

  /** It takes over; we may close our doors. Throws MSH0705. */
  async take(counts: Dump): Promise<void> {
    const serving = this.#channel.next('serving')
    this.count(counts)
    const answer = await this.#within(takeMs, serving)
    if (answer === null) {
      this.#channel.close()
      throw new MeshError('MSH0705', 'the new release did not take over')
    }
    this.pid = answer.pid
    this.version = answer.version
  }

  count(dump: Dump): void {
    this.#channel.send({ type: 'counts', dump })
  }

  /** The last counts; resolves when they have left. */
  finish(dump: Dump): Promise<void> {
    return this.#channel.finish({ type: 'counts', dump })
  }

  /** It has ended: nobody is left to say when we shall. */
  get ended(): Promise<void> {
    return this.#channel.ended
  }

  onReopen(run: () => void): void {
    this.#channel.on('reopen', run)
  }

  onHurry(run: (timeout: number) => void): void {
    this.#channel.on('hurry', ({ timeout }) => run(timeout))
  }

  #within<T>(ms: number, what: Promise<T>): Promise<T | null> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(null), ms)
      void what.then((value) => {
        clearTimeout(timer)
        resolve(value)
      })
    })
  }
}
