// Peers that go away before they have proved anything: a port scanner, a load balancer's TCP check, a caller that died.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import tls from 'node:tls'
import { serverName } from '../../src/snapshot/types.ts'
import { Authority, eventually, Instance, listen } from './hops.ts'

const authority = new Authority()

for (const [what, leave] of [
  ['says nothing and ends', (socket: net.Socket) => socket.end()],
  ['says nothing and resets', (socket: net.Socket) => socket.resetAndDestroy()],
  ['says hello and is gone', hello],
] as const) {
  test(`a peer that ${what} leaves no socket behind`, async (t) => {
    const app = net.createServer()
    const instance = await new Instance(t, await listen(t, app), {}).start(authority)
    const before = sockets()
    for (let n = 0; n < 5; n++) {
      const socket = net.connect(instance.linkPort, '127.0.0.1')
      socket.on('error', () => undefined)
      await once(socket, 'connect')
      leave(socket)
    }
    await eventually(() => sockets() <= before, 'all sockets to be closed')
  })
}

/** The first flight of a handshake and nothing more. */
function hello(socket: net.Socket): void {
  const client = tls.connect({ socket, servername: serverName('web', 'default', 80), ecdhCurve: 'P-256' })
  client.on('error', () => undefined)
  setImmediate(() => socket.destroy())
}

function sockets(): number {
  return process.getActiveResourcesInfo().filter((kind) => kind === 'TCPSocketWrap').length
}

test('the number of open sockets is what is counted here', async (t) => {
  const before = sockets()
  const server = net.createServer()
  const port = await listen(t, server)
  const socket = net.connect(port, '127.0.0.1')
  await once(socket, 'connect')
  assert.equal((server.address() as AddressInfo).port, port)
  await eventually(() => sockets() === before + 2, 'both ends to be counted')
  socket.destroy()
})
