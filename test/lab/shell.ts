// Runs programs for the lab: arguments as a list, output collected, a deadline always.
import { spawn } from 'node:child_process'

export interface Ran {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

export interface RunSettings {
  readonly input?: string
  readonly timeoutMs?: number
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  /** Called with each piece of standard error as it comes. */
  readonly onStderr?: (text: string) => void
}

/** Runs a program to its end. A status of -1 means that a signal or the deadline ended it. */
export function run(command: string, args: readonly string[], settings: RunSettings = {}): Promise<Ran> {
  const { promise, resolve } = Promise.withResolvers<Ran>()
  const child = spawn(command, [...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, ...settings.env },
    ...(settings.cwd === undefined ? {} : { cwd: settings.cwd }),
  })
  const out: Buffer[] = []
  const err: Buffer[] = []
  let late = ''
  const deadline = setTimeout(() => {
    late = `\n(ended after ${settings.timeoutMs ?? 120_000} ms)`
    child.kill('SIGKILL')
  }, settings.timeoutMs ?? 120_000)
  child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
  child.stderr.on('data', (chunk: Buffer) => {
    err.push(chunk)
    settings.onStderr?.(chunk.toString())
  })
  child.stdin.on('error', () => {}) // the program may end without reading its input
  child.stdin.end(settings.input ?? '')
  child.once('error', (error) => {
    clearTimeout(deadline)
    resolve({ status: 127, stdout: '', stderr: error.message })
  })
  // 'close' waits for every holder of the pipes; a program that leaves a daemon behind would hold us up for ever.
  child.once('exit', (code) => {
    clearTimeout(deadline)
    const finish = (): void => {
      clearTimeout(grace)
      child.stdout.destroy()
      child.stderr.destroy()
      resolve({
        status: code ?? -1,
        stdout: Buffer.concat(out).toString(),
        stderr: Buffer.concat(err).toString() + late,
      })
    }
    const grace = setTimeout(finish, 1000)
    child.once('close', finish)
  })
  return promise
}

/** Runs a program and throws what it said when it fails; returns its standard output. */
export async function must(
  command: string,
  args: readonly string[],
  settings: RunSettings = {},
): Promise<string> {
  const done = await run(command, args, settings)
  if (done.status !== 0) {
    const said = `${done.stderr}\n${done.stdout}`.trim().split('\n').slice(-8).join('\n')
    throw new Error(`${command} ${args.join(' ')} ended with status ${done.status}: ${said}`)
  }
  return done.stdout
}

/** Asks again until the answer is neither false nor null nor an error; throws with the name of what was awaited. */
export async function until<T>(
  what: string,
  ask: () => Promise<T> | T,
  settings: { timeoutMs?: number; everyMs?: number } = {},
): Promise<Exclude<T, false | null | undefined>> {
  const end = performance.now() + (settings.timeoutMs ?? 30_000)
  let last: unknown
  for (;;) {
    try {
      const answer = await ask()
      if (answer !== false && answer !== null && answer !== undefined) {
        return answer as Exclude<T, false | null | undefined>
      }
      last = answer
    } catch (error) {
      last = error
    }
    if (performance.now() > end) {
      throw new Error(`waited ${settings.timeoutMs ?? 30_000} ms for: ${what}; last answer: ${String(last)}`)
    }
    await sleep(settings.everyMs ?? 100)
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
