// What becomes of opaque connections when the proxies of their instances refuse, die or say nothing. The proxies are played
// by node:http2.
import assert from 'node:assert/strict'
import http2 from 'node:http2'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { FakeClock } from '../../src/clock.ts'
import type { Endpoint } from '../../src/snapshot/types.ts'
import { Authority, Caller, Client, eventually, listen, webId } from './hops.ts'
import type { Calls } from './hops.ts'

const authority = new Authority()
const { NGHTTP2_REFUSED_STREAM } = http2.constants

interface Peer {
  readonly endpoint: Endpoint
  /** Heads of what was asked of it, and the bytes that came with each. */
  readonly asked: http2.IncomingHttpHeaders[]
  readonly bytes: number[]
  sessions: number
}

type Answer = (stream: http2.ServerHttp2Stream, turn: number) => void

async function peer(
  t: TestContext,
  port: number,
  answer: Answer,
  settings: http2.Settings = {},
): Promise<Peer> {
  const { chain, key } = authority.leaf(webId)
  const server = http2.createSecureServer({
    cert: chain,
    key,
    ca: authority.roots,
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: 'TLSv1.3',
    settings,
  })
  const asked: http2.IncomingHttpHeaders[] = []
  const bytes: number[] = []
  let sessions = 0
  server.on('session', () => sessions++)
  server.on('stream', (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => {
    const turn = asked.push(headers) - 1
    bytes[turn] = 0
    stream.on('error', () => undefined)
    stream.on('data', (chunk: Buffer) => (bytes[turn]! += chunk.length))
    answer(stream, turn)
  })
  const linkPort = await listen(t, server)
  const endpoint: Endpoint = {
    address: '127.0.0.1',
    port,
    host: `vm-${port}`,
    version: 'v1',
    weight: 1,
    via: 'link',
    linkPort,
  }
  return {
    endpoint,
    asked,
    bytes,
    get sessions() {
      return sessions
    },
  }
}

const grant: Answer = (stream) => {
  stream.respond({ ':status': 200 })
  stream.write('welcome')
}

async function calling(
  t: TestContext,
  peers: readonly Peer[],
  cluster: Calls['cluster'] = {},
): Promise<Caller> {
  return new Caller(t).start(authority, {
    protocol: 'tcp',
    subsets: [{ name: '', weight: 1, endpoints: peers.map(({ endpoint }) => endpoint) }],
    cluster: { balancer: 'round-robin', ...cluster },
  })
}

test('a refusal moves the connection on, with every byte that its caller has sent and none before', async (t) => {
  const refuse: Answer = (stream) => {
    stream.respond({ ':status': 503, 'x-meshctl-reason': 'upstream_connect_failure' })
    stream.end('no')
  }
  const one = await peer(t, 1111, refuse)
  const two = await peer(t, 2222, grant)
  const caller = await calling(t, [one, two])
  const client = new Client(t, caller.port).send(Buffer.alloc(50_000, 'x'))
  await client.untilText('welcome')
  await eventually(() => two.bytes[0] === 50_000, 'all bytes')
  assert.deepEqual([one.asked.length, one.bytes[0]], [1, 0])
  const { ':method': method, ':authority': to, ':path': path, ':scheme': scheme } = two.asked[0]!
  assert.deepEqual([method, to, path, scheme], ['CONNECT', '127.0.0.1:2222', undefined, undefined])
  assert.deepEqual(
    caller.engine.endpoints().map(({ ejected, active }) => [ejected, active]),
    [
      [true, 0],
      [false, 1],
    ],
  )
})

test('who may not call is told so in the log, and the instance is not blamed', async (t) => {
  const deny: Answer = (stream) => {
    stream.respond({ ':status': 403, 'x-meshctl-reason': 'caller_refused' })
    stream.end('no')
  }
  const one = await peer(t, 1111, deny)
  const caller = await calling(t, [one])
  await new Client(t, caller.port).untilClosed()
  await eventually(() => caller.lines.length === 1, 'the line')
  const [line] = caller.lines
  assert.equal(line?.reason, 'caller_refused')
  assert.match(line.detail ?? '', /403 caller_refused/)
  assert.deepEqual(
    caller.engine.endpoints().map(({ ejected, active }) => [ejected, active]),
    [[false, 0]],
  )
})

test('a stream refused untouched is asked for again at the same instance', async (t) => {
  const one = await peer(t, 1111, (stream, turn) => {
    if (turn === 0) stream.close(NGHTTP2_REFUSED_STREAM)
    else grant(stream, turn)
  })
  const caller = await calling(t, [one])
  await new Client(t, caller.port).untilText('welcome')
  assert.deepEqual([one.asked.length, one.sessions], [2, 1])
})

test('a link that dies before it has answered is replaced', async (t) => {
  const one = await peer(t, 1111, (stream, turn) => {
    if (turn === 0) stream.session?.destroy()
    else grant(stream, turn)
  })
  const caller = await calling(t, [one])
  await new Client(t, caller.port).untilText('welcome')
  assert.deepEqual([one.asked.length, one.sessions], [2, 2])
})

test('one that goes away takes no new connections and keeps those it has', async (t) => {
  const one = await peer(t, 1111, (stream, turn) => {
    grant(stream, turn)
    if (turn === 0) stream.session?.goaway()
    stream.on('data', (chunk: Buffer) => void stream.write(chunk))
  })
  const caller = await calling(t, [one])
  const old = await new Client(t, caller.port).untilText('welcome')
  await new Client(t, caller.port).untilText('welcome')
  assert.equal(one.sessions, 2)
  await old.send(' back').untilText('welcome back')
})

test('no answer in time is a failure to connect', async (t) => {
  let code = 0
  const one = await peer(t, 1111, (stream) => stream.on('close', () => (code = stream.rstCode)))
  const caller = await calling(t, [one], { connectTimeout: 100 })
  await new Client(t, caller.port).untilClosed()
  await eventually(() => caller.lines.length === 1, 'the line')
  assert.deepEqual([caller.lines[0]?.flags, caller.lines[0]?.reason], ['UF', 'upstream_connect_timeout'])
  await eventually(() => code === http2.constants.NGHTTP2_CANCEL, 'the stream to be given up')
})

test('a caller that goes away meanwhile leaves no stream behind', async (t) => {
  let code = 0
  const one = await peer(t, 1111, (stream) => stream.on('close', () => (code = stream.rstCode)))
  const caller = await calling(t, [one], { connectTimeout: 10_000 })
  const client = new Client(t, caller.port).send('hello')
  await eventually(() => one.asked.length === 1, 'the question')
  client.socket.resetAndDestroy()
  await eventually(() => code === http2.constants.NGHTTP2_CANCEL, 'the stream to be given up')
  assert.equal(caller.engine.endpoints()[0]?.active, 0)
})

test('when a link is full another one is made, and room that comes free is used', async (t) => {
  const one = await peer(t, 1111, grant, { maxConcurrentStreams: 2 })
  const caller = await calling(t, [one])
  const first = await new Client(t, caller.port).untilText('welcome')
  const more = [1, 2, 3, 4].map(() => new Client(t, caller.port))
  await Promise.all(more.map((client) => client.untilText('welcome')))
  assert.equal(one.sessions, 3)
  for (const { socket } of [first, ...more]) socket.resetAndDestroy()
  await eventually(() => caller.engine.endpoints()[0]?.active === 0, 'all to end')
  const again = [1, 2, 3, 4, 5].map(() => new Client(t, caller.port))
  await Promise.all(again.map((client) => client.untilText('welcome')))
  assert.equal(one.sessions, 3)
})

test('an application that speaks HTTP/2 is not pinged: servers of gRPC take that for an attack', async (t) => {
  const clock = new FakeClock(Date.now())
  let pings = 0
  let streams = 0
  const app = http2.createServer()
  app.on('session', (session) => session.on('ping', () => pings++))
  app.on('stream', (stream: http2.ServerHttp2Stream) => {
    streams++
    stream.respond({ ':status': 200 })
    stream.write('begun ')
    stream.once('data', () => stream.end('done'))
  })
  const port = await listen(t, app)
  const caller = await new Caller(t, clock).start(authority, {
    protocol: 'http2',
    subsets: [
      {
        name: '',
        weight: 1,
        endpoints: [
          { address: '127.0.0.1', port, host: 'vm', version: 'v1', weight: 1, via: 'plain', linkPort: 0 },
        ],
      },
    ],
  })
  const client = new Client(t, caller.port)
  client.send('POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\n\r\n')
  await client.untilText('begun')
  for (let i = 0; i < 8; i++) clock.advance(5000)
  await client.send('ok').untilText('done')
  assert.deepEqual([pings, streams], [0, 1])
})
