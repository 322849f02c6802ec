// gRPC with the library that users have (@grpc/grpc-js), both ways through two hops.
import assert from 'node:assert/strict'
import http2 from 'node:http2'
import net from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import * as grpc from '@grpc/grpc-js'
import type { Headers } from '../../src/proxy/chain/ends.ts'
import { isGrpc, statusIn, timeoutIn } from '../../src/proxy/filter/grpc.ts'
import type { Protocol, RouteMatch } from '../../src/snapshot/types.ts'
import { App, clientTo, collect, same, unary } from './grpc.ts'
import { Caller, eventually, Instance, listen, shopId, webId } from './hops.ts'
import type { Calls, InstanceOptions } from './hops.ts'
import { ask, authority, session2, wayTo } from './way.ts'
import type { Way } from './way.ts'

async function wayToGrpc(
  t: TestContext,
  options: { protocol?: Protocol; calls?: Partial<Calls>; instance?: Partial<InstanceOptions> } = {},
): Promise<{ app: App; way: Way; client: grpc.Client }> {
  const app = await new App().start(t)
  const way = await wayTo(t, app.port, { protocol: 'grpc', ...options })
  return { app, way, client: clientTo(t, way.port) }
}

for (const protocol of ['grpc', 'http', 'auto'] as const) {
  test(`all four kinds of calls, on a port declared ${protocol}`, async (t) => {
    const { app, client } = await wayToGrpc(t, { protocol })
    const metadata = new grpc.Metadata()
    metadata.set('x-in', '1, 2')
    metadata.set('x-in-bin', Buffer.from([1, 2, 0, 254]))
    const { code, message, first, last } = await unary(client, 'Unary', 'hello', {}, metadata)
    assert.equal(code, 0)
    assert.equal(message?.toString(), 'hello')
    assert.deepEqual(first.get('x-first'), ['a b'])
    assert.deepEqual(last.get('x-last'), ['c'])
    assert.deepEqual(last.get('x-last-bin'), [Buffer.from([0, 255, 1])])
    assert.deepEqual(app.seen.get('x-in'), ['1, 2'])
    assert.deepEqual(app.seen.get('x-in-bin'), [Buffer.from([1, 2, 0, 254])])
    assert.deepEqual(app.seen.get('x-forwarded-client-cert'), [`By=${webId};URI=${shopId}`])
    assert.deepEqual(app.seen.get('x-meshctl-protocol'), [])
    assert.match(String(app.seen.get('user-agent')[0]), /^grpc-node-js/)

    const collected = new Promise<Buffer | undefined>((resolve) => {
      const call = client.makeClientStreamRequest('/test.Echo/Collect', same, same, (_error, value) =>
        resolve(value),
      )
      for (let i = 0; i < 100; i++) call.write(Buffer.from(`${i};`))
      call.end()
    })
    assert.equal((await collected)?.toString(), Array.from({ length: 100 }, (_, i) => `${i};`).join(''))

    const repeated = await collect(
      client.makeServerStreamRequest('/test.Echo/Repeat', same, same, Buffer.from('again')),
    )
    assert.equal(repeated.code, 0)
    assert.deepEqual(
      repeated.all,
      Array.from({ length: 100 }, (_, i) => `again ${i}`),
    )

    // Each message waits for the answer to the one before: nothing may be kept back on the way.
    const chat = client.makeBidiStreamRequest('/test.Echo/Chat', same, same)
    const chatted = collect(chat)
    let count = 0
    chat.on('data', () => (++count < 20 ? chat.write(Buffer.from(String(count))) : chat.end()))
    chat.write(Buffer.from('0'))
    const { code: ended, all } = await chatted
    assert.equal(ended, 0)
    assert.deepEqual(
      all,
      Array.from({ length: 20 }, (_, i) => `<${i}>`),
    )
  })
}

test('every status passes with its message, details and metadata', async (t) => {
  const { client } = await wayToGrpc(t)
  for (let status = 1; status <= 16; status++) {
    const { code, details, message, last } = await unary(client, 'Fail', String(status))
    assert.equal(code, status)
    assert.equal(details, 'größer als 100%')
    assert.equal(message, null)
    assert.deepEqual(last.get('x-why'), ['because'])
    assert.deepEqual(last.get('grpc-status-details-bin'), [Buffer.from('details')])
  }
  assert.equal((await unary(client, 'Missing', '')).code, grpc.status.UNIMPLEMENTED)
})

