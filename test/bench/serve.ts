// The benchmark's own programs, started as it starts them.
import { type ChildProcess, spawn } from 'node:child_process'
import net from 'node:net'
import { resolve } from 'node:path'
import type { TestContext } from 'node:test'
import { freePort } from '../proxy/program.ts'

export const program = (name: string): string =>
  resolve(import.meta.dirname, `../../bench/program/${name}.ts`)
export const flags: readonly string[] = ['--disable-warning=ExperimentalWarning']

/** A server program on a port that was free a moment ago, once it accepts. */
export async function serve(t: TestContext, name: string, ...args: (string | number)[]): Promise<number> {
  const port = await freePort()
  const child: ChildProcess = spawn(
    process.execPath,
    [...flags, program(name), String(port), ...args.map(String)],
    {
      stdio: ['ignore', 'inherit', 'inherit'],
    },
  )
  t.after(() => child.kill('SIGKILL'))
  const end = Date.now() + 30_000
  while (!(await accepts(port))) {
    if (Date.now() > end) throw new Error(`${name} does not listen`)
  }
  return port
}

function accepts(port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = net.connect({ port, host: '127.0.0.1' })
    socket.on('connect', () => {
      socket.destroy()
      done(true)
    })
    socket.on('error', () => setTimeout(done, 20, false))
  })
}
