// WebSocket with the library that users have (ws) over HTTP/1.1, and over extended CONNECT (RFC 8441), through two hops.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import http2 from 'node:http2'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { WebSocket, WebSocketServer } from 'ws'
import { frame, Frames, Opcode } from './frames.ts'
import type { Frame } from './frames.ts'
import { Client, eventually, shopId, webId } from './hops.ts'
import { ask, answerOf, session2, wayTo } from './way.ts'

/** An HTTP/1.1 server that echoes messages and notes what else it hears. */
class Echo {
  readonly http: http.Server = http.createServer((_request, response) => response.end('plain'))
  readonly sockets: WebSocketServer
  readonly closed: { code: number; reason: string }[] = []
  readonly pings: string[] = []
  headers: http.IncomingHttpHeaders = {}

  constructor(t: TestContext) {
    this.sockets = new WebSocketServer({
      server: this.http,
      perMessageDeflate: { threshold: 100 },
      handleProtocols: (offered) => offered.values().next().value ?? false,
      verifyClient: ({ req }, done) =>
        req.url === '/refused' ? done(false, 401, 'who are you', { 'x-why': 'nobody' }) : done(true),
    })
    this.sockets.on('connection', (socket, request) => {
      this.headers = request.headers
      socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
      socket.on('ping', (data) => this.pings.push(data.toString()))
      socket.on('close', (code, reason) => this.closed.push({ code, reason: reason.toString() }))
      socket.on('error', () => undefined)
      if (request.url === '/leave') socket.close(4001, 'enough')
      if (request.url === '/first') socket.send('first')
    })
    t.after(() => this.sockets.close())
  }
}

async function open(
  t: TestContext,
  port: number,
  path: string = '/',
  options: WebSocket.ClientOptions & { protocols?: string[] } = {},
): Promise<WebSocket> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, options.protocols ?? [], options)
  t.after(() => socket.terminate())
  await once(socket, 'open')
  return socket
}

async function message(socket: WebSocket): Promise<{ data: Buffer; isBinary: boolean }> {
  const [data, isBinary] = (await once(socket, 'message')) as [Buffer, boolean]
  return { data, isBinary }
}

test('messages of all sizes, compressed or not, pings, protocols and close codes', async (t) => {
  const echo = new Echo(t)
  const way = await wayTo(t, echo.http)
  for (const perMessageDeflate of [false, true]) {
    const socket = await open(t, way.port, '/a?b=1', { perMessageDeflate, protocols: ['chat', 'other'] })
    assert.equal(socket.protocol, 'chat')
    assert.equal(socket.extensions, perMessageDeflate ? 'permessage-deflate' : '')
    assert.equal(echo.headers['x-forwarded-client-cert'], `By=${webId};URI=${shopId}`)
    for (const size of [0, 1, 125, 126, 65_535, 65_536, 1_000_000]) {
      socket.send('x'.repeat(size))
      const text = await message(socket)
      assert.equal(text.isBinary, false)
      assert.equal(text.data.toString(), 'x'.repeat(size))
    }
    const binary = Buffer.alloc(1_000_000, Buffer.from([0, 255, 7]))
    socket.send(binary)
    const back = await message(socket)
    assert.ok(back.isBinary && back.data.equals(binary))
    socket.ping('are you there')
    const [pong] = (await once(socket, 'pong')) as [Buffer]
    assert.equal(pong.toString(), 'are you there')
    socket.close(4000, 'done here')
    const [code, reason] = (await once(socket, 'close')) as [number, Buffer]
    assert.deepEqual([code, reason.toString()], [4000, 'done here'])
  }
  await eventually(() => echo.closed.length === 2, 'the close at the application')
  for (const each of echo.closed) assert.deepEqual(each, { code: 4000, reason: 'done here' })
  assert.deepEqual(echo.pings, ['are you there', 'are you there'])
  await eventually(() => way.caller.lines.length === 2 && way.instance.lines.length === 2, 'four lines')
  for (const line of [...way.caller.lines, ...way.instance.lines]) {
    assert.equal(line.status, line.reporter === 'source' ? 101 : 200)
    assert.equal(line.flags, '-')
    assert.equal(line.path, '/a?b=1')
  }
  assert.ok(way.caller.lines[0]!.bytes_in > 2_000_000 && way.caller.lines[0]!.bytes_out > 2_000_000)
})