test('messages of 4 MB pass both ways, and empty ones', async (t) => {
  const { client } = await wayToGrpc(t)
  const large = Buffer.alloc(4 * 1024 * 1024)
  for (let i = 0; i < large.length; i += 4) large.writeUInt32LE(i, i)
  const replies = await Promise.all([
    unary(client, 'Unary', large),
    unary(client, 'Unary', large),
    unary(client, 'Unary', ''),
  ])
  for (const { message } of replies.slice(0, 2)) assert.ok(message?.equals(large))
  assert.equal(replies[2].message?.length, 0)
})

test('cancelling reaches the application', async (t) => {
  const { app, way, client } = await wayToGrpc(t)
  const call = client.makeBidiStreamRequest('/test.Echo/Hang', same, same)
  const ended = collect(call)
  call.write(Buffer.from('a'))
  await new Promise((resolve) => call.once('data', resolve))
  call.cancel()
  assert.equal((await ended).code, grpc.status.CANCELLED)
  await eventually(() => app.cancelled === 1, 'the application to hear of it')
  await eventually(() => way.caller.lines.length === 1, 'the line')
  assert.equal(way.caller.lines[0]!.flags, 'DC')
})

test('a deadline reaches the application, and ends the call there when it has passed', async (t) => {
  const { app, client } = await wayToGrpc(t)
  const deadline = Date.now() + 1000
  const { code } = await unary(client, 'Hang', '', { deadline })
  assert.equal(code, grpc.status.DEADLINE_EXCEEDED)
  assert.ok(Math.abs(app.deadline - deadline) < 500, `${app.deadline - deadline} ms off`)
  await eventually(() => app.cancelled === 1, 'the application to hear of it')
})

/** A call as bytes: its caller keeps no time itself. */
const call = {
  ':method': 'POST',
  ':path': '/test.Echo/Hang',
  'content-type': 'application/grpc',
  te: 'trailers',
}
const emptyMessage = Buffer.alloc(5)

test('grpc-timeout holds where nobody else sees to it, and the shorter of it and the route’s', async (t) => {
  // The library's own servers keep the time, too; this one answers never, or half.
  let cancelled = 0
  const app = http2.createServer()
  app.on('stream', (stream: http2.ServerHttp2Stream, headers) => {
    stream.on('error', () => undefined)
    stream.on('aborted', () => cancelled++)
    stream.resume()
    if (headers[':path'] === '/half') {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' })
      stream.write(emptyMessage)
    }
  })
  const way = await wayTo(t, app, { protocol: 'grpc' })
  const session = session2(t, way.port)
  const limits = [
    { path: '/never', route: 0, given: '100m' },
    { path: '/half', route: 0, given: '100000u' },
    { path: '/never', route: 100, given: '10S' },
    { path: '/never', route: 10_000, given: '100m' },
    { path: '/half', route: 100, given: '' },
  ]
  for (const [i, { path, route, given }] of limits.entries()) {
    way.caller.apply({
      protocol: 'grpc',
      subsets: [{ name: '', weight: 1, endpoints: [way.instance.endpoint()] }],
      route: { timeout: route },
    })
    const started = performance.now()
    const more = given === '' ? {} : { 'grpc-timeout': given }
    const answer = await ask(session, { ...call, ':path': path, ...more }, emptyMessage)
    const took = performance.now() - started
    assert.ok(took > 80 && took < 8000, `${took} ms`)
    assert.equal(answer.status, 200)
    assert.equal((answer.trailers ?? answer.headers)['grpc-status'], '4')
    assert.equal(answer.body.length, path === '/half' ? 5 : 0)
    await eventually(() => cancelled === i + 1, 'the application to hear of it')
    await eventually(() => way.caller.lines.length === i + 1, 'the line')
    assert.deepEqual([way.caller.lines[i]!.flags, way.caller.lines[i]!.grpc_status], ['UT', 4])
    assert.equal(way.caller.lines[i]!.detail, 'after 100 ms')
  }
})

