// What a caller says before there is a tunnel: its bytes and its end wait, and both arrive.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { test } from 'node:test'
import { Client, eventually } from './hops.ts'
import { session2, wayTo } from './way.ts'

for (const words of ['', 'early'] as const) {
  test(`an end ${words === '' ? 'in the head' : 'behind early bytes'} of an extended CONNECT reaches the application`, async (t) => {
    let heard = ''
    let isEnded = false
    const app = net.createServer({ allowHalfOpen: true }, (socket) => {
      let head = ''
      socket.on('data', (bytes: Buffer) => {
        if (head.endsWith('\r\n\r\n')) heard += bytes.toString()
        else head += bytes.toString()
        // Late, so that everything has come before there is a tunnel.
        if (head.endsWith('\r\n\r\n') && heard === '') {
          setTimeout(() => {
            socket.write(
              'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n',
            )
          }, 50)
        }
      })
      socket.on('end', () => {
        isEnded = true
        socket.end()
      })
    })
    const way = await wayTo(t, app)
    const session = session2(t, way.port)
    await once(session, 'remoteSettings')
    const stream = session.request(
      {
        ':method': 'CONNECT',
        ':protocol': 'websocket',
        ':path': '/',
        ':authority': 'web',
        ':scheme': 'http',
      },
      { endStream: words === '' },
    )
    stream.on('error', () => undefined)
    stream.resume()
    if (words !== '') stream.end(words)
    await eventually(() => isEnded, 'the end')
    assert.equal(heard, words)
    await eventually(() => way.instance.lines.length === 1 && way.caller.lines.length === 1, 'both lines')
  })
}

test('bytes behind an upgrade of HTTP/1.1 wait for the tunnel and are nobody’s request where there is none', async (t) => {
  const requests: string[] = []
  const app = net.createServer((socket) => {
    socket.on('error', () => undefined)
    socket.on('data', (bytes: Buffer) => {
      requests.push(...(bytes.toString().match(/^[A-Z]+ \S+ HTTP/gm) ?? []))
      if (bytes.toString().includes('GET /chat')) socket.write('HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n')
    })
  })
  const way = await wayTo(t, app)
  const client = new Client(t, way.port)
  client.send(
    'GET /chat HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n' +
      'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x05GET /smuggled HTTP/1.1\r\nHost: web\r\n\r\n',
  )
  await client.untilText('HTTP/1.1 403')
  await client.untilClosed()
  assert.deepEqual(requests, ['GET /chat HTTP'])
})
