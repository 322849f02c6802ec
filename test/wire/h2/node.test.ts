// Against Node's own HTTP/2 (nghttp2) over loopback: its client at our server, our client at its server.
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import http2 from 'node:http2'
import net from 'node:net'
import type { AddressInfo } from 'node:net'
import { suite, test } from 'node:test'
import type { TestContext } from 'node:test'
import { Code } from '../../../src/wire/h2/frame.ts'
import type { SessionLimits } from '../../../src/wire/h2/limits.ts'
import type { Stream } from '../../../src/wire/h2/stream.ts'
import { kept } from './pair.ts'
import { SocketPeer, listen } from './socket.ts'

const hash = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')
const small: Partial<SessionLimits> = { streamWindow: 20_000, connectionWindow: 70_000 }

/** A server of ours, and Node's client at it. */
async function nodeClient(
  t: TestContext,
  begin: (peer: SocketPeer) => void,
  limits: Partial<SessionLimits> = {},
): Promise<http2.ClientHttp2Session> {
  const server = await listen(net.createServer(), 'connection', begin, limits)
  const client = http2.connect(`http://127.0.0.1:${server.port}`)
  t.after(async () => {
    client.destroy()
    await server.close()
  })
  await once(client, 'remoteSettings')
  return client
}

/** Node's server, and a client of ours at it. */
async function nodeServer(
  t: TestContext,
  options: http2.ServerOptions,
  onStream: (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void,
  limits: Partial<SessionLimits> = {},
): Promise<{ peer: SocketPeer; server: http2.Http2Server }> {
  const server = http2.createServer(options)
  server.on('stream', onStream)
  server.on('sessionError', () => undefined)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const socket = net.connect((server.address() as AddressInfo).port, '127.0.0.1')
  await once(socket, 'connect')
  const peer = new SocketPeer('client', socket, limits)
  t.after(async () => {
    socket.destroy()
    server.close()
    await once(server, 'close')
  })
  await peer.until('settled')
  return { peer, server }
}

async function collect(stream: http2.Http2Stream): Promise<Buffer> {
  const parts: Buffer[] = []
  for await (const part of stream) parts.push(part as Buffer)
  return Buffer.concat(parts)
}

suite("Node's client, our server", () => {
  /** Sends back what comes, body, fields and trailers. */
  const echo = (peer: SocketPeer): void => {
    peer.isReading = false
    peer.onHeaders = (stream, isEnd, fields) => {
      const head = kept(fields).filter(({ name }) => name.startsWith('x-'))
      peer.respond(
        stream,
        200,
        head.map(({ name, value }) => [name, value] as const),
        isEnd,
      )
    }
    peer.onData = (stream, bytes, isEnd) => {
      peer.write(stream, bytes, isEnd)
      // What our own queue takes in is what we let the client send.
      peer.session.consumed(stream, bytes.length)
    }
    peer.onTrailers = (stream, fields) => peer.session.trailers(stream, fields.items, fields.count)
  }

  test('bodies of all sizes both ways, fields and trailers, many at a time', async (t) => {
    for (const limits of [{}, small]) {
      const client = await nodeClient(t, echo, limits)
      const sizes = [0, 1, 16384, 16385, 65535, 65536, 300_000, 1_000_000]
      await Promise.all(
        sizes.map(async (size, i) => {
          const sent = randomBytes(size)
          const stream = client.request(
            { ':method': 'POST', ':path': `/${i}`, 'x-one': `v${i}`, 'x-long': 'l'.repeat(i * 1000) },
            { waitForTrailers: true },
          )
          stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': hash(sent) }))
          const trailers = once(stream, 'trailers')
          const head = once(stream, 'response')
          stream.end(sent)
          const body = await collect(stream)
          const [headers] = (await head) as [http2.IncomingHttpHeaders]
          assert.equal(headers['x-one'], `v${i}`)
          assert.equal(headers['x-long'], 'l'.repeat(i * 1000))
          assert.equal(hash(body), hash(sent))
          const [last] = (await trailers) as [http2.IncomingHttpHeaders]
          assert.equal(last['x-sum'], hash(sent))
        }),
      )
    }
  })

  test('interim responses, resets, GOAWAY', async (t) => {
    const peers: SocketPeer[] = []
    const client = await nodeClient(t, (peer) => {
      peers.push(peer)
      peer.onHeaders = (stream) => {
        peer.respond(stream, 103, [['link', '</x>']], false)
        if (stream.id === 1) peer.respond(stream, 204)
        if (stream.id === 3) peer.session.reset(stream, Code.refusedStream)
        if (stream.id === 5) peer.session.goaway(Code.noError)
      }
    })
    const [peer] = peers
    assert.ok(peer !== undefined)
    const first = client.request({ ':path': '/' })
    const interim = once(first, 'headers')
    const head = once(first, 'response')
    assert.equal(((await interim) as [http2.IncomingHttpHeaders])[0][':status'], 103)
    assert.equal(((await head) as [http2.IncomingHttpHeaders])[0][':status'], 204)
    const second = client.request({ ':path': '/' })
    const [error] = (await once(second, 'error')) as [Error]
    assert.match(error.message, /REFUSED_STREAM/)
    const third = client.request({ ':path': '/' })
    const goaway = once(client, 'goaway')
    await once(third, 'headers')
    assert.deepEqual((await goaway).slice(0, 2), [Code.noError, 2 ** 31 - 1])
    // Node closes its session by itself; the open stream lives on until the client gives it up.
    third.close(Code.cancel)
    await once(client, 'close')
    assert.ok(peer.events.includes('5 reset cancel'))
  })

  test('extended CONNECT', async (t) => {
    const client = await nodeClient(t, echo)
    assert.equal(client.remoteSettings.enableConnectProtocol, true)
    const stream = client.request({
      ':method': 'CONNECT',
      ':protocol': 'websocket',
      ':path': '/chat',
      ':scheme': 'http',
    })
    stream.write('ping')
    const [bytes] = (await once(stream, 'data')) as [Buffer]
    assert.equal(bytes.toString(), 'ping')
    stream.end()
    await once(stream, 'end')
  })
})

suite("our client, Node's server", () => {
  test('bodies of all sizes both ways, fields and trailers, many at a time', async (t) => {
    for (const limits of [{}, small]) {
      const { peer } = await nodeServer(
        t,
        { settings: { initialWindowSize: 30_000, headerTableSize: 200 } },
        (stream, headers) => {
          stream.respond({ ':status': 200, 'x-path': headers[':path'] }, { waitForTrailers: true })
          let sum = ''
          stream.on('trailers', (trailers) => (sum = String(trailers['x-sum'])))
          stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': sum }))
          stream.pipe(stream)
        },
        limits,
      )
      const sizes = [1, 16384, 16385, 65535, 65536, 300_000, 1_000_000]
      const sent = sizes.map((size) => randomBytes(size))
      const streams = sent.map((bytes, i) => {
        const stream = peer.request([['x-n', String(i)]], false, 'POST', `/${i}`)
        peer.write(stream, bytes)
        peer.session.trailers(stream, peer.fields([['x-sum', hash(bytes)]]), 1)
        return stream
      })
      await peer.until(() => peer.session.openStreams === 0)
      for (const [i, stream] of streams.entries()) {
        assert.equal(hash(Buffer.from(peer.body(stream.id), 'latin1')), hash(sent[i]!))
        assert.ok(peer.events.some((event) => event.startsWith(`${stream.id} headers 200 x-path=/${i}`)))
        assert.ok(peer.events.includes(`${stream.id} trailers x-sum=${hash(sent[i]!)}`))
      }
    }
  })

  test('interim responses, resets, GOAWAY', async (t) => {
    const { peer } = await nodeServer(t, {}, (stream, headers) => {
      stream.on('error', () => undefined)
      const path = headers[':path']
      if (path === '/103') {
        stream.additionalHeaders({ ':status': 103, link: '</x>' })
        stream.respond({ ':status': 204 }, { endStream: true })
      } else if (path === '/reset') stream.close(Code.refusedStream)
      else stream.session?.goaway(Code.noError, stream.id)
    })
    peer.request([], true, 'GET', '/103')
    peer.request([], false, 'POST', '/reset')
    await peer.until(() => peer.session.openStreams === 0)
    assert.match(peer.told().join(' | '), /1 headers 103 link=<\/x> \| 1 headers 204 .*end/)
    const reset = peer.request([], false, 'POST', '/reset')
    await peer.until(() => reset.isClosed)
    assert.ok(peer.told().includes(`${reset.id} reset refused_stream unprocessed`))
    peer.request([], true, 'GET', '/goaway')
    await peer.until('going away')
    assert.equal(peer.session.canOpen, false)
  })

  test('extended CONNECT', async (t) => {
    const { peer } = await nodeServer(t, { settings: { enableConnectProtocol: true } }, (stream, headers) => {
      assert.equal(headers[':protocol'], 'websocket')
      stream.respond({ ':status': 200 })
      stream.pipe(stream)
    })
    assert.equal(peer.session.canConnectProtocol, true)
    const stream: Stream = peer.session.open(peer, 'CONNECT')
    peer.head(stream, [
      [':method', 'CONNECT'],
      [':protocol', 'websocket'],
      [':scheme', 'http'],
      [':path', '/chat'],
      [':authority', 'web'],
    ])
    peer.write(stream, 'ping')
    await peer.until(() => peer.body(1) === 'ping')
    peer.session.end(stream)
    await peer.until(() => peer.session.openStreams === 0)
  })
})
