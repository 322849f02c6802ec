// Applications that say more than they were asked for: what is too much reaches nobody.
import assert from 'node:assert/strict'
import net from 'node:net'
import { test } from 'node:test'
import { Authority, Caller, Client, listen } from './hops.ts'

const authority = new Authority()

test('bytes behind an answer that is retried: its connection serves nobody else', async (t) => {
  const sockets: net.Socket[] = []
  const server = net.createServer((socket) => {
    sockets.push(socket)
    const turn = sockets.length
    socket.on('data', () => {
      if (turn === 1 && socket.bytesWritten === 0)
        socket.write('HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nX')
      else if (turn === 1) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison')
      else socket.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood')
    })
  })
  const port = await listen(t, server)
  const caller = await new Caller(t).start(authority, {
    subsets: [
      {
        name: '',
        weight: 1,
        endpoints: [
          { address: '127.0.0.1', port, host: 'vm-a', version: 'v1', weight: 1, via: 'plain', linkPort: 0 },
        ],
      },
    ],
  })
  const client = new Client(t, caller.port)
  client.send('GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n')
  await client.untilClosed()
  assert.match(client.text, /^HTTP\/1\.1 200 OK\r\n[^]*good$/)
  assert.equal(sockets.length, 2)
})
