import assert from 'node:assert/strict'
import http from 'node:http'
import net from 'node:net'
import { test } from 'node:test'
import { Authority, Caller, Client, eventually, Instance, listen, shopId, webId } from './hops.ts'

const authority = new Authority()

test('a request crosses two hops of mTLS and the app learns who called', async (t) => {
  let seen: http.IncomingHttpHeaders = {}
  const app = http.createServer((request, response) => {
    seen = request.headers
    response.end(`hello from ${request.url}`)
  })
  const instance = await new Instance(t, await listen(t, app), {}).start(authority)
  const caller = await new Caller(t).start(authority, {
    subsets: [{ name: '', weight: 1, endpoints: [instance.endpoint()] }],
  })
  const client = new Client(t, caller.port)
  client.send(
    'GET /a?b=1 HTTP/1.1\r\nHost: web.default.mesh\r\nUser-Agent: t"x\r\nX-Forwarded-Client-Cert: forged\r\n' +
      'X_Forwarded_Client_Cert: forged\r\nX-Meshctl-Caller: forged\r\nConnection: x-request-id, x-custom\r\nX-Request-Id: 7\r\nX-Custom: 1\r\n\r\n',
  )
  await client.untilText('hello from /a?b=1')
  assert.match(client.text, /^HTTP\/1\.1 200 OK\r\n/)
  assert.equal(seen['x-forwarded-client-cert'], `By=${webId};URI=${shopId}`)
  assert.equal(seen['x_forwarded_client_cert'], undefined)
  assert.equal(seen['x-meshctl-caller'], undefined)
  assert.equal(seen['x-request-id'], '7')
  assert.equal(seen['x-custom'], undefined)
  assert.equal(seen['x-forwarded-proto'], 'http')
  assert.equal(seen.host, 'web.default.mesh')
  // Keep-alive: the second request uses the same connections all the way.
  client.send('GET /second HTTP/1.1\r\nHost: web\r\n\r\n')
  await client.untilText('hello from /second')
  assert.match(seen['x-request-id'] as string, /^[0-9a-f-]{36}$/)
  await eventually(() => instance.lines.length === 2 && caller.lines.length === 2, 'two lines')
  const [line] = caller.lines
  assert.equal(line?.reporter, 'source')
  assert.equal(line.path, '/a?b=1')
  assert.equal(line.status, 200)
  assert.equal(line.source, shopId)
  assert.equal(line.destination, webId)
  assert.equal(line.user_agent, 't"x')
  assert.equal(line.request_id, '7')
  assert.equal(instance.lines[0]?.source, shopId)
  assert.equal(instance.lines[0].reporter, 'destination')
  assert.equal(line.client, undefined, 'of a local application the identity says more')
  assert.match(instance.lines[0].client ?? '', /^127\.0\.0\.1:\d+$/)
  // The hop between the hosts, told of on both sides.
  for (const each of caller.lines) assert.deepEqual([each.mtls, each.upstream_mtls], [false, true])
  for (const each of instance.lines) assert.deepEqual([each.mtls, each.upstream_mtls], [true, false])
  const metrics = instance.metrics()
  assert.match(
    metrics,
    /istio_requests_total\{[^}]*source_principal="spiffe:\/\/mesh\.test\/ns\/default\/sa\/shop"[^}]*\} 2/,
  )
  assert.match(metrics, /connection_security_policy="mutual_tls"/)
})

test('pipelined requests are answered in order', async (t) => {
  const app = http.createServer((request, response) => response.end(`<${request.url}>`))
  const instance = await new Instance(t, await listen(t, app), {}).start(authority)
  const caller = await new Caller(t).start(authority, {
    subsets: [{ name: '', weight: 1, endpoints: [instance.endpoint()] }],
  })
  const client = new Client(t, caller.port)
  let wire = ''
  for (let i = 0; i < 50; i++) wire += `POST /${i} HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nabcde`
  client.send(wire)
  await client.untilText('</49>')
  const order = [...client.text.matchAll(/<\/(\d+)>/g)].map((match) => Number(match[1]))
  assert.deepEqual(
    order,
    Array.from({ length: 50 }, (_, i) => i),
  )
})

test('bodies pass both ways: large, chunked, with trailers, to HEAD and 304', async (t) => {
  const app = http.createServer((request, response) => {
    if (request.url === '/304') {
      response.writeHead(304, { etag: '"x"' }).end()
      return
    }
    if (request.method === 'HEAD') {
      response.writeHead(200, { 'content-length': '1000' }).end()
      return
    }
    response.writeHead(200, { trailer: 'x-sum', 'transfer-encoding': 'chunked' })
    let bytes = 0
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      response.write(chunk)
    })
    request.on('end', () => {
      response.addTrailers({ 'x-sum': `${bytes} ${request.trailers['x-in'] ?? ''}` })
      response.end()
    })
  })
  const instance = await new Instance(t, await listen(t, app), {}).start(authority)
  const caller = await new Caller(t).start(authority, {
    subsets: [{ name: '', weight: 1, endpoints: [instance.endpoint()] }],
  })
  const client = new Client(t, caller.port)
  const big = 'x'.repeat(3_000_000)
  client.send(`POST / HTTP/1.1\r\nHost: web\r\nContent-Length: ${big.length}\r\n\r\n${big}`)
  await client.untilText('x-sum: 3000000')
  client.received = Buffer.alloc(0)
  client.send(
    'POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-in: yes\r\n\r\n',
  )
  await client.untilText('x-sum: 3 yes')
  assert.match(client.text, /\r\n3\r\nabc\r\n0\r\n/)
  client.received = Buffer.alloc(0)
  client.send('HEAD / HTTP/1.1\r\nHost: web\r\n\r\nGET /304 HTTP/1.1\r\nHost: web\r\n\r\n')
  await client.untilText('304 Not Modified')
  assert.match(client.text, /^HTTP\/1\.1 200 OK\r\n[^]*content-length: 1000\r\n[^]*\r\n\r\nHTTP\/1\.1 304/i)
})

