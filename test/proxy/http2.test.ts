// HTTP/2 callers and applications through two hops, and what becomes of a message where the versions differ.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import http from 'node:http'
import http2 from 'node:http2'
import net from 'node:net'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { Client, eventually, shopId, webId } from './hops.ts'
import { ask, answerOf, session2, wayTo } from './way.ts'

const run = promisify(execFile)

type Incoming = http.IncomingMessage | http2.Http2ServerRequest
interface Ending {
  end(done?: () => void): unknown
  end(text: string): unknown
}

/** What responses of both versions have alike. */
interface Outgoing extends Ending {
  setHeader(name: string, value: string): void
  writeHead(status: number, headers?: http.OutgoingHttpHeaders): Ending
  write(text: string): boolean
  addTrailers(trailers: Record<string, string>): void
}

/** The same application in either version. */
function serve(handler: (request: Incoming, response: Outgoing) => void): {
  http1: http.Server
  http2: http2.Http2Server
} {
  return { http1: http.createServer(handler), http2: http2.createServer(handler) }
}

/** Says which version it was spoken to, what it was told, and what the body was. */
function echo(request: Incoming, response: Outgoing): void {
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  request.on('end', () => {
    const { headers, method, url, httpVersion, trailers } = request
    const body = Buffer.concat(chunks).toString()
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify({ headers, method, url, httpVersion, trailers, body }))
  })
}

interface Echo {
  readonly headers: Record<string, string>
  readonly method: string
  readonly url: string
  readonly httpVersion: string
  readonly trailers: Record<string, string>
  readonly body: string
}

function heard(body: Buffer | string): Echo {
  return JSON.parse(body.toString()) as Echo
}

test('an application is spoken to in HTTP/2 by HTTP/2 callers, and learns who called', async (t) => {
  const way = await wayTo(t, serve(echo).http2)
  const session = session2(t, way.port)
  const answer = await ask(
    session,
    {
      ':method': 'POST',
      ':path': '/a?b=1',
      'user-agent': 'test',
      te: 'trailers',
      cookie: ['a=1', 'b=2', 'c=3'],
      'x-forwarded-client-cert': 'forged',
      'x-meshctl-caller': 'forged',
      'x-request-id': '7',
    },
    'hello',
  )
  assert.equal(answer.status, 200)
  assert.equal(answer.code, 0)
  assert.equal(answer.headers['content-type'], 'application/json')
  const told = heard(answer.body)
  assert.equal(told.httpVersion, '2.0')
  assert.equal(told.method, 'POST')
  assert.equal(told.url, '/a?b=1')
  assert.equal(told.body, 'hello')
  assert.equal(told.headers[':authority'], 'web.default.mesh')
  assert.equal(told.headers['cookie'], 'a=1; b=2; c=3')
  assert.equal(told.headers['te'], 'trailers')
  assert.equal(told.headers['x-forwarded-client-cert'], `By=${webId};URI=${shopId}`)
  assert.equal(told.headers['x-meshctl-caller'], undefined)
  assert.equal(told.headers['x-meshctl-protocol'], undefined)
  assert.equal(told.headers['x-request-id'], '7')
  assert.equal(told.headers['x-forwarded-proto'], 'http')
  await eventually(() => way.caller.lines.length === 1 && way.instance.lines.length === 1, 'two lines')
  for (const line of [way.caller.lines[0]!, way.instance.lines[0]!]) {
    assert.equal(line.protocol, 'HTTP/2')
    assert.equal(line.status, 200)
    assert.equal(line.path, '/a?b=1')
    assert.equal(line.bytes_in, 5)
    assert.equal(line.bytes_out, answer.body.length)
    assert.equal(line.request_id, '7')
    assert.equal(line.user_agent, 'test')
  }
  assert.match(way.instance.metrics(), /istio_requests_total\{[^}]*request_protocol="http"[^}]*\} 1/)
})

test('many requests at a time share one session, and each gets its own answer', async (t) => {
  const way = await wayTo(t, serve(echo).http2)
  const session = session2(t, way.port)
  const answers = await Promise.all(
    Array.from({ length: 300 }, (_, i) =>
      ask(session, { ':method': 'POST', ':path': `/${i}` }, 'x'.repeat(i * 100)),
    ),
  )
  for (const [i, answer] of answers.entries()) {
    assert.equal(answer.status, 200)
    const told = heard(answer.body)
    assert.equal(told.url, `/${i}`)
    assert.equal(told.body.length, i * 100)
  }
})

