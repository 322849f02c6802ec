// A person at a terminal: a program on a real pseudo terminal (by script(1), which every Debian has), what it shows, and keys.
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { stripVTControlCharacters } from 'node:util'
import { quote } from '../../src/host/host.ts'

export const enter = '\r'
export const down = '\u001B[B'
export const ctrlC = '\u0003'

export class Pty {
  readonly #child: ChildProcessWithoutNullStreams
  readonly #ended: Promise<number>
  /** Everything that came, as it came. */
  #raw = ''
  /** How much of the text was looked at. */
  #seen = 0
  #isOver = false
  #look: () => void = () => {}

  constructor(words: readonly string[], env: Readonly<Record<string, string>> = {}) {
    const line = `stty rows 24 cols 80; exec ${words.map(quote).join(' ')}`
    this.#child = spawn('script', ['--quiet', '--return', '--flush', '--command', line, '/dev/null'], {
      // No CI: with it in the environment nobody is asked anything.
      env: {
        PATH: process.env['PATH'] ?? '',
        HOME: '/nonexistent',
        LANG: 'C.UTF-8',
        TERM: 'xterm-256color',
        SHELL: '/bin/sh',
        ...env,
      },
    })
    this.#child.stdin.on('error', () => {})
    this.#child.stdout.on('data', (chunk: Buffer) => {
      this.#raw += chunk.toString('utf8')
      this.#look()
    })
    this.#ended = new Promise((resolve, reject) => {
      this.#child.on('error', reject)
      this.#child.on('close', (status) => {
        this.#isOver = true
        this.#look()
        resolve(status ?? -1)
      })
    })
  }

  /** All that was shown, without colours and cursor movements. */
  get shown(): string {
    return stripVTControlCharacters(this.#raw).replaceAll('\r', '')
  }

  /** Waits until this is shown, after what was waited for before. */
  async see(pattern: RegExp, timeoutMs: number = 20_000): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const complain = (why: string): void =>
      reject(
        new Error(
          `${why} while waiting for ${String(pattern)}; shown since then:\n${this.shown.slice(this.#seen)}`,
        ),
      )
    const timer = setTimeout(() => complain('nothing more came'), timeoutMs)
    this.#look = () => {
      const found = pattern.exec(this.shown.slice(this.#seen))
      if (found !== null) {
        this.#seen += found.index + found[0].length
        resolve()
      } else if (this.#isOver) complain('the program ended')
    }
    this.#look()
    try {
      await promise
    } finally {
      clearTimeout(timer)
      this.#look = () => {}
    }
  }

  type(...keys: readonly string[]): void {
    this.#child.stdin.write(keys.join(''))
  }

  /** Waits for the question, then answers it. */
  async answer(question: RegExp, ...keys: readonly string[]): Promise<void> {
    await this.see(question)
    this.type(...keys)
  }

  /** The status it ended with. */
  async end(): Promise<number> {
    return await this.#ended
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL')
  }
}
