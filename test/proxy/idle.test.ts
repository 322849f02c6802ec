// Ten thousand callers that say nothing, on one real worker, and those that do say something among them.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import net from 'node:net'
import { test } from 'node:test'
import { app, childrenOf, get, prefix, serving, start, until } from './process.ts'

const count = 10_000
/** Of the worker, for each idle connection: what issue 4 allows. */
const bytesEach = 12 * 1024

// Node raises its own limit to what is allowed; the worker inherits that.
const limit = execFileSync('/bin/sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' }).trim()
const isAllowed = limit === 'unlimited' || Number(limit) > count + 1000

function residentOf(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1024
}

function ask(socket: net.Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      if (text.endsWith('hello')) resolve(text)
    })
    socket.on('close', () => reject(new Error(`closed after ${JSON.stringify(text)}`)))
    socket.write('GET / HTTP/1.1\r\nHost: web\r\n\r\n')
  })
}

test('10,000 idle connections on one worker, then requests on some', { skip: !isAllowed }, async (t) => {
  const port = await app(t)
  const proxy = await start(t, prefix(t), port, { workers: 1 })
  await proxy.push.send({ type: 'snapshot', snapshot: serving(port) })
  await until(async () => (await get(proxy.inbound))[0] === 200)
  const [worker = 0] = childrenOf(proxy.process.pid!)
  const before = residentOf(worker)
  const sockets: net.Socket[] = []
  t.after(() => {
    for (const socket of sockets) socket.destroy()
  })
  let ended = 0
  const open = async (): Promise<void> => {
    while (sockets.length < count) {
      const socket = net.connect(proxy.inbound, '127.0.0.1')
      sockets.push(socket)
      await new Promise<void>((resolve, reject) => {
        socket.once('connect', resolve)
        socket.once('error', reject)
      })
      socket.on('error', () => undefined)
      socket.on('close', () => ended++)
    }
  }
  await Promise.all(Array.from({ length: 200 }, open))
  // One request on the last one: whatever came before it has been accepted.
  await ask(sockets.at(-1)!)
  const grown = residentOf(worker) - before
  t.diagnostic(`${(grown / count / 1024).toFixed(1)} KB per connection`)
  assert.ok(grown / count < bytesEach, `${grown / count} bytes per connection`)
  const some = sockets.slice(0, -1).filter((_, i) => i % 50 === 0)
  const started = performance.now()
  for (const text of await Promise.all(some.map(ask))) assert.match(text, /^HTTP\/1\.1 200 /)
  assert.ok(performance.now() - started < 5000)
  assert.equal(ended, 0)
  assert.equal((await get(proxy.inbound))[0], 200)
})