for (const protocol of ['http2', 'grpc'] as const) {
  test(`an application declared ${protocol} is spoken to in HTTP/2 whatever the caller speaks`, async (t) => {
    const way = await wayTo(t, serve(echo).http2, { protocol })
    const client = new Client(t, way.port)
    client.send(
      'POST /old HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nCookie: a=1; b=2\r\n' +
        'Connection: te, x-hop\r\nX-Hop: 1\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 9\r\n\r\n',
    )
    await client.untilText('0\r\n\r\n')
    assert.match(client.text, /^HTTP\/1\.1 200 OK\r\n/)
    const told = heard(/\{.*\}/.exec(client.text)![0])
    assert.equal(told.httpVersion, '2.0')
    assert.equal(told.body, 'abc')
    assert.equal(told.trailers['x-sum'], '9')
    assert.equal(told.headers[':authority'], 'web')
    assert.equal(told.headers['cookie'], 'a=1; b=2')
    assert.equal(told.headers['x-hop'], undefined)
    assert.equal(told.headers['connection'], undefined)
    const older = new Client(t, way.port)
    older.send('GET /older HTTP/1.0\r\n\r\n')
    await older.untilClosed()
    assert.equal(heard(/\{.*\}/.exec(older.text)![0]).headers[':authority'], 'web.default.mesh')
    const plain = new Client(t, way.instance.inboundPort)
    plain.send('GET /plain HTTP/1.1\r\nHost: web\r\n\r\n')
    await plain.untilText('0\r\n\r\n')
    assert.equal(heard(/\{.*\}/.exec(plain.text)![0]).httpVersion, '2.0')
  })
}

test('a sniffed port knows HTTP/2 by its preface', async (t) => {
  const way = await wayTo(t, serve(echo).http2, { protocol: 'auto' })
  const answer = await ask(session2(t, way.port), { ':path': '/auto' })
  assert.equal(heard(answer.body).httpVersion, '2.0')
  await eventually(() => way.caller.lines.length === 1, 'the line')
  assert.equal(way.caller.lines[0]!.protocol, 'HTTP/2')
  assert.equal(way.caller.lines[0]!.path, '/auto')
})

test('bodies that are none: HEAD, 204, 205, 304 and empty ones, in every version', async (t) => {
  const app = serve((request, response) => {
    const status = Number(request.url!.slice(1))
    if (request.method === 'HEAD') response.writeHead(200, { 'content-length': '1000' }).end()
    else if (status === 304) response.writeHead(304, { etag: '"x"', 'content-length': '77' }).end()
    else response.writeHead(status).end()
  })
  const ways = [
    { name: 'HTTP/2', way: await wayTo(t, app.http2, { protocol: 'http2' }) },
    { name: 'HTTP/1.1', way: await wayTo(t, app.http1) },
  ]
  for (const { name, way } of ways) {
    // One connection for all: what is miscounted shows in the answer behind it.
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
    t.after(() => agent.destroy())
    const get = async (method: string, path: string): Promise<http.IncomingMessage> => {
      const request = http.request({ port: way.port, host: '127.0.0.1', method, path, agent }).end()
      const [response] = (await once(request, 'response')) as [http.IncomingMessage]
      response.on('data', () => assert.fail(`a body for ${method} ${path} of ${name}`))
      await once(response, 'end')
      return response
    }
    for (const status of [204, 205, 304, 200, 201]) {
      const { statusCode, headers } = await get('GET', `/${status}`)
      assert.equal(statusCode, status, name)
      if (status === 304) assert.deepEqual([headers.etag, headers['content-length']], ['"x"', '77'], name)
      if (status === 204)
        assert.deepEqual(headers['transfer-encoding'] ?? headers['content-length'], undefined)
    }
    assert.equal((await get('HEAD', '/200')).headers['content-length'], '1000', name)
    assert.equal((await get('GET', '/202')).statusCode, 202, name)
    await eventually(() => way.caller.lines.length === 7, 'seven lines')
  }
  const session = session2(t, ways[0]!.way.port)
  for (const status of [204, 205, 304, 200]) {
    const answer = await ask(session, { ':path': `/${status}` })
    assert.deepEqual([answer.status, answer.code, answer.body.length], [status, 0, 0])
  }
  const head = await ask(session, { ':path': '/200', ':method': 'HEAD' })
  assert.deepEqual([head.status, head.code, head.headers['content-length']], [200, 0, '1000'])
  const empty = await ask(session, { ':path': '/200', ':method': 'POST' }, '')
  assert.deepEqual([empty.status, empty.code], [200, 0])
})

