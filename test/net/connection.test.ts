// The end of a connection, on real sockets: whatever came before, its owner hears of it and nothing stays open.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { Connection, Reading } from '../../src/net/connection.ts'

for (const [what, before] of [
  ['at once', () => undefined],
  ['right after its own end', (connection: Connection) => connection.end()],
  [
    'after bytes and its own end',
    (connection: Connection) => {
      connection.write(Buffer.alloc(100_000))
      connection.end()
    },
  ],
  ['twice', (connection: Connection) => connection.abort()],
  ['after it was destroyed', (connection: Connection) => connection.destroy()],
] as const) {
  test(`a connection that is reset ${what} is closed`, async (t) => {
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.after(() => server.close())
    const near = net.connect({ port: (server.address() as AddressInfo).port, allowHalfOpen: true })
    const [far] = (await once(server, 'connection')) as [net.Socket]
    far.on('error', () => undefined)
    t.after(() => far.destroy())
    if (near.connecting) await once(near, 'connect')
    const closed = new Promise<Error | null>((resolve) => {
      const owner = {
        bytes: () => undefined,
        ended: () => undefined,
        drained: () => undefined,
        closed: resolve,
      }
      const connection = new Connection(near, owner, null)
      before(connection)
      connection.abort()
    })
    assert.equal(await closed, null)
  })
}

test('reading wide it reads more than a block at a time, dialled or accepted', async (t) => {
  for (const isDialled of [true, false]) {
    const server = net.createServer({ pauseOnConnect: true })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const reading = new Reading()
    const dialled = net.connect(isDialled ? { host: '127.0.0.1', port, onread: reading } : { port })
    const [accepted] = (await once(server, 'connection')) as [net.Socket]
    server.close()
    if (dialled.connecting) await once(dialled, 'connect')
    t.after(() => {
      dialled.destroy()
      accepted.destroy()
    })
    const [near, far] = isDialled ? [dialled, accepted] : [accepted, dialled]
    let seen = 0
    let largest = 0
    const owner = {
      bytes: (buffer: Buffer, start: number, end: number) => {
        assert.ok(end <= buffer.length)
        assert.equal(buffer[start], 7)
        assert.equal(buffer[end - 1], 7)
        seen += end - start
        largest = Math.max(largest, end - start)
      },
      ended: () => undefined,
      drained: () => undefined,
      closed: () => undefined,
    }
    const connection = new Connection(near, owner, isDialled ? reading : null)
    connection.hold()
    connection.readWide()
    far.write(Buffer.alloc(400_000, 7))
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve))
    connection.release()
    while (seen < 400_000) await new Promise((resolve) => setImmediate(resolve))
    assert.ok(largest > 65_536, `${largest} bytes`)
  }
})
