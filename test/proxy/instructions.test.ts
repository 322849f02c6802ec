// What one request costs two hops in instructions outside the kernel, counted by valgrind's callgrind: the same on a busy
// machine and a quiet one, which no time is. The compiler's are left out, since it may come at any moment. The bounds lie
// a tenth above what was measured; whoever lowers the cost lowers them.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { bundleTo } from '../../scripts/build.ts'
import { ensure, missing } from '../../scripts/setup.ts'
import { application, ask } from './repeat.ts'

/** Node's flags for workers, and all that it does beside the program in turn with it: threads would be counted too. */
const flags = [
  '--max-semi-space-size=4',
  '--invocation-count-for-turbofan=1000',
  '--minimum-invocations-after-ic-update=200',
  '--single-threaded',
  '--disable-warning=ExperimentalWarning',
]
const warm = 10_000
const counted = 2000
const compiler = /v8::internal::(?:compiler|maglev|baseline|interpreter)|[Mm]aglev|turboshaft|Zone/

/** Two hops under callgrind, which counts nothing yet. */
class Watched {
  port = 0
  readonly #folder: string
  readonly #child: ChildProcess
  #said = ''

  constructor(t: TestContext, folder: string, program: string, app: number) {
    this.#folder = folder
    this.#child = spawn(
      'valgrind',
      [
        '--tool=callgrind',
        '--instr-atstart=no',
        // The program is compiled as it runs.
        '--smc-check=all-non-file',
        `--callgrind-out-file=${join(folder, 'counts')}`,
        process.execPath,
        ...flags,
        program,
        String(app),
      ],
      { stdio: ['ignore', 'pipe', 'pipe'], cwd: folder },
    )
    this.#child.stderr?.on('data', (chunk: Buffer) => (this.#said += chunk.toString()))
    const ended = new Promise<void>((resolve) => this.#child.once('exit', () => resolve()))
    t.after(async () => {
      this.#child.kill('SIGKILL')
      await ended
    })
  }

  start(): Promise<this> {
    return new Promise((resolve, reject) => {
      this.#child.stdout?.on('data', (chunk: Buffer) => {
        this.port = Number(chunk.toString())
        resolve(this)
      })
      this.#child.once('error', reject)
      this.#child.once('exit', (code) => reject(new Error(`valgrind ended (${code}): ${this.#said}`)))
    })
  }

  count(): void {
    this.#tell('--instr=on')
  }

  zero(): void {
    this.#tell('--zero')
  }

  /** Instructions since `zero`, those of the compiler left out. */
  counts(): number {
    this.#tell('--dump')
    const [file] = readdirSync(this.#folder).filter((name) => /^counts\.\d+$/.test(name))
    assert.ok(file !== undefined, `callgrind has written nothing: ${this.#said}`)
    return total(readFileSync(join(this.#folder, file), 'utf8'))
  }

  #tell(what: string): void {
    execFileSync('callgrind_control', [what, String(this.#child.pid)], { stdio: 'pipe' })
  }
}

/** Format: https://valgrind.org/docs/manual/cl-format.html. What a call cost in all stands in the line after it. */
function total(profile: string): number {
  const names = new Map<string, string>()
  let isCompiler = false
  let isCall = false
  let sum = 0
  for (const line of profile.split('\n')) {
    const [, called, id, name] = /^(c?)fn=\((\d+)\)(?: (.*))?$/.exec(line) ?? []
    if (id !== undefined) {
      // Told in full where it is met first.
      if (name !== undefined) names.set(id, name)
      if (called === '') isCompiler = compiler.test(names.get(id) ?? '')
    } else if (line.startsWith('calls=')) isCall = true
    else {
      const cost = /^[-+*\d]\S* (\d+)$/.exec(line)?.[1]
      if (cost === undefined) continue
      if (!isCall && !isCompiler) sum += Number(cost)
      isCall = false
    }
  }
  return sum
}

const isLacking = missing('instructions').length > 0 && process.getuid?.() !== 0
const skip = isLacking ? `needs ${missing('instructions').join(' ')}` : false

for (const { connections, bound } of [
  // One request at a time: each read, write and record of TLS serves one request.
  { connections: 1, bound: 142_000 },
  { connections: 32, bound: 80_000 },
]) {
  test(`a request on ${connections} connections takes no more instructions`, { skip }, async (t) => {
    ensure('instructions', (line) => t.diagnostic(line))
    const app = await application(t)
    const folder = mkdtempSync(join(tmpdir(), 'meshctl-callgrind-'))
    t.after(() => rmSync(folder, { recursive: true }))
    // As it is shipped: modules that are loaded one by one cost more.
    const program = join(folder, 'twohops.js')
    await bundleTo(program, join(import.meta.dirname, 'twohops.ts'), true)
    const watched = await new Watched(t, folder, program, app).start()
    await ask(t, watched.port, connections, warm)
    watched.count()
    await ask(t, watched.port, connections, 300)
    watched.zero()
    await ask(t, watched.port, connections, counted)
    const cost = Math.round(watched.counts() / counted)
    t.diagnostic(`${cost} instructions per request`)
    assert.ok(cost > bound / 2 && cost < bound, `${cost} instructions, bound ${bound}`)
  })
}