test('an answer that breaks off is UNAVAILABLE, with what had come before', async (t) => {
  const { app, way, client } = await wayToGrpc(t)
  const call = client.makeBidiStreamRequest('/test.Echo/Hang', same, same)
  const ended = collect(call)
  call.write(Buffer.from('a'))
  await new Promise((resolve) => call.once('data', resolve))
  app.server.forceShutdown()
  const { code, all, details } = await ended
  assert.equal(code, grpc.status.UNAVAILABLE)
  assert.deepEqual(all, ['a'])
  assert.match(details, /the connection to the instance ended/)
  await eventually(() => way.caller.lines.length === 1 && way.instance.lines.length === 1, 'the lines')
  assert.equal(way.instance.lines[0]!.flags, 'UC')
  assert.equal(way.caller.lines[0]!.grpc_status, 14)
})

test('replies of our own are statuses of gRPC', async (t) => {
  const app = await new App().start(t)
  const good = await new Instance(t, app.port, { protocol: 'grpc' }).start(authority)
  const strict = await new Instance(t, app.port, { protocol: 'grpc', mtls: 'strict' }).start(authority)
  const closed = await listen(
    t,
    net.createServer((socket) => socket.resetAndDestroy()),
  )
  const caller = await new Caller(t).start(authority, { protocol: 'grpc', subsets: [] })
  const endpoints = [good.endpoint()]
  const never: RouteMatch = {
    path: { kind: 'exact', value: '/never' },
    method: null,
    authority: null,
    headers: [],
    withoutHeaders: [],
    queryParams: [],
    ignoreUriCase: false,
  }
  const cases: { says: RegExp; status: number; calls: Calls }[] = [
    {
      says: /no instance of the service is available: web.default has no healthy instance/,
      status: grpc.status.UNAVAILABLE,
      calls: { subsets: [{ name: '', weight: 1, endpoints: [] }] },
    },
    {
      says: /the instance did not prove the identity/,
      status: grpc.status.UNAVAILABLE,
      calls: { subsets: [{ name: 'b', weight: 1, endpoints }], spiffe: shopId },
    },
    {
      says: /the instance could not be reached/,
      status: grpc.status.UNAVAILABLE,
      calls: { subsets: [{ name: 'c', weight: 1, endpoints: [{ ...good.endpoint(), linkPort: closed }] }] },
    },
    {
      says: /no route matches/,
      status: grpc.status.UNIMPLEMENTED,
      calls: { subsets: [{ name: 'd', weight: 1, endpoints }], route: { matches: [never] } },
    },
  ]
  for (const { says, status, calls } of cases) {
    caller.apply({ protocol: 'grpc', ...calls })
    const { code, details } = await unary(clientTo(t, caller.port), 'Unary', 'x')
    assert.equal(code, status, String(says))
    assert.match(details, says)
  }
  const refused = await unary(clientTo(t, strict.inboundPort), 'Unary', 'x')
  assert.equal(refused.code, grpc.status.PERMISSION_DENIED)
  assert.match(refused.details, /mTLS is strict/)
  // A reply of ours is one head and no body, as gRPC wants it.
  const session = session2(t, strict.inboundPort)
  const raw = await ask(session, call, emptyMessage)
  assert.equal(raw.status, 200)
  assert.equal(raw.headers['content-type'], 'application/grpc')
  assert.equal(raw.headers['grpc-status'], '7')
  assert.equal(raw.headers['x-meshctl-reason'], 'mtls_required')
  assert.equal(raw.trailers, null)
})

test('a dead application behind its live proxy costs no call', async (t) => {
  const app = await new App().start(t)
  const good = await new Instance(t, app.port, { protocol: 'grpc' }).start(authority)
  const gone = await new App().start(t)
  const bad = await new Instance(t, gone.port, { protocol: 'grpc' }).start(authority)
  gone.server.forceShutdown()
  const caller = await new Caller(t).start(authority, {
    protocol: 'grpc',
    subsets: [{ name: '', weight: 1, endpoints: [bad.endpoint(), good.endpoint()] }],
    cluster: { balancer: 'round-robin' },
  })
  const client = clientTo(t, caller.port)
  for (let i = 0; i < 20; i++) assert.equal((await unary(client, 'Unary', 'x')).code, 0)
  assert.equal(app.calls, 20)
  await eventually(() => bad.lines.length === 1, 'the line of the dead one')
  assert.equal(bad.lines[0]!.flags, 'UF')
})

