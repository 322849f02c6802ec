// The end of a connection, on real sockets: whatever came before, its owner hears of it and nothing stays open.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { Connection } from '../../src/net/connection.ts'

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
