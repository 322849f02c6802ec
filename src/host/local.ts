// This machine as a Host.
import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { chmod, open, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { MeshError } from '../errors.ts'
import { systemClock, type Clock } from '../clock.ts'
import type { Host, RunOptions, RunResult } from './host.ts'
import { absent, getCommand, putCommand, sudo } from './shell.ts'

export interface LocalOptions {
  /** Put before every command, for example `ip netns exec name`. */
  readonly wrap?: readonly string[]
  /** For sudo; null: sudo must not ask. */
  readonly sudoPassword?: string | null
  readonly clock?: Clock
}

const killGraceMs = 2000
/** Where iptables and ipset are. Cron and a user's shell on Debian leave it out. */
const adminPath = '/usr/sbin:/sbin'

export class LocalHost implements Host {
  readonly label = 'this machine'
  readonly #wrap: readonly string[]
  readonly #sudoPassword: string | null
  readonly #clock: Clock
  readonly #isRoot = process.getuid?.() === 0

  constructor(options: LocalOptions = {}) {
    this.#wrap = options.wrap ?? []
    this.#sudoPassword = options.sudoPassword ?? null
    this.#clock = options.clock ?? systemClock
  }

  async run(command: string, options: RunOptions = {}): Promise<RunResult> {
    const { line, input } = this.#elevate(command, options)
    return await this.#spawn(line, options, (stdin) => {
      if (options.onStdout === undefined) stdin.end(input)
      else if (input.length > 0) stdin.write(input)
    })
  }

  async put(
    path: string,
    content: string | Buffer,
    options: { mode?: number; owner?: string } = {},
  ): Promise<void> {
    if (!this.#isRoot || this.#wrap.length > 0 || options.owner !== undefined) {
      const result = await this.run(putCommand(path, options), { root: true, input: content, secret: true })
      if (result.status !== 0) throw failedTo(`write ${path}`, result)
      return
    }
    // As root the same steps without a shell: the agent writes often.
    const temporary = join(dirname(path), `.meshctl.${randomBytes(6).toString('hex')}`)
    const file = await open(temporary, 'wx', 0o600)
    try {
      await file.writeFile(content)
      await file.sync()
    } finally {
      await file.close()
    }
    try {
      await chmod(temporary, options.mode ?? 0o644)
      await rename(temporary, path)
    } catch (error) {
      await rm(temporary, { force: true })
      throw error
    }
  }

  async upload(
    localPath: string,
    path: string,
    options: { mode?: number; progress?: (bytes: number) => void } = {},
  ): Promise<void> {
    const command = putCommand(path, { mode: options.mode, sha256: await fileHash(localPath) })
    const { line, input } = this.#elevate(command, { root: true })
    const result = await this.#spawn(line, {}, (stdin) => {
      stdin.write(input)
      let sent = 0
      createReadStream(localPath)
        .on('data', (chunk) => options.progress?.((sent += chunk.length)))
        .on('error', (error) => stdin.destroy(error))
        .pipe(stdin)
    })
    if (result.status !== 0) throw failedTo(`write ${path}`, result)
  }

  async get(path: string, options: { root?: boolean } = {}): Promise<Buffer | null> {
    if (this.#isRoot && this.#wrap.length === 0) {
      return await readFile(path).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return null
        throw error
      })
    }
    const result = await this.run(getCommand(path), options)
    if (result.status === absent) return null
    if (result.status !== 0) throw failedTo(`read ${path}`, result)
    return Buffer.from(result.stdout, 'base64')
  }

  close(): void {}

  #elevate(command: string, options: RunOptions): { line: string; input: string | Buffer } {
    const input = options.input ?? ''
    if (options.root !== true || this.#isRoot) return { line: command, input }
    if (this.#sudoPassword === null) return { line: sudo(command, false), input }
    return {
      line: sudo(command, true),
      input: Buffer.concat([Buffer.from(`${this.#sudoPassword}\n`), Buffer.from(input)]),
    }
  }

  #spawn(
    line: string,
    options: RunOptions,
    feed: (stdin: NodeJS.WritableStream & { destroy(error?: Error): void }) => void,
  ): Promise<RunResult> {
    const words = [...this.#wrap, 'sh', '-c', line]
    return new Promise((resolve, reject) => {
      if (options.signal?.aborted === true) {
        reject(new MeshError('MSH0507', `aborted: ${line.slice(0, 80)}`))
        return
      }
      // A group of its own, so that a timeout ends what the shell started too.
      const child = spawn(words[0] ?? 'sh', words.slice(1), {
        stdio: ['pipe', 'pipe', 'pipe'],
        detached: true,
        env: { ...process.env, PATH: `${process.env['PATH'] ?? '/usr/bin:/bin'}:${adminPath}` },
      })
      const out: Buffer[] = []
      const err: Buffer[] = []
      let reasonToStop: string | null = null
      const stop = (why: string): void => {
        reasonToStop = why
        endGroup(child.pid, 'SIGTERM')
        grace = this.#clock.after(killGraceMs, () => endGroup(child.pid, 'SIGKILL'))
      }
      let grace: { cancel(): void } | null = null
      const timer =
        options.timeoutMs === undefined ? null : this.#clock.after(options.timeoutMs, () => stop('timed out'))
      const onAbort = (): void => stop('aborted')
      options.signal?.addEventListener('abort', onAbort, { once: true })
      const done = (): void => {
        timer?.cancel()
        grace?.cancel()
        options.signal?.removeEventListener('abort', onAbort)
      }
      child.stdout.on('data', options.onStdout ?? ((chunk: Buffer) => out.push(chunk)))
      child.stderr.on('data', (chunk: Buffer) => err.push(chunk))
      // A command that does not read its input closes the pipe; its status tells the rest.
      child.stdin.on('error', () => {})
      child.on('error', (error) => {
        done()
        reject(error)
      })
      child.on('close', (code, signal) => {
        done()
        if (reasonToStop !== null) {
          reject(new MeshError('MSH0507', `${reasonToStop}: ${line.slice(0, 80)}`))
          return
        }
        resolve({
          status: code ?? 128 + (signal === null ? 0 : 15),
          stdout: Buffer.concat(out).toString(),
          stderr: Buffer.concat(err).toString(),
        })
      })
      feed(child.stdin)
    })
  }
}

/** SHA-256 of a local file, hex. */
export async function fileHash(path: string): Promise<string> {
  await stat(path)
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

/** The error for a command that had to succeed. */
export function failedTo(what: string, result: RunResult, label?: string): MeshError {
  const why =
    (result.stderr.trim() || result.stdout.trim()).split('\n').slice(-3).join('; ') ||
    `status ${result.status}`
  return new MeshError('MSH0507', `${label === undefined ? '' : `${label}: `}could not ${what}: ${why}`)
}

/** Runs a command as root that has to succeed; its standard output. */
export async function must(
  host: Host,
  what: string,
  command: string,
  options: RunOptions = {},
): Promise<string> {
  const result = await host.run(command, { root: true, ...options })
  if (result.status !== 0) throw failedTo(what, result, host.label)
  return result.stdout
}

function endGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, signal)
  } catch {
    // It has ended by itself.
  }
}
