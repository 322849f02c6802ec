// --print-command: a host that prints each thing before doing it, as a line that could be typed by hand. What is
// secret on standard input is not shown.
import { quote, type Host, type RunOptions, type RunResult } from './host.ts'
import { putCommand } from './shell.ts'

export interface PrintOptions {
  /** `ssh -p 2222 root@vm1`; '' for this machine. */
  readonly ssh: string
  /** Puts sudo in front of what runs as root. */
  readonly sudo: boolean
  readonly print: (line: string) => void
}

export class PrintingHost implements Host {
  readonly label: string
  readonly #inner: Host
  readonly #options: PrintOptions

  constructor(inner: Host, options: PrintOptions) {
    this.#inner = inner
    this.label = inner.label
    this.#options = options
  }

  async run(command: string, options: RunOptions = {}): Promise<RunResult> {
    const input = String(options.input ?? '')
    this.#show(command, options.root === true, input === '' ? '' : options.secret === true ? redacted : input)
    return await this.#inner.run(command, options)
  }

  async put(
    path: string,
    content: string | Buffer,
    options: { mode?: number; owner?: string } = {},
  ): Promise<void> {
    const text = Buffer.from(content).toString()
    // Files that others may not read are the ones with secrets in them.
    const secret = ((options.mode ?? 0o644) & 0o077) === 0
    this.#show(putCommand(path, options), true, secret ? redacted : text)
    await this.#inner.put(path, content, options)
  }

  async upload(
    localPath: string,
    path: string,
    options: { mode?: number; progress?: (bytes: number) => void } = {},
  ): Promise<void> {
    this.#options.print(`${this.#line(putCommand(path, { mode: options.mode }), true)} < ${quote(localPath)}`)
    await this.#inner.upload(localPath, path, options)
  }

  async get(path: string, options: { root?: boolean } = {}): Promise<Buffer | null> {
    this.#show(`cat ${quote(path)}`, options.root === true, '')
    return await this.#inner.get(path, options)
  }

  close(): void {
    this.#inner.close()
  }

  #show(command: string, root: boolean, input: string): void {
    const line = this.#line(command, root)
    if (input === '') this.#options.print(line)
    else if (input === redacted) this.#options.print(`${line} < /dev/stdin   # ${redacted}`)
    else this.#options.print(`${line} <<'MESHCTL'\n${input.replace(/\n?$/, '\n')}MESHCTL`)
  }

  #line(command: string, root: boolean): string {
    const elevated = root && this.#options.sudo ? `sudo sh -c ${quote(command)}` : command
    return this.#options.ssh === '' ? elevated : `${this.#options.ssh} ${quote(elevated)}`
  }
}

const redacted = '(secret input, not shown)'
