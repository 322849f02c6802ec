// The real proxy process for tests: supervisor, workers, engine, push socket, health and metrics on loopback, without root
// and systemd.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, request } from 'node:http'
import type { Agent } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import type { TestContext } from 'node:test'
import { pathsUnder } from '../../src/paths.ts'
import { connectPush } from '../../src/snapshot/push.ts'
import type { PushConnection } from '../../src/snapshot/push.ts'
import { serverName } from '../../src/snapshot/types.ts'
import type { Snapshot } from '../../src/snapshot/types.ts'
import { emptySnapshot } from './snapshots.ts'

export const main = join(import.meta.dirname, '../../src/proxy/main.ts')

export interface Proxy {
  process: ChildProcess
  inbound: number
  health: number
  prometheus: number
  push: PushConnection
  exit: Promise<number | null>
  /** What it and its successors have logged. */
  log: () => string
}

/** An application that says its name, after `?wait` milliseconds, and echoes upgraded connections. */
export async function app(t: TestContext): Promise<number> {
  const server = createServer((incoming, response) => {
    const wait = Number(new URL(incoming.url!, 'http://a').searchParams.get('wait'))
    setTimeout(() => response.end('hello'), wait)
  })
  server.on('upgrade', (_incoming, socket: Socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n')
    socket.on('error', () => undefined)
    socket.pipe(socket)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

export function prefix(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'proxy-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  const paths = pathsUnder(dir)
  for (const path of [paths.proxyState, paths.logs]) mkdirSync(path, { recursive: true })
  return dir
}

/** Starts the process with every captured connection taken to have gone to `port`. */
export async function start(
  t: TestContext,
  dir: string,
  port: number,
  options: {
    workers?: number
    /** A listening socket, passed as systemd does it. */
    inherited?: number
    program?: string
    more?: string[]
    env?: NodeJS.ProcessEnv
  } = {},
): Promise<Proxy> {
  const { workers = 2, inherited, program = main, more = [] } = options

  const bind = inherited === undefined ? ['--inbound'] : []
  const flags = [...bind, '--health', '--prometheus'].flatMap((flag) => [flag, '127.0.0.1:0'])
  const args = [
    program,
    '--prefix',
    dir,
    '--workers',
    String(workers),
    '--destination',
    `127.0.0.1:${port}`,
    ...flags,
    ...more,
  ]
  const env = { ...process.env, MESHCTL_LOG: 'info', ...options.env }
  // As systemd does it: descriptors from 3 on, the pid they are meant for, and started again when it ends.
  const script = `run() { sh -c 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"' sh "$@"; }; run "$@"; run "$@"`
  const child =
    inherited === undefined
      ? spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'], env, detached: true })
      : spawn('/bin/sh', ['-c', script, 'sh', process.execPath, ...args], {
          stdio: ['ignore', 'ignore', 'pipe', inherited],
          env,
          detached: true,
        })
  const { stderr } = child as { stderr: Readable }
  const exit = new Promise<number | null>((resolve) => child.on('exit', resolve))
  t.after(async () => {
    // The group is gone when all have ended by themselves.
    if (isAlive(-child.pid!)) process.kill(-child.pid!, 'SIGKILL')
    await exit
  })
  let log = ''
  const started = await new Promise<Record<string, unknown>>((resolve, reject) => {
    createInterface(stderr).on('line', (line) => {
      log += `${line}\n`
      if (line.includes('"started"')) resolve(JSON.parse(line) as Record<string, unknown>)
    })
    void exit.then(() => reject(new Error(log)))
  })
  const push = connectPush(pathsUnder(dir).proxySocket)
  t.after(() => push.close())
  const socket = (started['sockets'] as string[]).find((one) => one.startsWith('inbound:'))!
  return {
    process: child,
    inbound: Number(socket.split(':')[1]),
    health: started['health'] as number,
    prometheus: started['prometheus'] as number,
    push,
    exit,
    log: () => log,
  }
}

export function serving(port: number): Snapshot {
  return emptySnapshot('vm1', {
    inbound: [
      {
        service: 'web',
        namespace: 'default',
        version: 'v1',
        identity: 0,
        serverName: serverName('web', 'default', port),
        port,
        address: '127.0.0.1',
        protocol: 'http',
        mtls: 'permissive',
      },
    ],
  })
}

export function get(
  port: number,
  path = '/',
  agent: Agent | false = false,
  host = '127.0.0.1',
): Promise<[number, string]> {
  return new Promise((resolve, reject) => {
    const asked = request({ host, port, path, agent, timeout: 20_000 }, (response) => {
      let body = ''
      response.on('data', (chunk) => (body += chunk))
      response.on('end', () => resolve([response.statusCode ?? 0, body]))
      response.on('error', reject)
    })
    asked.on('timeout', () => asked.destroy(new Error('no answer')))
    asked.on('error', reject)
    asked.end()
  })
}

export async function until(what: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 20_000
  while (!(await what().catch(() => false))) {
    assert.ok(performance.now() < deadline, `never: ${what.toString()}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

export function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    .split(' ')
    .filter((word) => word !== '')
    .map(Number)
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
