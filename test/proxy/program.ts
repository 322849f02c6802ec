// Servers that others have made, where they are installed.
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'

export function isThere(program: string): boolean {
  return spawnSync(program, ['-v']).error === undefined
}

export async function freePort(): Promise<number> {
  const server = net.createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as net.AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** Runs the program with a config file until the test ends; resolves when something listens. */
export async function run(
  t: TestContext,
  port: number,
  config: string,
  command: (file: string) => string[],
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'meshctl-balancer-'))
  const file = join(folder, 'config')
  writeFileSync(file, config.replaceAll('FOLDER', folder))
  const [program = '', ...flags] = command(file)
  let said = ''
  const child = spawn(program, flags, { stdio: ['ignore', 'ignore', 'pipe'] })
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  t.after(async () => {
    child.kill('SIGKILL')
    await ended
    rmSync(folder, { recursive: true })
  })
  const end = Date.now() + 30_000
  for (;;) {
    const isUp = await new Promise<boolean>((resolve) => {
      const socket = net.connect({ port, host: '127.0.0.1' })
      socket.on('connect', () => resolve(true))
      socket.on('error', () => resolve(false))
      socket.on('connect', () => socket.destroy())
    })
    if (isUp) return
    if (Date.now() > end || child.exitCode !== null) throw new Error(`${program} does not listen: ${said}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** nginx with these servers, one of them on `port`. */
export async function nginx(t: TestContext, port: number, servers: string): Promise<void> {
  const config = `daemon off;
master_process off;
pid FOLDER/pid;
error_log FOLDER/error.log;
events {}
http {
  access_log off;
  client_body_temp_path FOLDER;
  proxy_temp_path FOLDER;
  fastcgi_temp_path FOLDER;
  uwsgi_temp_path FOLDER;
  scgi_temp_path FOLDER;
  ${servers}
}
`
  await run(t, port, config, (file) => ['nginx', '-c', file, '-e', 'stderr'])
}
