// Streams at their limits: peers that take few, refuse some, go away, or say more than fits.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import http2 from 'node:http2'
import net from 'node:net'
import { test } from 'node:test'
import { FakeClock } from '../../src/clock.ts'
import { Client, eventually } from './hops.ts'
import { ask, answerOf, session2, wayTo } from './way.ts'

test('an application that takes two streams at a time gets two at a time, and nobody is refused', async (t) => {
  let running = 0
  let most = 0
  const sessions = new Map<http2.Http2Session, number>()
  const app = http2.createServer({ settings: { maxConcurrentStreams: 2 } })
  app.on('stream', (stream: http2.ServerHttp2Stream) => {
    const session = stream.session!
    const now = (sessions.get(session) ?? 0) + 1
    sessions.set(session, now)
    most = Math.max(most, now)
    running++
    setTimeout(() => {
      running--
      sessions.set(session, sessions.get(session)! - 1)
      stream.respond({ ':status': 200 })
      stream.end('ok')
    }, 2)
  })
  const way = await wayTo(t, app, { protocol: 'http2' })
  const session = session2(t, way.port)
  const answers = await Promise.all(Array.from({ length: 200 }, () => ask(session, { ':path': '/' })))
  for (const { status, body } of answers) assert.deepEqual([status, body.toString()], [200, 'ok'])
  assert.equal(running, 0)
  // The hundred that a client may open before it knows better are refused by node itself, and sent again.
  assert.ok(most <= 2, `${most} at a time`)
  assert.ok(sessions.size <= 17, `${sessions.size} connections`)
})

