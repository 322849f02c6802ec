// Accepted connections driven by their handle alone, on real sockets: bytes, ends, back pressure, resets.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { acceptHandles } from '../../src/net/incoming.ts'
import type { Incoming } from '../../src/net/incoming.ts'
import type { Owner } from '../../src/net/channel.ts'

/** Writes down what it is told. */
class Scribe implements Owner {
  text = ''
  bytesSeen = 0
  isEnded = false
  drains = 0
  error: Error | null = null
  readonly over: Promise<void>
  #resolve: () => void

  constructor() {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.over = promise
    this.#resolve = resolve
  }

  bytes(buffer: Buffer, start: number, end: number): void {
    this.bytesSeen += end - start
    if (this.text.length < 100) this.text += buffer.latin1Slice(start, end)
  }

  ended(): void {
    this.isEnded = true
  }

  drained(): void {
    this.drains++
  }

  closed(error: Error | null): void {
    this.error = error
    this.#resolve()
  }
}

async function pair(
  t: TestContext,
): Promise<{ near: Incoming; scribe: Scribe; far: net.Socket; port: number }> {
  const server = net.createServer()
  server.on('connection', () => assert.fail('the server was told'))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const accepted = Promise.withResolvers<Incoming>()
  const scribe = new Scribe()
  const isTaken = acceptHandles(server, (incoming) => {
    incoming.owner = scribe
    accepted.resolve(incoming)
  })
  assert.equal(isTaken, true, 'the project’s runtime is one whose handles are known')
  const { port } = server.address() as AddressInfo
  const far = net.connect({ port, allowHalfOpen: true })
  far.on('error', () => undefined)
  const near = await accepted.promise
  t.after(() => {
    near.destroy()
    far.destroy()
  })
  return { near, scribe, far, port }
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setImmediate(resolve))
}

test('bytes go both ways and both ends are passed on by themselves', async (t) => {
  const { near, scribe, far, port } = await pair(t)
  far.end('question')
  await until(() => scribe.isEnded)
  assert.equal(scribe.text, 'question')
  assert.equal(near.bytesIn, 8)
  assert.equal(near.isClosed, false)
  near.write(Buffer.from('ans'))
  near.copy(Buffer.from('xwerx'), 1, 4)
  near.end()
  near.write(Buffer.from('too late'))
  let got = ''
  far.on('data', (chunk: Buffer) => (got += chunk.toString()))
  await Promise.all([once(far, 'end'), scribe.over])
  assert.equal(got, 'answer')
  assert.equal(near.bytesOut, 6)
  assert.equal(scribe.error, null)
  assert.equal(near.socket.localPort, port)
})

test('after its own end it still reads', async (t) => {
  const { near, scribe, far } = await pair(t)
  far.resume()
  near.end()
  await once(far, 'end')
  far.end('last words')
  await scribe.over
  assert.equal(scribe.text, 'last words')
  assert.equal(scribe.error, null)
})

test('its ends have addresses', async (t) => {
  const { near, far } = await pair(t)
  if (far.connecting) await once(far, 'connect')
  const { remoteAddress, remotePort, localAddress } = near.socket
  assert.deepEqual([remoteAddress, remotePort, localAddress], ['127.0.0.1', far.localPort, '127.0.0.1'])
})

test('while it is held nothing is read', async (t) => {
  const { near, scribe, far } = await pair(t)
  near.hold()
  near.hold()
  far.write('kept')
  await new Promise((resolve) => far.write('', resolve))
  near.release()
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
  assert.equal(scribe.text, '')
  near.release()
  await until(() => scribe.text === 'kept')
})

test('a slow reader is waited for, and the end comes last', async (t) => {
  const { near, scribe, far } = await pair(t)
  let sent = 0
  while (!near.isFull) {
    near.write(Buffer.alloc(262_144, 'x'))
    sent += 262_144
  }
  assert.equal(near.close(), false, 'what was written has not left')
  let read = 0
  far.on('data', (chunk: Buffer) => (read += chunk.length))
  await until(() => scribe.drains > 0)
  near.end()
  await once(far, 'end')
  assert.equal(read, sent)
  far.end()
  await scribe.over
})

test('a close sends all, then the end, and is over at once', async (t) => {
  const { near, scribe, far } = await pair(t)
  far.write('q')
  await until(() => scribe.text === 'q')
  near.write(Buffer.from('all'))
  assert.equal(near.close(), true)
  assert.equal(near.isClosed, true)
  await scribe.over
  let got = ''
  far.on('data', (chunk: Buffer) => (got += chunk.toString()))
  await once(far, 'end')
  assert.equal(got, 'all')
  assert.equal(near.close(), false)
  near.end()
  near.abort()
  near.destroy()
})

test('an abort is a reset, and one from the peer is told', async (t) => {
  const one = await pair(t)
  one.far.resume()
  const failed = once(one.far, 'error') as Promise<[NodeJS.ErrnoException]>
  one.near.abort()
  assert.equal((await failed)[0].code, 'ECONNRESET')
  await one.scribe.over
  const two = await pair(t)
  if (two.far.connecting) await once(two.far, 'connect')
  two.far.resetAndDestroy()
  await two.scribe.over
  assert.equal((two.scribe.error as NodeJS.ErrnoException | null)?.code, 'ECONNRESET')
})

for (const [what, before] of [
  ['its own end', (near: Incoming) => near.end()],
  [
    'bytes and its own end',
    (near: Incoming) => {
      near.write(Buffer.alloc(100_000))
      near.end()
    },
  ],
  ['an abort', (near: Incoming) => near.abort()],
  ['a destroy', (near: Incoming) => near.destroy()],
] as const) {
  test(`an abort after ${what} ends it`, async (t) => {
    const { near, scribe } = await pair(t)
    before(near)
    near.abort()
    await scribe.over
    assert.equal(near.isClosed, true)
    assert.equal(scribe.error, null)
  })
}

test('reading wide it reads more than a block at a time', async (t) => {
  const { near, scribe, far } = await pair(t)
  const sizes: number[] = []
  near.owner = {
    bytes: (buffer, start, end) => {
      sizes.push(end - start)
      scribe.bytes(buffer, start, end)
    },
    ended: () => scribe.ended(),
    drained: () => undefined,
    closed: (error) => scribe.closed(error),
  }
  const send = async (): Promise<number> => {
    near.hold()
    far.write(Buffer.alloc(400_000))
    // As much as fits between the two lies ready.
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve))
    const before = scribe.bytesSeen
    sizes.length = 0
    near.release()
    await until(() => scribe.bytesSeen === before + 400_000)
    return Math.max(...sizes)
  }
  assert.equal(await send(), 65_536)
  near.readWide()
  assert.ok((await send()) > 65_536)
})
