// Another machine over SSH, as a Host: one connection, several channels, sudo where the user is not root.
import { createReadStream } from 'node:fs'
import type { Client, ClientChannel } from 'ssh2'
import { MeshError } from '../errors.ts'
import { systemClock, type Clock } from '../clock.ts'
import type { Host, RunOptions, RunResult } from './host.ts'
import { failedTo, fileHash } from './local.ts'
import { absent, getCommand, putCommand, sudo } from './shell.ts'

/** sshd's MaxSessions is 10 unless told otherwise. */
const maxChannels = 8
/** How often a session that was refused is asked for again: sshd counts one that has ended for a moment longer than we do. */
const maxRefused = 10
const againMs = 200
const maxOutput = 64 * 1024 * 1024

export interface SshIdentity {
  readonly label: string
  readonly user: string
  /** The host's public key, `ssh-ed25519 AAAA…`, for pinning. */
  readonly hostKey: string
  readonly sudoPassword: string | null
  readonly clock?: Clock
}

export class SshHost implements Host {
  readonly label: string
  readonly hostKey: string
  readonly #client: Client
  readonly #user: string
  readonly #sudoPassword: string | null
  readonly #clock: Clock
  /** How root is reached; found out at the first need. */
  #sudo: 'none' | 'free' | 'password' | null
  #lost: MeshError | null = null
  readonly #onLost = new Set<(error: MeshError) => void>()
  #open = 0
  /** How many channels at a time; fewer after sshd has refused one. */
  #most = maxChannels
  readonly #waiting: (() => void)[] = []

  /** `client` is connected and authenticated; the host owns it from here on. */
  constructor(client: Client, identity: SshIdentity) {
    this.#client = client
    this.label = identity.label
    this.hostKey = identity.hostKey
    this.#user = identity.user
    this.#sudoPassword = identity.sudoPassword
    this.#clock = identity.clock ?? systemClock
    this.#sudo = this.#user === 'root' ? 'none' : null
    const lose = (why: string): void => this.#lose(why)
    client.on('error', (error: Error) => lose(error.message))
    client.on('end', () => lose('the host closed the connection'))
    client.on('close', () => lose('the connection was closed'))
  }