test('an application may speak first, close first, refuse, or break off', async (t) => {
  const echo = new Echo(t)
  const way = await wayTo(t, echo.http)
  const first = new WebSocket(`ws://127.0.0.1:${way.port}/first`)
  t.after(() => first.terminate())
  assert.equal((await message(first)).data.toString(), 'first')
  const leaving = await open(t, way.port, '/leave')
  const [code, reason] = (await once(leaving, 'close')) as [number, Buffer]
  assert.deepEqual([code, reason.toString()], [4001, 'enough'])
  const refused = new WebSocket(`ws://127.0.0.1:${way.port}/refused`)
  refused.on('error', () => undefined)
  const [, response] = (await once(refused, 'unexpected-response')) as [unknown, http.IncomingMessage]
  assert.equal(response.statusCode, 401)
  assert.equal(response.headers['x-why'], 'nobody')
  refused.terminate()
  for (const socket of echo.sockets.clients) socket.terminate()
  const [broken] = (await once(first, 'close')) as [number]
  // 1006: without a close frame.
  assert.equal(broken, 1006)
  await eventually(() => way.caller.lines.length === 3, 'the lines')
})

test('a caller that breaks off is noticed by the application', async (t) => {
  const echo = new Echo(t)
  const way = await wayTo(t, echo.http)
  const socket = await open(t, way.port)
  socket.terminate()
  await eventually(() => echo.closed.length === 1, 'the close at the application')
  assert.equal(echo.closed[0]!.code, 1006)
})