test('trailers pass both ways and from one version to the other', async (t) => {
  const app = serve((request, response) => {
    request.resume()
    request.on('end', () => {
      response.writeHead(200, { trailer: 'x-out' })
      response.write('body')
      response.addTrailers({ 'x-out': `saw ${String(request.trailers['x-in'])}` })
      response.end()
    })
  })
  const way = await wayTo(t, app.http2, { protocol: 'http2' })
  const chunked =
    'POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-in: 1\r\n\r\n'
  for (const { port } of [way, await wayTo(t, app.http1)]) {
    const client = new Client(t, port)
    client.send(chunked)
    await client.untilText('0\r\nx-out: saw 1\r\n\r\n')
    assert.match(client.text, /4\r\nbody\r\n/)
  }
  const answer = await ask(session2(t, way.port), { ':method': 'POST', ':path': '/' }, 'b', { 'x-in': '2' })
  assert.equal(answer.body.toString(), 'body')
  assert.equal(answer.trailers?.['x-out'], 'saw 2')
  const bare = await ask(session2(t, way.port), { ':method': 'POST', ':path': '/' }, null, { 'x-in': '3' })
  assert.equal(bare.trailers?.['x-out'], 'saw 3')
})

test('100-continue and early hints reach callers of either version', async (t) => {
  const app = http2.createServer()
  const answer = (request: http2.Http2ServerRequest, response: http2.Http2ServerResponse): void => {
    response.writeEarlyHints({ link: '</a.css>; rel=preload' })
    echo(request, response)
  }
  app.on('checkContinue', (request: http2.Http2ServerRequest, response: http2.Http2ServerResponse) => {
    response.writeContinue()
    answer(request, response)
  })
  app.on('request', answer)
  const way = await wayTo(t, app, { protocol: 'http2' })
  const session = session2(t, way.port)
  const stream = session.request({ ':method': 'POST', ':path': '/', expect: '100-continue' })
  stream.on('continue', () => stream.end('later'))
  const given = await answerOf(stream)
  assert.deepEqual(given.interims, [100, 103])
  assert.equal(heard(given.body).body, 'later')
  const client = new Client(t, way.port)
  client.send('POST / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n')
  await client.untilText('HTTP/1.1 100 Continue\r\n\r\n')
  client.send('abc')
  await client.untilText('"body":"abc"')
  assert.match(client.text, /HTTP\/1\.1 103 Early Hints\r\n/)
})

test('an answer before the end of the request is the answer, and the connection goes on', async (t) => {
  const app = serve((_request, response) => {
    response.writeHead(413, { 'content-type': 'text/plain' }).end('too much')
  })
  const way = await wayTo(t, app.http2, { protocol: 'http2' })
  for (const { port } of [way, await wayTo(t, app.http1)]) {
    const client = new Client(t, port)
    client.send('POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100000000\r\n\r\n')
    for (let i = 0; i < 50; i++) client.send('x'.repeat(10_000))
    await client.untilText('too much')
    assert.match(client.text, /^HTTP\/1\.1 413 /)
    // The length that was announced will not come: only on a new connection is it certain where a request begins.
    await client.untilClosed()
  }
  const session = session2(t, way.port)
  const stream = session.request({ ':method': 'POST', ':path': '/', ':authority': 'web' })
  stream.write('x'.repeat(10_000))
  const answer = await answerOf(stream)
  assert.equal(answer.status, 413)
  assert.equal(answer.body.toString(), 'too much')
  assert.equal(answer.code, http2.constants.NGHTTP2_NO_ERROR)
  const after = await ask(session, { ':path': '/' })
  assert.equal(after.status, 413)
})

test('a large answer before the end of the request arrives whole', async (t) => {
  const app = serve((_request, response) => response.writeHead(413).end('no'.repeat(1_000_000)))
  const way = await wayTo(t, app.http2, { protocol: 'http2' })
  // A small window: most of the answer waits for its reader.
  const session = session2(t, way.port, { settings: { initialWindowSize: 20_000 } })
  const stream = session.request({ ':method': 'POST', ':path': '/', ':authority': 'web' })
  stream.write('x'.repeat(10_000))
  const answer = await answerOf(stream)
  assert.equal(answer.status, 413)
  assert.equal(answer.body.length, 2_000_000)
})