for (const [name, app] of Object.entries({
  'hangs up': () => net.createServer((socket) => socket.on('data', () => socket.destroy())),
  'speaks HTTP/1.1': () => http.createServer((_request, response) => response.end('no')),
  'says nothing': () => net.createServer((socket) => socket.resume()),
})) {
  test(`an application that ${name} where it should speak HTTP/2 is not waited for`, async (t) => {
    const clock = new FakeClock(Date.now())
    let connections = 0
    const server = app()
    server.on('connection', () => connections++)
    const way = await wayTo(t, server, { protocol: 'http2', instance: { clock } })
    const client = new Client(t, way.port)
    client.send('GET / HTTP/1.1\r\nHost: web\r\n\r\n')
    // What it may send is only known when the application has said so.
    const upgrade = new Client(t, way.port)
    upgrade.send('GET / HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
    await eventually(() => connections > 0, 'a connection')
    const passing = setInterval(() => clock.advance(1000), 20)
    t.after(() => clearInterval(passing))
    for (const each of [client, upgrade]) {
      await each.untilText('the application does not speak HTTP/2')
      assert.match(each.text, /^HTTP\/1\.1 502 /)
    }
    assert.ok(connections <= 3, `${connections} connections`)
  })
}

test('what an application refuses unread is sent again, whatever its method', async (t) => {
  let refused = 0
  let taken = 0
  const app = http2.createServer()
  app.on('stream', (stream: http2.ServerHttp2Stream) => {
    stream.on('error', () => undefined)
    if (refused < 3) {
      refused++
      stream.close(http2.constants.NGHTTP2_REFUSED_STREAM)
      return
    }
    taken++
    stream.respond({ ':status': 200 })
    stream.pipe(stream)
  })
  const way = await wayTo(t, app, { protocol: 'http2' })
  const answer = await ask(session2(t, way.port), { ':method': 'POST', ':path': '/' }, 'once')
  assert.deepEqual([answer.status, answer.body.toString()], [200, 'once'])
  assert.deepEqual([refused, taken], [3, 1])
})

test('an application that goes away finishes what it has, and the rest goes to a new connection', async (t) => {
  let connections = 0
  const app = http2.createServer()
  app.on('session', () => connections++)
  app.on('stream', (stream: http2.ServerHttp2Stream, headers) => {
    stream.on('error', () => undefined)
    if (headers[':path'] === '/last') stream.session!.close()
    setTimeout(() => {
      stream.respond({ ':status': 200 })
      stream.end(headers[':path'])
    }, 20)
  })
  const way = await wayTo(t, app, { protocol: 'http2' })
  const session = session2(t, way.port)
  const last = ask(session, { ':method': 'POST', ':path': '/last' }, 'x')
  const beside = ask(session, { ':method': 'POST', ':path': '/beside' }, 'x')
  assert.equal((await last).body.toString(), '/last')
  assert.equal((await beside).body.toString(), '/beside')
  assert.equal((await ask(session, { ':path': '/next' })).body.toString(), '/next')
  assert.equal(connections, 2)
})

test('drain: callers of HTTP/2 are told, what runs is finished', async (t) => {
  const app = http2.createServer()
  let finish = (): void => assert.fail('no request')
  app.on('stream', (stream: http2.ServerHttp2Stream) => {
    stream.respond({ ':status': 200 })
    stream.write('first ')
    finish = () => stream.end('last')
  })
  const way = await wayTo(t, app, { protocol: 'http2' })
  const session = session2(t, way.port)
  const stream = session.request({ ':path': '/', ':authority': 'web' })
  const answer = answerOf(stream)
  await once(stream, 'data')
  const goaway = once(session, 'goaway')
  const drained = way.caller.engine.drain(5000, 0)
  await goaway
  finish()
  assert.equal((await answer).body.toString(), 'first last')
  await once(session, 'close')
  assert.equal(await drained, 0)
})

test('pipelined requests of HTTP/1.1 to an application of HTTP/2 are answered in order', async (t) => {
  const app = http2.createServer((request, response) => {
    request.resume()
    // The first ones take longest.
    setTimeout(() => response.end(`<${request.url}>`), 10 - Number(request.url.slice(1)) / 2)
  })
  const way = await wayTo(t, app, { protocol: 'http2' })
  const client = new Client(t, way.port)
  for (let i = 0; i < 20; i++) client.send(`POST /${i} HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\nabc`)
  await client.untilText('</19>')
  assert.deepEqual(
    [...client.text.matchAll(/<\/(\d+)>/g)].map((match) => Number(match[1])),
    Array.from({ length: 20 }, (_, i) => i),
  )
})

test('heads: many cookies both ways, an asterisk, large ones, and too large ones', async (t) => {
  let heard: http2.IncomingHttpHeaders = {}
  const app = http2.createServer()
  app.on('stream', (stream: http2.ServerHttp2Stream, headers) => {
    heard = headers
    stream.respond({ ':status': 200, 'set-cookie': ['a=1; Path=/', 'b=2'], 'x-large': 'r'.repeat(10_000) })
    stream.end('ok')
  })
  const way = await wayTo(t, app, { protocol: 'http2' })
  const session = session2(t, way.port)
  const answer = await ask(session, {
    ':method': 'OPTIONS',
    ':path': '*',
    cookie: Array.from({ length: 40 }, (_, i) => `c${i}=${i}`),
    'x-large': 'q'.repeat(10_000),
  })
  assert.deepEqual(answer.headers['set-cookie'], ['a=1; Path=/', 'b=2'])
  assert.equal(answer.headers['x-large'], 'r'.repeat(10_000))
  assert.equal(heard[':path'], '*')
  assert.equal(heard['x-large'], 'q'.repeat(10_000))
  assert.equal(heard['cookie'], Array.from({ length: 40 }, (_, i) => `c${i}=${i}`).join('; '))
  const client = new Client(t, way.port)
  client.send('OPTIONS * HTTP/1.1\r\nHost: web\r\nX-Large: ' + 'q'.repeat(10_000) + '\r\n\r\n')
  await client.untilText('ok')
  assert.match(client.text, /set-cookie: a=1; Path=\/\r\nset-cookie: b=2\r\n/)
  assert.equal(heard[':path'], '*')
  heard = {}
  const over = await ask(session, { ':path': '/', 'x-large': 'q'.repeat(20_000) })
  assert.equal(over.status, 431)
  assert.deepEqual(heard, {})
  assert.equal((await ask(session, { ':path': '/' })).status, 200)
  await eventually(() => way.caller.lines.some((line) => line.status === 431), 'the line')
})