test('what is a call of gRPC, how long it may take, and what its trailers say', () => {
  const says = (name: string, value: string | undefined): Headers =>
    ({ get: (asked: string) => (asked === name ? value : undefined) }) as Headers
  for (const [type, is] of [
    ['application/grpc', true],
    ['application/grpc+proto', true],
    ['application/grpc;charset=utf-8', true],
    ['application/grpc-web', false],
    ['application/grpc-web+proto', false],
    ['application/json', false],
    [undefined, false],
  ] as const) {
    assert.equal(isGrpc(says('content-type', type)), is, String(type))
  }
  for (const [text, ms] of [
    ['100m', 100],
    ['1S', 1000],
    ['2M', 120_000],
    ['1H', 3_600_000],
    ['1n', 1],
    ['0m', 1],
    ['1500u', 2],
    ['99999999H', 0],
    ['100000000m', 0],
    ['-1S', 0],
    ['1.5S', 0],
    ['1s', 0],
    ['S', 0],
    [undefined, 0],
  ] as const) {
    assert.equal(timeoutIn(says('grpc-timeout', text)), ms, String(text))
  }
  for (const [text, status] of [
    ['0', 0],
    ['16', 16],
    ['17', 2],
    ['x', 2],
    ['1.5', 2],
    [undefined, -1],
  ] as const) {
    assert.equal(statusIn(says('grpc-status', text)), status, String(text))
  }
})

test('instances that only fail their calls are ejected where the policy says so', async (t) => {
  const failing = await new App().start(t)
  const good = await new App().start(t)
  const endpoints = []
  for (const { port } of [failing, good]) {
    endpoints.push((await new Instance(t, port, { protocol: 'grpc' }).start(authority)).endpoint())
  }
  const outlier = { consecutiveErrors: 3, baseEjection: 60_000, maxEjectionPercent: 50 }
  const caller = await new Caller(t).start(authority, {
    protocol: 'grpc',
    subsets: [{ name: '', weight: 1, endpoints: [endpoints[0]!] }],
    cluster: { outlier, balancer: 'round-robin' },
  })
  const client = clientTo(t, caller.port)
  for (let i = 0; i < 3; i++) assert.equal((await unary(client, 'Fail', '14')).code, 14)
  assert.deepEqual(
    caller.engine.endpoints().map(({ ejected }) => ejected),
    [true],
  )
  caller.apply({ protocol: 'grpc', subsets: [{ name: '', weight: 1, endpoints }], cluster: { outlier } })
  for (let i = 0; i < 10; i++) assert.equal((await unary(client, 'Unary', 'x')).code, 0)
  assert.deepEqual([failing.calls, good.calls], [3, 10])
})

test('a server that lets its connections grow old costs no call', async (t) => {
  const app = await new App({
    'grpc.max_connection_age_ms': 150,
    'grpc.max_connection_age_grace_ms': 1000,
  }).start(t)
  const way = await wayTo(t, app.port, { protocol: 'grpc' })
  const client = clientTo(t, way.port)
  let calls = 0
  // Several connections, one after another.
  const until = performance.now() + 800
  const user = async (): Promise<void> => {
    while (performance.now() < until || calls < 200) {
      assert.equal((await unary(client, 'Unary', 'x')).code, 0)
      calls++
    }
  }
  await Promise.all(Array.from({ length: 20 }, user))
  assert.equal(app.calls, calls)
})

test('calls are logged and counted as Istio does', async (t) => {
  const { way, client } = await wayToGrpc(t)
  await unary(client, 'Unary', 'x')
  await unary(client, 'Unary', 'x')
  await unary(client, 'Fail', '5')
  await eventually(() => way.caller.lines.length === 3 && way.instance.lines.length === 3, 'six lines')
  for (const node of [way.caller, way.instance]) {
    assert.deepEqual(
      node.lines.map((line) => [line.protocol, line.method, line.path, line.status, line.grpc_status]),
      [
        ['HTTP/2', 'POST', '/test.Echo/Unary', 200, 0],
        ['HTTP/2', 'POST', '/test.Echo/Unary', 200, 0],
        ['HTTP/2', 'POST', '/test.Echo/Fail', 200, 5],
      ],
    )
    const metrics = node.metrics()
    for (const [status, count] of [
      [0, 2],
      [5, 1],
    ]) {
      assert.match(
        metrics,
        new RegExp(
          `istio_requests_total\\{[^}]*request_protocol="grpc",grpc_response_status="${status}",response_code="200"[^}]*\\} ${count}\\n`,
        ),
      )
    }
    assert.doesNotMatch(metrics, /request_protocol="http"/)
  }
})