test('a caller that gives up is passed on as that, and a broken answer is seen to be broken', async (t) => {
  let resets = 0
  const app = http2.createServer()
  app.on('stream', (stream: http2.ServerHttp2Stream, headers) => {
    stream.on('error', () => undefined)
    stream.respond({ ':status': 200 })
    stream.write('half')
    if (headers[':path'] === '/broken') setImmediate(() => stream.destroy(new Error('broken')))
    else stream.on('aborted', () => resets++)
  })
  const way = await wayTo(t, app, { protocol: 'http2' })
  const session = session2(t, way.port)
  const stream = session.request({ ':path': '/wait', ':authority': 'web' })
  const gone = answerOf(stream)
  await new Promise((resolve) => stream.once('data', resolve))
  stream.close(http2.constants.NGHTTP2_CANCEL)
  await gone
  await eventually(() => resets === 1, 'the reset at the application')
  const broken = await ask(session, { ':path': '/broken' })
  assert.equal(broken.body.toString(), 'half')
  assert.equal(broken.code, http2.constants.NGHTTP2_INTERNAL_ERROR)
  const client = new Client(t, way.port)
  client.send('GET /broken HTTP/1.1\r\nHost: web\r\n\r\n')
  await client.untilClosed()
  assert.match(client.text, /4\r\nhalf\r\n$/)
  await eventually(() => way.caller.lines.length === 3, 'three lines')
  assert.deepEqual(
    way.caller.lines.map((line) => line.flags),
    ['DC', 'UC', 'UC'],
  )
})

test('curl gets the same in either version', async (t) => {
  const way = await wayTo(t, serve(echo).http2, { protocol: 'http2' })
  const old = await wayTo(t, serve(echo).http1)
  const options = ['-sS', '-m', '5', '-w', '\n%{http_version} %{http_code}']
  const cases = [
    { port: way.port, flag: '--http2-prior-knowledge', said: '2', spoken: '2.0' },
    { port: way.port, flag: '--http1.1', said: '1.1', spoken: '2.0' },
    { port: old.port, flag: '--http1.1', said: '1.1', spoken: '1.1' },
    // Offers h2c by Upgrade, which RFC 9113 has retired: it stays HTTP/1.1.
    { port: old.port, flag: '--http2', said: '1.1', spoken: '1.1' },
  ]
  for (const { port, flag, said, spoken } of cases) {
    for (const more of [[], ['--data-binary', 'x'.repeat(100_000)]]) {
      const { stdout } = await run('curl', [...options, flag, ...more, `http://127.0.0.1:${port}/curl?a=b`])
      const [body, summary] = stdout.split('\n')
      assert.equal(summary, `${said} 200`, flag)
      assert.equal(heard(body!).httpVersion, spoken, flag)
      assert.equal(heard(body!).url, '/curl?a=b')
      assert.equal(heard(body!).body.length, more.length === 0 ? 0 : 100_000)
    }
  }
})

test('what comes behind an HTTP/2 preface that is none is refused', async (t) => {
  const way = await wayTo(t, serve(echo).http2)
  const client = new Client(t, way.port)
  client.send('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET / HTTP/1.1\r\nHost: web\r\n\r\n')
  await client.untilClosed()
  assert.doesNotMatch(client.text, /HTTP\/1\.1 200/)
})

test('replies of our own say the same in HTTP/2: status, reason, words', async (t) => {
  const way = await wayTo(t, serve(echo).http2, { calls: { spiffe: shopId } })
  const session = session2(t, way.port)
  const answer = await ask(session, { ':path': '/', 'x-request-id': '8' })
  assert.equal(answer.status, 503)
  assert.equal(answer.headers['x-meshctl-reason'], 'upstream_identity_mismatch')
  assert.equal(answer.headers['x-request-id'], '8')
  assert.match(answer.body.toString(), /^meshctl: the instance did not prove the identity of the service/)
  assert.equal(Number(answer.headers['content-length']), answer.body.length)
  const head = await ask(session, { ':method': 'HEAD', ':path': '/' })
  assert.deepEqual([head.status, head.body.length, head.code], [503, 0, 0])
  const tunnel = await ask(session, { ':method': 'CONNECT', ':authority': 'web:80' })
  assert.equal(tunnel.status, 405)
})

test('an application that does not speak HTTP/2 where it should is told of in words', async (t) => {
  const apps = {
    'an HTTP/1.1 server': serve(echo).http1,
    'one that hangs up': net.createServer((socket) => socket.destroy()),
    'one that talks of something else': net.createServer((socket) => socket.end('SSH-2.0-OpenSSH_9.2p1\r\n')),
  }
  for (const [name, app] of Object.entries(apps)) {
    const way = await wayTo(t, app, { protocol: 'http2' })
    const answer = await ask(session2(t, way.port), { ':path': '/' })
    assert.equal(answer.status, 502, name)
    assert.equal(answer.headers['x-meshctl-reason'], 'upstream_protocol_error')
    assert.match(answer.body.toString(), /the application does not speak HTTP\/2/)
    await eventually(() => way.instance.lines.length > 0, 'the line')
    assert.equal(way.instance.lines[0]!.flags, 'UPE')
  }
})
