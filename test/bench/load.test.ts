// The load generators of our own against the servers of our own, without any proxy between them.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createServer } from 'node:http'
import type net from 'node:net'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { Latencies } from '../../bench/program/latency.ts'
import { flags, program, serve } from './serve.ts'

async function generate(name: string, ...args: (string | number)[]): Promise<Record<string, number>> {
  const { stdout } = await promisify(execFile)(process.execPath, [
    ...flags,
    program(name),
    ...args.map(String),
  ])
  return JSON.parse(stdout) as Record<string, number>
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