  async run(command: string, options: RunOptions = {}): Promise<RunResult> {
    const { line, input } = await this.#elevate(command, options)
    return await this.#exec(line, options, (stream) => {
      if (options.onStdout === undefined) stream.end(input)
      else if (input.length > 0) stream.write(input)
    })
  }

  async put(
    path: string,
    content: string | Buffer,
    options: { mode?: number; owner?: string } = {},
  ): Promise<void> {
    const result = await this.run(putCommand(path, options), { root: true, input: content, secret: true })
    if (result.status !== 0) throw failedTo(`write ${path}`, result, this.label)
  }

  async upload(
    localPath: string,
    path: string,
    options: { mode?: number; progress?: (bytes: number) => void } = {},
  ): Promise<void> {
    const command = putCommand(path, { mode: options.mode, sha256: await fileHash(localPath) })
    const { line, input } = await this.#elevate(command, { root: true })
    const result = await this.#exec(line, {}, (stream) => {
      stream.write(input)
      let sent = 0
      const file = createReadStream(localPath, { highWaterMark: 256 * 1024 })
      file.on('data', (chunk) => options.progress?.((sent += chunk.length)))
      file.on('error', () => stream.close())
      stream.on('close', () => file.destroy())
      file.pipe(stream)
    })
    if (result.status !== 0) throw failedTo(`write ${path}`, result, this.label)
  }

  async get(path: string, options: { root?: boolean } = {}): Promise<Buffer | null> {
    const result = await this.run(getCommand(path), options)
    if (result.status === absent) return null
    if (result.status !== 0) throw failedTo(`read ${path}`, result, this.label)
    return Buffer.from(result.stdout, 'base64')
  }

  close(): void {
    this.#lose('closed')
    this.#client.end()
  }

  async #elevate(command: string, options: RunOptions): Promise<{ line: string; input: Buffer }> {
    const input = Buffer.from(options.input ?? '')
    if (options.root !== true) return { line: command, input }
    this.#sudo ??= await this.#findSudo()
    if (this.#sudo === 'none') return { line: command, input }
    if (this.#sudo === 'free') return { line: sudo(command, false), input }
    return {
      line: sudo(command, true),
      input: Buffer.concat([Buffer.from(`${this.#sudoPassword}\n`), input]),
    }
  }

  /** sudo must be known to read the password or not to: a password that nobody reads would be the command's input. */
  async #findSudo(): Promise<'none' | 'free' | 'password'> {
    const id = await this.#exec('id -u', {}, (stream) => stream.end())
    if (id.stdout.trim() === '0') return 'none'
    const free = await this.#exec('sudo -k -n true', {}, (stream) => stream.end())
    if (free.status === 0) return 'free'
    if (this.#sudoPassword === null) {
      const why = free.stderr.trim().split('\n').at(-1) ?? ''
      throw new MeshError('MSH0505', `${this.label}: ${why === '' ? 'sudo is not possible' : why}`, {
        hint: `log in as root, or give the password of ${this.#user} for sudo`,
      })
    }
    const asked = await this.#exec("sudo -S -k -p '' true", {}, (stream) =>
      stream.end(`${this.#sudoPassword}\n`),
    )
    if (asked.status === 0) return 'password'
    throw new MeshError('MSH0505', `${this.label}: sudo refused the password of ${this.#user}`)
  }

  async #exec(line: string, options: RunOptions, feed: (stream: ClientChannel) => void): Promise<RunResult> {
    await this.#slot()
    try {
      for (let refused = 0; ;) {
        try {
          return await this.#channel(line, options, feed)
        } catch (error) {
          if (!isRefused(error) || refused >= maxRefused) throw error
        }
        if (this.#open > 1) {
          // Those that are open are as many as may be.
          this.#open -= 1
          this.#most = this.#open
          await this.#slot()
        } else {
          refused += 1
          await new Promise<void>((resolve) => void this.#clock.after(againMs, resolve))
        }
      }
    } finally {
      this.#open -= 1
      this.#waiting.shift()?.()
    }
  }

  async #slot(): Promise<void> {
    while (this.#open >= this.#most) await new Promise<void>((resolve) => this.#waiting.push(resolve))
    this.#open += 1
  }

  #channel(line: string, options: RunOptions, feed: (stream: ClientChannel) => void): Promise<RunResult> {
    return new Promise((resolve, reject) => {
      if (this.#lost !== null) {
        reject(this.#lost)
        return
      }
      let channel: ClientChannel | null = null
      let settled = false
      const settle = (finish: () => void): void => {
        if (settled) return
        settled = true
        timer?.cancel()
        options.signal?.removeEventListener('abort', onAbort)
        this.#onLost.delete(onLost)
        finish()
      }
      const fail = (error: Error): void =>
        settle(() => {
          channel?.close()
          reject(error)
        })
      const onLost = (error: MeshError): void => fail(error)
      const short = line.length > 80 ? `${line.slice(0, 77)}...` : line
      const onAbort = (): void => fail(new MeshError('MSH0507', `${this.label}: aborted: ${short}`))
      const timer =
        options.timeoutMs === undefined
          ? null
          : this.#clock.after(options.timeoutMs, () =>
              fail(
                new MeshError('MSH0507', `${this.label}: timed out after ${options.timeoutMs} ms: ${short}`),
              ),
            )
      if (options.signal?.aborted === true) {
        onAbort()
        return
      }
      options.signal?.addEventListener('abort', onAbort, { once: true })
      this.#onLost.add(onLost)
      this.#client.exec(line, (error, stream) => {
        if (error !== undefined) {
          fail(
            new MeshError('MSH0501', `${this.label}: no channel: ${error.message}`, {
              cause: error,
              ...('reason' in error ? { hint: 'MaxSessions in sshd_config must allow at least one' } : {}),
            }),
          )
          return
        }
        if (settled) {
          stream.close()
          return
        }
        channel = stream
        collect(stream, this.label, options.onStdout, fail, (result) => settle(() => resolve(result)))
        feed(stream)
      })
    })
  }

  #lose(why: string): void {
    if (this.#lost !== null) return
    this.#lost = new MeshError('MSH0501', `${this.label}: ${why}`)
    for (const tell of this.#onLost) tell(this.#lost)
    for (const wake of this.#waiting.splice(0)) wake()
  }
}

/** A channel that the host did not open (RFC 4254 section 5.1): nothing of the command has run. */
function isRefused(error: unknown): boolean {
  return error instanceof MeshError && error.cause instanceof Error && 'reason' in error.cause
}

/** Gathers a channel's output and status. A channel that ends without a status was cut off. */
function collect(
  stream: ClientChannel,
  label: string,
  onStdout: ((chunk: Buffer) => void) | undefined,
  fail: (error: Error) => void,
  done: (result: RunResult) => void,
): void {
  const out: Buffer[] = []
  const err: Buffer[] = []
  let size = 0
  let status: number | null = null
  const take = (list: Buffer[]) => (chunk: Buffer) => {
    size += chunk.length
    if (size > maxOutput)
      fail(new MeshError('MSH0507', `${label}: a command printed more than ${maxOutput} bytes`))
    else list.push(chunk)
  }
  stream.on('data', onStdout ?? take(out))
  stream.stderr.on('data', take(err))
  stream.on('error', (error: Error) => fail(new MeshError('MSH0501', `${label}: ${error.message}`)))
  stream.on('exit', (code: number | null) => {
    status = code ?? 143
  })
  stream.on('close', () => {
    if (status === null) fail(new MeshError('MSH0501', `${label}: the link was lost while a command ran`))
    else done({ status, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() })
  })
}