test('each side may end by itself: what the other still says arrives', async (t) => {
  const app = http.createServer()
  app.on('upgrade', (_request, socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n')
    let heard = ''
    socket.on('data', (chunk: Buffer) => (heard += chunk.toString()))
    socket.on('end', () => {
      socket.write('x'.repeat(200_000))
      socket.end(`heard ${heard}`)
    })
  })
  const way = await wayTo(t, app)
  const client = new Client(t, way.port)
  client.send('GET / HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
  await client.untilText('101')
  client.send('all of it')
  client.socket.end()
  await client.untilText('heard all of it')
  await client.untilClosed()
})

/** A session that has heard that extended CONNECT may be used, and a WebSocket on it. */
async function connect(
  t: TestContext,
  port: number,
  headers: http2.OutgoingHttpHeaders = {},
): Promise<{ stream: http2.ClientHttp2Stream; next: () => Promise<Frame> }> {
  const session = session2(t, port)
  await once(session, 'remoteSettings')
  assert.equal(session.remoteSettings.enableConnectProtocol, true)
  const stream = session.request(
    {
      ':method': 'CONNECT',
      ':protocol': 'websocket',
      ':scheme': 'http',
      ':path': '/',
      ':authority': 'web',
      'sec-websocket-version': '13',
      ...headers,
    },
    { endStream: false },
  )
  stream.on('error', () => undefined)
  const frames = new Frames()
  const arrived: Frame[] = []
  // As any client of WebSocket does: the end of one side is the end of both.
  stream.on('end', () => stream.end())
  stream.on('data', (chunk: Buffer) => arrived.push(...frames.add(chunk)))
  const next = async (): Promise<Frame> => {
    await eventually(() => arrived.length > 0, 'a frame')
    return arrived.shift()!
  }
  return { stream, next }
}

test('extended CONNECT of an HTTP/2 caller to an application of HTTP/1.1', async (t) => {
  const echo = new Echo(t)
  const way = await wayTo(t, echo.http)
  const { stream, next } = await connect(t, way.port, { ':path': '/first', 'sec-websocket-protocol': 'chat' })
  const [head] = (await once(stream, 'response')) as [
    http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader,
  ]
  assert.equal(head[':status'], 200)
  assert.equal(head['sec-websocket-protocol'], 'chat')
  assert.equal((await next()).payload.toString(), 'first')
  assert.equal(echo.headers['x-forwarded-client-cert'], `By=${webId};URI=${shopId}`)
  for (const size of [0, 1000, 1_000_000]) {
    stream.write(frame(Opcode.text, 'y'.repeat(size), true))
    const { opcode, payload } = await next()
    assert.equal(opcode, Opcode.text)
    assert.equal(payload.toString(), 'y'.repeat(size))
  }
  stream.write(frame(Opcode.ping, 'hey', true))
  assert.deepEqual(await next(), { opcode: Opcode.pong, payload: Buffer.from('hey') })
  stream.write(frame(Opcode.close, Buffer.from([0x0f, 0xa1, 98, 121, 101]), true))
  assert.equal((await next()).opcode, Opcode.close)
  stream.end()
  await eventually(() => stream.destroyed, 'the end of the stream')
  assert.equal(stream.rstCode, 0)
  await eventually(() => echo.closed.length === 1, 'the close at the application')
  assert.deepEqual(echo.closed[0], { code: 4001, reason: 'bye' })
  await eventually(() => way.caller.lines.length === 1 && way.instance.lines.length === 1, 'the lines')
  for (const line of [way.caller.lines[0]!, way.instance.lines[0]!]) {
    assert.deepEqual([line.protocol, line.method, line.flags], ['HTTP/2', 'GET', '-'])
  }
})

test('a refused extended CONNECT is answered, and its session goes on', async (t) => {
  const echo = new Echo(t)
  const way = await wayTo(t, echo.http)
  const { stream } = await connect(t, way.port, { ':path': '/refused' })
  const answer = await answerOf(stream)
  assert.equal(answer.status, 401)
  assert.equal(answer.headers['x-why'], 'nobody')
  const { stream: broken, next } = await connect(t, way.port)
  broken.write(frame(Opcode.text, 'a', true))
  assert.equal((await next()).payload.toString(), 'a')
  for (const socket of echo.sockets.clients) socket.terminate()
  await eventually(() => broken.destroyed, 'the end of the stream')
})

/** Echoes what comes over extended CONNECT. */
function app2(): http2.Http2Server {
  const server = http2.createServer({ settings: { enableConnectProtocol: true } })
  server.on('stream', (stream: http2.ServerHttp2Stream, headers) => {
    stream.on('error', () => undefined)
    if (headers[':method'] !== 'CONNECT' || headers[':protocol'] !== 'websocket') {
      stream.respond({ ':status': 200 })
      stream.end('plain')
      return
    }
    if (headers[':path'] === '/refused') {
      stream.respond({ ':status': 403 }, { endStream: true })
      return
    }
    stream.respond({ ':status': 200 })
    const frames = new Frames()
    stream.on('data', (chunk: Buffer) => {
      for (const { opcode, payload } of frames.add(chunk)) {
        stream.write(frame(opcode === Opcode.ping ? Opcode.pong : opcode, payload, false))
        if (opcode === Opcode.close) stream.end()
      }
    })
    stream.on('end', () => stream.end())
  })
  return server
}

test('a caller of HTTP/1.1 to an application that takes extended CONNECT', async (t) => {
  const way = await wayTo(t, app2(), { protocol: 'http2' })
  const socket = await open(t, way.port, '/', { perMessageDeflate: false })
  for (const size of [0, 1000, 1_000_000]) {
    socket.send('z'.repeat(size))
    assert.equal((await message(socket)).data.toString(), 'z'.repeat(size))
  }
  socket.ping('hey')
  const [pong] = (await once(socket, 'pong')) as [Buffer]
  assert.equal(pong.toString(), 'hey')
  socket.close(4002, 'bye')
  const [code, reason] = (await once(socket, 'close')) as [number, Buffer]
  assert.deepEqual([code, reason.toString()], [4002, 'bye'])
  const refused = new WebSocket(`ws://127.0.0.1:${way.port}/refused`)
  refused.on('error', () => undefined)
  const [, response] = (await once(refused, 'unexpected-response')) as [unknown, http.IncomingMessage]
  assert.equal(response.statusCode, 403)
  refused.terminate()
  // From end to end in HTTP/2.
  const { stream, next } = await connect(t, way.port)
  stream.write(frame(Opcode.text, 'two', true))
  assert.equal((await next()).payload.toString(), 'two')
  stream.end()
  await eventually(() => stream.destroyed, 'the end of the stream')
})

test('an application of HTTP/2 that takes no WebSocket is told of in words', async (t) => {
  const app = http2.createServer((_request, response) => response.end('plain'))
  const way = await wayTo(t, app, { protocol: 'http2' })
  const client = new Client(t, way.port)
  client.send('GET / HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
  await client.untilText('WebSocket')
  assert.match(client.text, /^HTTP\/1\.1 502 /)
  assert.match(client.text, /x-meshctl-reason: upstream_protocol_error/)
  const answer = await ask(session2(t, way.port), { ':path': '/' })
  assert.equal(answer.body.toString(), 'plain')
})
