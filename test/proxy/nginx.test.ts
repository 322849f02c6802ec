// nginx as the application, in either version, and as the one who calls.
import assert from 'node:assert/strict'
import http from 'node:http'
import { test } from 'node:test'
import { App, clientTo, collect, same, unary } from './grpc.ts'
import { freePort, isThere, nginx } from './program.ts'
import { ask, session2, wayTo } from './way.ts'

const skip = { skip: !isThere('nginx') }

const large = 'x'.repeat(300_000)

/** What it answers; `listen` says how it speaks. */
const server = (listen: string): string => `server {
    listen 127.0.0.1:${listen};
    client_max_body_size 1m;
    location /version { return 200 "$server_protocol $http_host $http_x_forwarded_proto"; }
    location /none { return 204; }
    location /refused { return 403 "no"; }
    location /large { return 200 "${large.slice(0, 3000)}"; }
    location /limited { client_max_body_size 10; proxy_pass http://127.0.0.1:1; }
  }`

interface Reply {
  readonly status: number
  readonly body: string
}

function get(agent: http.Agent, port: number, path: string, body: string = ''): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const method = body === '' ? 'GET' : 'POST'
    const request = http.request({ port, host: '127.0.0.1', path, agent, method }, (response) => {
      let text = ''
      response.on('data', (chunk: Buffer) => (text += chunk.toString()))
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text }))
    })
    request.on('error', reject)
    request.end(body)
  })
}

for (const { protocol, listen, spoken } of [
  { protocol: 'http', listen: '', spoken: 'HTTP/1.1' },
  { protocol: 'http2', listen: ' http2', spoken: 'HTTP/2.0' },
] as const) {
  test(`nginx as an application that speaks ${spoken}`, skip, async (t) => {
    const app = await freePort()
    await nginx(t, app, server(`${app}${listen}`))
    const way = await wayTo(t, app, { protocol })
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
    t.after(() => agent.destroy())
    const host = `127.0.0.1:${way.port}`
    for (let i = 0; i < 3; i++) {
      assert.deepEqual(await get(agent, way.port, '/version'), {
        status: 200,
        body: `${spoken} ${host} http`,
      })
      assert.deepEqual(await get(agent, way.port, '/none'), { status: 204, body: '' })
      assert.deepEqual(await get(agent, way.port, '/refused'), { status: 403, body: 'no' })
      assert.equal((await get(agent, way.port, '/large')).body.length, 3000)
      // Answered before its body has been read.
      assert.equal((await get(agent, way.port, '/limited', large)).status, 413)
    }
    if (protocol === 'http') return
    const session = session2(t, way.port)
    const answers = await Promise.all(
      Array.from({ length: 300 }, (_, i) => ask(session, { ':path': i % 2 === 0 ? '/version' : '/none' })),
    )
    for (const [i, { status, code }] of answers.entries()) {
      assert.deepEqual([status, code], [i % 2 === 0 ? 200 : 204, 0])
    }
    const early = await ask(session, { ':method': 'POST', ':path': '/limited' }, large)
    assert.equal(early.status, 413)
  })
}

test('nginx closes connections after so many requests: none of them is felt', skip, async (t) => {
  const app = await freePort()
  // It says GOAWAY after ten, while others are on their way.
  await nginx(t, app, `keepalive_requests 10; ${server(`${app} http2`)}`)
  const way = await wayTo(t, app, { protocol: 'http2' })
  const session = session2(t, way.port)
  for (let round = 0; round < 5; round++) {
    const answers = await Promise.all(
      Array.from({ length: 40 }, () => ask(session, { ':method': 'POST', ':path': '/version' }, 'x')),
    )
    for (const { status } of answers) assert.ok(status === 405 || status === 200, String(status))
  }
})

test('nginx as the caller, of HTTP/1.1 and of gRPC', skip, async (t) => {
  const app = await new App().start(t)
  const calls = await wayTo(t, app.port, { protocol: 'grpc' })
  const plain = await wayTo(
    t,
    http.createServer((request, response) => request.pipe(response)),
  )
  const front = await freePort()
  const grpcFront = await freePort()
  await nginx(
    t,
    front,
    `server { listen 127.0.0.1:${grpcFront} http2; location / { grpc_pass grpc://127.0.0.1:${calls.port}; } }
    server { listen 127.0.0.1:${front}; location / { proxy_pass http://127.0.0.1:${plain.port}; proxy_http_version 1.1; } }`,
  )
  const agent = new http.Agent({ keepAlive: true })
  t.after(() => agent.destroy())
  const echoed = await get(agent, front, '/', large)
  assert.equal(echoed.status, 200)
  assert.equal(echoed.body, large)
  const client = clientTo(t, grpcFront)
  for (let i = 0; i < 5; i++) {
    const { code, message } = await unary(client, 'Unary', `hello ${i}`)
    assert.equal(code, 0)
    assert.equal(message?.toString(), `hello ${i}`)
  }
  assert.equal((await unary(client, 'Fail', '9')).code, 9)
  const repeated = await collect(
    client.makeServerStreamRequest('/test.Echo/Repeat', same, same, Buffer.from('a')),
  )
  assert.deepEqual([repeated.code, repeated.all.length], [0, 100])
})
