// The load generators of our own against the servers of our own, without any proxy between them.
import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { test, type TestContext } from 'node:test'
import { promisify } from 'node:util'
import { makeSecrets } from '../../bench/certs.ts'
import { Latencies } from '../../bench/program/latency.ts'

const program = (name: string): string => resolve(import.meta.dirname, `../../bench/program/${name}.ts`)
const flags = ['--disable-warning=ExperimentalWarning']

async function generate(name: string, ...args: (string | number)[]): Promise<Record<string, number>> {
  const { stdout } = await promisify(execFile)(process.execPath, [
    ...flags,
    program(name),
    ...args.map(String),
  ])
  return JSON.parse(stdout) as Record<string, number>
}

/** A server program on a port that was free a moment ago, once it accepts. */
async function serve(t: TestContext, name: string, ...args: (string | number)[]): Promise<number> {
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

async function freePort(): Promise<number> {
  const server = net.createServer()
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const port = portOf(server)
  await new Promise((done) => server.close(done))
  return port
}

function portOf(server: net.Server): number {
  return (server.address() as net.AddressInfo).port
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

test('percentiles are of what was added, however much', () => {
  const latencies = new Latencies()
  for (let value = 100_000; value > 0; value--) latencies.add(value)
  assert.equal(latencies.count, 100_000)
  assert.deepEqual(latencies.summary(), { p50_ms: 50_001, p99_ms: 99_001, p999_ms: 99_901 })
})

test('a fixed rate is kept, and a stall is in the latencies of all that were due meanwhile', async (t) => {
  let answered = 0
  const server = createServer((_, response) => {
    const answer = (): void => void response.setHeader('content-length', 2).end('ok')
    // One request in the middle holds its connection for a quarter of a second.
    if (++answered === 50) setTimeout(answer, 250)
    else answer()
  })
  t.after(() => server.close())
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as net.AddressInfo
  const { count, p50_ms, p99_ms, p999_ms } = await generate('rate', '127.0.0.1', port, process.pid, 200, 2, 1)
  server.closeAllConnections()
  assert.equal(count, 200)
  assert.ok(p999_ms! >= 245, `the stall itself: ${p999_ms}`)
  // 25 requests a quarter of a second on each of two connections: all of one connection waited, evenly more or less.
  assert.ok(p99_ms! >= 200, `those behind it: ${p99_ms}`)
  assert.ok(p50_ms! < 100, `the others: ${p50_ms}`)
})

test('WebSocket messages come back as they were sent', async (t) => {
  const port = await serve(t, 'echo')
  const { count, p50_ms, cpu_us } = await generate('websocket', '127.0.0.1', port, process.pid, 60, 64, 0.2)
  assert.ok(count! > 60 && p50_ms! > 0)
  assert.ok(cpu_us! >= 0)
})

test('bulk data is counted where it arrives, both ways', async (t) => {
  const port = await serve(t, 'sink')
  const up = await generate('bulk', '127.0.0.1', port, '', 1, 0, 0.2)
  assert.ok(up['count']! > 1, `${up['count']} MB up`)
  const down = await generate('bulk', '127.0.0.1', port, '', 0, 1, 0.2)
  assert.ok(down['count']! > 1, `${down['count']} MB down`)
})

test('a body is read whole before its answer, and one without a length is refused', async (t) => {
  const port = await serve(t, 'bodies', 70_000)
  const sent = Buffer.alloc(70_000, 'x')
  const answer = await fetch(`http://127.0.0.1:${port}/`, { method: 'POST', body: sent })
  assert.equal((await answer.arrayBuffer()).byteLength, 70_000)
  const refused = await fetch(`http://127.0.0.1:${port}/`)
  assert.equal(refused.status, 411)
})

test('the floor carries pieces and ends both ways, and uses the numbers of its connections again', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'meshctl-floor-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const secrets = makeSecrets()
  const files = (side: 'client' | 'server'): string[] => {
    const { chain, key } = secrets[side].leafs.at(-1)!
    return Object.entries({ chain, key, roots: secrets[side].roots }).map(([name, text]) => {
      const file = join(dir, `${side}-${name}.pem`)
      writeFileSync(file, text, { mode: 0o600 })
      return file
    })
  }
  const open = new Set<net.Socket>()
  const echo = net.createServer((socket) => {
    open.add(socket)
    socket.on('close', () => open.delete(socket))
    socket.on('error', () => undefined)
    socket.on('data', (chunk) => (chunk.toString() === 'end' ? socket.end('bye') : socket.write(chunk)))
  })
  await new Promise<void>((done) => echo.listen(0, '127.0.0.1', done))
  t.after(() => echo.close())
  const far = await serve(t, 'floor', '127.0.0.1', 'far', '127.0.0.1', portOf(echo), ...files('server'))
  const near = await serve(t, 'floor', '127.0.0.1', 'near', '127.0.0.1', far, ...files('client'))
  for (let round = 0; round < 3; round++) {
    const sockets = Array.from({ length: 5 }, () => net.connect({ port: near, host: '127.0.0.1' }))
    for (const [i, socket] of sockets.entries()) {
      for (const piece of [`a${i}`, 'x'.repeat(1000 + i)]) {
        socket.write(piece)
        assert.equal(String((await once(socket, 'data'))[0]), piece)
      }
    }
    // The backend ends some, the load the others.
    for (const [i, socket] of sockets.entries()) {
      if (i % 2 === 0) {
        socket.write('end')
        assert.equal(String((await once(socket, 'data'))[0]), 'bye')
        await once(socket, 'end')
      } else socket.end()
    }
    while (open.size > 0) await new Promise((done) => setTimeout(done, 5))
  }
})
