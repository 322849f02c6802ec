// The writing half of a socket: order, back pressure, ends and failures, on real sockets, plain and TLS.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { isDirect, Outlet } from '../../src/net/outlet.ts'

async function pair(t: TestContext): Promise<{ near: net.Socket; far: net.Socket }> {
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const near = net.connect({ port: (server.address() as AddressInfo).port, allowHalfOpen: true })
  const [far] = (await once(server, 'connection')) as [net.Socket]
  if (near.connecting) await once(near, 'connect')
  t.after(() => {
    near.destroy()
    far.destroy()
    server.close()
  })
  return { near, far }
}

test('the project’s runtime is one whose handles are written to directly', () => {
  assert.equal(isDirect, true)
})

test('small writes leave at once, in order and without Node’s own queue', async (t) => {
  const { near, far } = await pair(t)
  const outlet = new Outlet(near, () => {})
  for (const word of ['one ', 'two ', 'three']) assert.equal(outlet.write(Buffer.from(word)), true)
  assert.equal(near.writableLength, 0)
  outlet.end()
  far.resume()
  let got = ''
  far.on('data', (chunk: Buffer) => (got += chunk.toString()))
  await once(far, 'end')
  assert.equal(got, 'one two three')
})

test('a slow reader holds the writer, nothing is lost, and the end comes last', async (t) => {
  const { near, far } = await pair(t)
  let drains = 0
  const outlet = new Outlet(near, () => drains++)
  let sent = 0
  let held = false
  for (let i = 0; i < 400; i++) {
    const chunk = Buffer.alloc(65_536, i)
    sent += chunk.length
    if (!outlet.write(chunk)) held = true
  }
  assert.equal(held, true)
  assert.equal(outlet.isFull, true)
  // Nobody else holds the bytes that are on their way.
  globalThis.gc?.()
  let read = 0
  far.on('data', (chunk: Buffer) => {
    for (let i = 0; i < chunk.length; i += 4096) assert.equal(chunk[i], ((read + i) >> 16) & 255)
    read += chunk.length
  })
  far.resume()
  while (drains === 0) await new Promise((resolve) => setImmediate(resolve))
  assert.equal(outlet.isFull, false)
  outlet.end()
  await once(far, 'end')
  assert.equal(read, sent)
})

test('an end that is asked for while bytes wait follows them', async (t) => {
  const { near, far } = await pair(t)
  const outlet = new Outlet(near, () => {})
  let sent = 0
  while (!outlet.isFull) {
    outlet.write(Buffer.alloc(262_144))
    sent += 262_144
  }
  outlet.end()
  let read = 0
  far.on('data', (chunk: Buffer) => (read += chunk.length))
  far.resume()
  await once(far, 'end')
  assert.equal(read, sent)
})

test('a peer that is gone ends the socket with the system’s code', async (t) => {
  const { near, far } = await pair(t)
  // Nothing is read here, so that only the writes can notice.
  near.pause()
  const outlet = new Outlet(near, () => {})
  far.resetAndDestroy()
  const failed = once(near, 'error') as Promise<[NodeJS.ErrnoException]>
  while (!near.destroyed) {
    outlet.write(Buffer.from('x'))
    await new Promise((resolve) => setImmediate(resolve))
  }
  const [error] = await failed
  assert.match(error.code ?? '', /^(EPIPE|ECONNRESET)$/)
  assert.equal(outlet.write(Buffer.from('x')), true)
})

test('destroyed with bytes on their way: no drain, no error', async (t) => {
  const { near } = await pair(t)
  let drains = 0
  const outlet = new Outlet(near, () => drains++)
  while (!outlet.isFull) outlet.write(Buffer.alloc(262_144))
  near.destroy()
  await once(near, 'close')
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal(drains, 0)
})

for (const isWide of [false, true]) {
  test(`borrowed bytes of any size arrive as they were${isWide ? ', in larger pieces' : ''}`, async (t) => {
    const { near, far } = await pair(t)
    const { promise: drained, resolve: drain } = Promise.withResolvers<void>()
    const outlet = new Outlet(near, drain)
    outlet.isWide = isWide
    const borrowed = Buffer.alloc(300_000)
    let sent = 0
    const write = (how: 'copy' | 'gather', bytes: number): boolean => {
      for (let i = 0; i < bytes; i++) borrowed[i] = (sent + i) % 251
      sent += bytes
      return outlet[how](borrowed, 0, bytes)
    }
    // With nothing under way, into a block that was begun, and behind a write that waits; blocks cut at their ends.
    write('copy', 300_000)
    for (const bytes of [65_536, 1, 16_384, 65_535, 262_144, 7, 65_537]) {
      write('gather', bytes)
      write('copy', bytes)
    }
    while (write('gather', 16_384));
    write('copy', 299_999)
    let read = 0
    far.on('data', (chunk: Buffer) => {
      for (let i = 0; i < chunk.length; i++)
        if (chunk[i] !== (read + i) % 251) assert.fail(`byte ${read + i} of ${sent}`)
      read += chunk.length
    })
    far.resume()
    await drained
    // Blocks that came back are used again.
    for (let i = 0; i < 40; i++) write('gather', 16_384)
    outlet.end()
    await once(far, 'end')
    assert.equal(read, sent)
  })
}
