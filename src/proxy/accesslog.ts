// The access log: JSON lines, gathered and written in one go. Several workers append to one file (O_APPEND keeps lines
// whole); the supervisor alone rotates it and tells them to open it anew.
import { closeSync, constants, openSync, write } from 'node:fs'
import { rename, rm, stat } from 'node:fs/promises'
import { reason } from '../errors.ts'
import type { Clock, Timer } from '../clock.ts'
import type { Log } from '../log.ts'

const flushEveryMs = 50
/** What may wait for a slow disk; lines beyond are dropped and counted, traffic is not held up. */
const maxWaiting = 4 * 1024 * 1024

export const rotateAtBytes: number = 64 * 1024 * 1024
/** How many old files stay: access.log.1 and access.log.2. */
export const keepFiles = 2

export class AccessLog {
  /** Lines lost to a slow or full disk. */
  dropped = 0
  readonly #path: string
  readonly #clock: Clock
  readonly #log: Log
  #fd = -1
  #waiting: Buffer[] = []
  #lines = 0
  #bytes = 0
  #timer: Timer | undefined
  #isWriting = false
  #failed = false
  #idle: (() => void)[] = []

  constructor(options: { path: string; clock: Clock; log: Log }) {
    this.#path = options.path
    this.#clock = options.clock
    this.#log = options.log
  }

  /** Takes whole lines over, each with its line feed. */
  write(lines: Buffer, count: number): void {
    if (this.#bytes > maxWaiting) {
      this.dropped += count
      return
    }
    this.#waiting.push(lines)
    this.#lines += count
    this.#bytes += lines.length
    if (this.#timer === undefined && !this.#isWriting) this.#arm()
  }

  /** Closes the file; the next write opens whatever then has its name. */
  reopen(): void {
    if (this.#fd >= 0 && !this.#isWriting) {
      closeSync(this.#fd)
      this.#fd = -1
    } else if (this.#isWriting) {
      this.#idle.push(() => this.reopen())
    }
  }

  /** Writes what is left and closes. */
  async close(): Promise<void> {
    this.#flush()
    if (this.#isWriting) await new Promise<void>((resolve) => this.#idle.push(resolve))
    this.#timer?.cancel()
    if (this.#waiting.length > 0) {
      this.#flush()
      await new Promise<void>((resolve) => (this.#isWriting ? this.#idle.push(resolve) : resolve()))
    }
    this.#timer?.cancel()
    this.reopen()
  }

  #arm(): void {
    this.#timer = this.#clock.after(flushEveryMs, () => {
      this.#timer = undefined
      this.#flush()
    })
  }

  #flush(): void {
    if (this.#isWriting || this.#waiting.length === 0) return
    if (this.#fd < 0 && !this.#open()) {
      this.dropped += this.#lines
      this.#forget()
      return
    }
    const lines = this.#lines
    const chunk = this.#waiting.length === 1 ? this.#waiting[0]! : Buffer.concat(this.#waiting)
    this.#forget()
    this.#isWriting = true
    write(this.#fd, chunk, 0, chunk.length, null, (error, written) => {
      this.#isWriting = false
      if (error !== null || written < chunk.length) this.#fail(error ?? new Error('the disk is full'), lines)
      else this.#failed = false
      const idle = this.#idle
      this.#idle = []
      for (const run of idle) run()
      if (this.#waiting.length > 0 && this.#timer === undefined) this.#arm()
    })
  }

  #forget(): void {
    this.#waiting = []
    this.#lines = 0
    this.#bytes = 0
  }

  #open(): boolean {
    try {
      const { O_APPEND, O_CREAT, O_WRONLY, O_NOFOLLOW } = constants
      this.#fd = openSync(this.#path, O_APPEND | O_CREAT | O_WRONLY | O_NOFOLLOW, 0o640)
      return true
    } catch (error) {
      this.#fail(error, 0)
      return false
    }
  }

  /** Said once until a write succeeds again. */
  #fail(error: unknown, lines: number): void {
    this.dropped += lines
    if (!this.#failed)
      this.#log.warn({ path: this.#path, reason: reason(error) }, 'access log cannot be written')
    this.#failed = true
  }
}

/** Moves the file aside when it has grown to `maxBytes`: .1 is the youngest, the oldest goes. True: writers must reopen. */
export async function rotate(path: string, maxBytes: number = rotateAtBytes): Promise<boolean> {
  const { size } = await stat(path).catch(() => ({ size: 0 }))
  if (size < maxBytes) return false
  await rm(`${path}.${keepFiles}`, { force: true })
  for (let n = keepFiles - 1; n >= 1; n--) {
    await rename(`${path}.${n}`, `${path}.${n + 1}`).catch(() => undefined)
  }
  await rename(path, `${path}.1`)
  return true
}