test('a response that ends with its connection becomes chunked, and HTTP/1.0 gets it as it is', async (t) => {
  const app = net.createServer((socket) => {
    socket.once('data', () => socket.end('HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end'))
  })
  const instance = await new Instance(t, await listen(t, app), {}).start(authority)
  const caller = await new Caller(t).start(authority, {
    subsets: [{ name: '', weight: 1, endpoints: [instance.endpoint()] }],
  })
  const client = new Client(t, caller.port)
  client.send('GET / HTTP/1.1\r\nHost: web\r\n\r\n')
  await client.untilText('0\r\n\r\n')
  assert.match(client.text, /transfer-encoding: chunked\r\n\r\n/)
  assert.match(client.text, /d\r\nuntil the end\r\n0\r\n\r\n$/)
  const old = new Client(t, caller.port)
  old.send('GET / HTTP/1.0\r\n\r\n')
  await old.untilClosed()
  assert.match(old.text, /\r\n\r\nuntil the end$/)
  assert.doesNotMatch(old.text, /chunked/)
})

test('100-continue waits for the app', async (t) => {
  const app = http.createServer()
  app.on('checkContinue', (request: http.IncomingMessage, response: http.ServerResponse) => {
    response.writeContinue()
    request.resume()
    request.on('end', () => response.end('done'))
  })
  const instance = await new Instance(t, await listen(t, app), {}).start(authority)
  const caller = await new Caller(t).start(authority, {
    subsets: [{ name: '', weight: 1, endpoints: [instance.endpoint()] }],
  })
  const client = new Client(t, caller.port)
  client.send('POST / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n')
  await client.untilText('HTTP/1.1 100 Continue\r\n\r\n')
  client.send('abc')
  await client.untilText('done')
})

test('a websocket becomes a tunnel and its connections are not used again', async (t) => {
  const app = http.createServer((_request, response) => response.end('plain'))
  app.on('upgrade', (request: http.IncomingMessage, socket: net.Socket) => {
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nfirst`)
    socket.on('data', (chunk: Buffer) => socket.write(`echo ${chunk.toString()}`))
    socket.on('end', () => socket.end('bye'))
    assert.equal(request.headers['x-forwarded-client-cert'], `By=${webId};URI=${shopId}`)
  })
  const instance = await new Instance(t, await listen(t, app), {}).start(authority)
  const caller = await new Caller(t).start(authority, {
    subsets: [{ name: '', weight: 1, endpoints: [instance.endpoint()] }],
  })
  const client = new Client(t, caller.port)
  client.send('GET /ws HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
  await client.untilText('first')
  assert.match(client.text, /^HTTP\/1\.1 101 /)
  client.send('hi')
  await client.untilText('echo hi')
  client.socket.end()
  await client.untilText('bye')
  await client.untilClosed()
  await eventually(() => caller.lines.some((line) => line.status === 101), 'the log line')
  const other = new Client(t, caller.port)
  other.send('GET / HTTP/1.1\r\nHost: web\r\n\r\n')
  await other.untilText('plain')
})

test('malformed and ambiguous requests are answered here and never reach the app', async (t) => {
  let connections = 0
  const app = net.createServer(() => connections++)
  const instance = await new Instance(t, await listen(t, app), {}).start(authority)
  const caller = await new Caller(t).start(authority, {
    subsets: [{ name: '', weight: 1, endpoints: [instance.endpoint()] }],
  })
  const attacks: [string, number][] = [
    ['GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', 400],
    ['GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef', 400],
    ['GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n', 400],
    ['GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n', 400],
    ['GET / HTTP/1.1\nHost: a\n\n', 400],
    ['GET / HTTP/1.1\r\n\r\n', 400],
    ['GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n', 400],
    ['POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n', 400],
    [`GET / HTTP/1.1\r\nHost: a\r\nX: ${'y'.repeat(20_000)}\r\n\r\n`, 431],
    ['CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n', 405],
    ['PRO * HTTP/2.0\r\n\r\nSM\r\n\r\n', 501],
  ]
  for (const [attack, status] of attacks) {
    const client = new Client(t, caller.port)
    client.send(attack)
    await client.untilClosed()
    assert.match(client.text, new RegExp(`^HTTP/1\\.1 ${status} `), JSON.stringify(attack.slice(0, 80)))
    assert.match(client.text, /x-meshctl-reason: \w+\r\n/)
    assert.match(client.text, /connection: close\r\n/)
    client.socket.destroy()
  }
  assert.equal(connections, 0)
})

test('what an app says beyond its response reaches nobody', async (t) => {
  const app = net.createServer((socket) => {
    socket.on('data', () =>
      socket.write(
        'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison',
      ),
    )
  })
  const instance = await new Instance(t, await listen(t, app), {}).start(authority)
  const caller = await new Caller(t).start(authority, {
    subsets: [{ name: '', weight: 1, endpoints: [instance.endpoint()] }],
  })
  const client = new Client(t, caller.port)
  for (let i = 0; i < 3; i++) {
    client.received = Buffer.alloc(0)
    client.send('GET / HTTP/1.1\r\nHost: web\r\n\r\n')
    await client.untilText('\r\n\r\nok')
    assert.doesNotMatch(client.text, /poison/)
  }
})
