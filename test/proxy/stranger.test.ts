// Peers of the link who have proved nothing: they are told why they are refused, and hold nothing.
import { once } from 'node:events'
import http from 'node:http'
import http2 from 'node:http2'
import { test } from 'node:test'
import tls from 'node:tls'
import { linkHttp2, serverName } from '../../src/snapshot/types.ts'
import { Authority, Instance, listen, shopId } from './hops.ts'

const authority = new Authority()

test('a peer without a proof is not kept, however lively it is', async (t) => {
  const app = http.createServer((_request, response) => response.end('hello'))
  const instance = await new Instance(t, await listen(t, app), { settings: { idleTimeout: 500 } }).start(
    authority,
  )
  const foreign = new Authority().leaf(shopId)
  for (const leaf of [null, foreign]) {
    const socket = tls.connect({
      port: instance.linkPort,
      host: '127.0.0.1',
      ca: authority.roots,
      ...(leaf !== null && { cert: leaf.chain, key: leaf.key }),
      servername: serverName('web', 'default', 8080),
      ALPNProtocols: [linkHttp2],
      checkServerIdentity: () => undefined,
    })
    t.after(() => socket.destroy())
    await once(socket, 'secureConnect')
    const session = http2.connect('https://0.0.0.0', { createConnection: () => socket })
    session.on('error', () => undefined)
    session.on('goaway', () => undefined)
    const ping = setInterval(() => {
      if (!session.destroyed) session.ping(() => undefined)
    }, 50)
    t.after(() => clearInterval(ping))
    await Promise.race([
      once(socket, 'close'),
      new Promise((_resolve, reject) => {
        setTimeout(() => reject(new Error('it was kept')), 4000).unref()
      }),
    ])
    clearInterval(ping)
  }
})
