// The flow recorder: what every part of a mesh in one process said, in order. A test that fails or hangs leaves it behind
// in a file and names the file.
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import pino from 'pino'
import type { Log } from '../../src/log.ts'

/** Enough for half a minute of a small mesh; what is older rarely explains a failure. */
const maxLines = 20_000
const testTimeoutMs = 180_000
/** What a hung test holds open would keep the process for ever. */
const lingerMs = 5000
let isHung = false

after(() => {
  if (isHung) setTimeout(() => process.exit(1), lingerMs).unref()
})

export class Recorder {
  #lines: string[] = []
  readonly #began = performance.now()

  note(who: string, what: string): void {
    this.#lines.push(`${(performance.now() - this.#began).toFixed(1).padStart(9)} ${who.padEnd(12)} ${what}`)
    if (this.#lines.length > maxLines) this.#lines = this.#lines.slice(-maxLines / 2)
  }

  /** A log whose lines go into the flow. */
  log(who: string): Log {
    const options = { level: 'debug', base: null, timestamp: false }
    return pino(options, { write: (line: string) => this.note(who, line.trim()) })
  }

  /** Path of a file with everything noted so far. */
  write(): string {
    const path = join(mkdtempSync(join(tmpdir(), 'meshctl-flow-')), 'flow.txt')
    writeFileSync(path, `${this.#lines.join('\n')}\n`)
    return path
  }
}

/** A test that leaves its flow behind when it fails, and when it hangs. */
export function recorded(name: string, run: (recorder: Recorder) => Promise<void>): void {
  void test(name, { timeout: testTimeoutMs }, async (t) => {
    const recorder = new Recorder()
    const leave = (why: string): void => {
      recorder.note('test', why)
      t.diagnostic(`flow of the failed test: ${recorder.write()}`)
    }
    const hung = (): void => {
      isHung = true
      leave(`hung for ${testTimeoutMs} ms`)
    }
    const timer = setTimeout(hung, testTimeoutMs - 500)
    try {
      await run(recorder)
    } catch (error) {
      leave(error instanceof Error ? (error.stack ?? error.message) : String(error))
      throw error
    } finally {
      clearTimeout(timer)
    }
  })
}
