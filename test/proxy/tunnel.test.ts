import assert from 'node:assert/strict'
import http from 'node:http'
import net from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import type { Protocol } from '../../src/snapshot/types.ts'
import { Authority, Caller, Client, eventually, Instance, listen, shopId, still } from './hops.ts'

const authority = new Authority()

async function pair(
  t: TestContext,
  app: net.Server,
  protocol: Protocol,
): Promise<{ instance: Instance; caller: Caller }> {
  const instance = await new Instance(t, await listen(t, app), { protocol }).start(authority)
  const caller = await new Caller(t).start(authority, {
    protocol,
    subsets: [{ name: '', weight: 1, endpoints: [instance.endpoint()] }],
  })
  return { instance, caller }
}

const echoOnEnd = (): net.Server =>
  net.createServer({ allowHalfOpen: true }, (socket) => {
    const chunks: Buffer[] = []
    socket.on('data', (chunk: Buffer) => chunks.push(chunk))
    // Answers only after the client's end: without half-close this hangs.
    socket.on('end', () => socket.end(Buffer.concat(chunks)))
  })

test('opaque TCP passes with half-close, is counted and logged', async (t) => {
  const { instance, caller } = await pair(t, echoOnEnd(), 'tcp')
  const client = new Client(t, caller.port)
  const bytes = Buffer.alloc(2_000_000, 'abc\0')
  client.send(bytes)
  client.socket.end()
  await client.untilClosed()
  assert.ok(client.received.equals(bytes))
  await eventually(() => caller.lines.length === 1 && instance.lines.length === 1, 'the lines')
  assert.deepEqual([caller.lines[0]?.mtls, caller.lines[0]?.upstream_mtls], [false, true])
  assert.deepEqual([instance.lines[0]?.mtls, instance.lines[0]?.upstream_mtls], [true, false])
  assert.equal(caller.lines[0]?.client, undefined)
  assert.match(instance.lines[0]?.client ?? '', /^127\.0\.0\.1:\d+$/)
  for (const [line] of [caller.lines, instance.lines]) {
    assert.equal(line?.protocol, 'TCP')
    assert.equal(line.flags, '-')
    assert.deepEqual([line.bytes_in, line.bytes_out], [bytes.length, bytes.length])
    assert.equal(line.source, shopId)
  }
  const metrics = instance.metrics()
  assert.match(metrics, /istio_tcp_received_bytes_total\{[^}]*\} 2000000/)
  assert.match(metrics, /istio_tcp_connections_closed_total\{[^}]*\} 1/)
  assert.equal(caller.engine.endpoints()[0]?.active, 0)
})

test('auto: a server that speaks first is heard at once, and the port is remembered', async (t) => {
  const first: number[] = []
  const second: number[] = []
  for (let i = 0; i < 4; i++) {
    const greeter = net.createServer((socket) => {
      socket.write('220 hello\r\n')
      socket.on('data', (chunk: Buffer) => socket.write(`250 ${chunk.toString()}`))
    })
    const { caller } = await pair(t, greeter, 'auto')
    for (const took of [first, second]) {
      const started = performance.now()
      const client = new Client(t, caller.port)
      await client.untilText('220 hello')
      took.push(performance.now() - started)
      client.send('EHLO me\r\n')
      await client.untilText('250 EHLO me')
      client.socket.destroy()
    }
  }
  // Nobody waits for the caller to speak; a machine that stands still may delay some.
  assert.ok(Math.min(...first) < 90, first.join())
  assert.ok(Math.min(...second) < 90, second.join())
})

test('auto: HTTP is recognised and gets routes; other client-first protocols pass as they are', async (t) => {
  const mixed = net.createServer((socket) => {
    socket.on('data', (chunk: Buffer) => {
      const text = chunk.toString('latin1')
      if (text.startsWith('GET ')) {
        socket.write(
          `HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n${/x-forwarded-client-cert/.test(text) ? 'http' : 'none'}`,
        )
      } else socket.write(`raw ${text}`)
    })
  })
  const { caller } = await pair(t, mixed, 'auto')
  for (let i = 0; i < 2; i++) {
    const web = new Client(t, caller.port).send('GE')
    web.send('T / HTTP/1.1\r\nHost: web\r\n\r\n')
    await web.untilText('\r\n\r\nhttp')
    const raw = new Client(t, caller.port).send('*1\r\n$4\r\nPING\r\n')
    await raw.untilText('raw *1')
    web.socket.destroy()
    raw.socket.destroy()
  }
  await eventually(() => caller.lines.length >= 4, 'the lines')
})

test('auto: a server that only ends has not spoken: HTTP is still recognised afterwards', async (t) => {
  const app = http.createServer((_request, response) => response.end('answer'))
  // As applications do with connections on which nothing comes.
  app.on('connection', (socket) => socket.setTimeout(50, () => socket.end()))
  const { caller } = await pair(t, app, 'auto')
  await new Client(t, caller.port).untilClosed()
  const client = new Client(t, caller.port).send('GET / HTTP/1.1\r\nHost: web\r\n\r\n')
  await client.untilText('answer')
  await eventually(() => caller.lines.some(({ protocol }) => protocol === 'HTTP/1.1'), 'a line of HTTP')
})

test('auto: a client that only ends is passed on', async (t) => {
  const { caller } = await pair(t, echoOnEnd(), 'auto')
  const client = new Client(t, caller.port)
  client.socket.end()
  await client.untilClosed()
  assert.equal(client.text, '')
})

test('a dead instance costs no opaque connection; with none left it is reset and logged', async (t) => {
  const { instance, caller } = await pair(
    t,
    net.createServer((socket) => socket.write('hi')),
    'tcp',
  )
  const gone = net.createServer()
  const linkPort = await listen(t, gone)
  await new Promise((resolve) => gone.close(resolve))
  const dead = { ...instance.endpoint(), port: 1, linkPort }
  caller.apply({
    protocol: 'tcp',
    subsets: [{ name: '', weight: 1, endpoints: [dead, instance.endpoint()] }],
    cluster: { balancer: 'round-robin' },
  })
  for (let i = 0; i < 4; i++) await new Client(t, caller.port).untilText('hi')
  caller.apply({ protocol: 'tcp', subsets: [{ name: '', weight: 1, endpoints: [dead] }] })
  const client = new Client(t, caller.port)
  await client.untilClosed()
  await eventually(() => caller.lines.some((line) => line.flags === 'UF'), 'the line')
})

test('HTTP half-closed after its request is answered', async (t) => {
  const app = http.createServer((_request, response) => setImmediate(() => response.end('answer')))
  const { caller } = await pair(t, app, 'http')
  const client = new Client(t, caller.port)
  client.send('GET / HTTP/1.1\r\nHost: web\r\n\r\n')
  client.socket.end()
  await client.untilText('answer')
  await client.untilClosed()
})

test('a slow reader holds back the app, not our memory', async (t) => {
  let sent = 0
  const flood = http.createServer((_request, response) => {
    const chunk = Buffer.alloc(65_536, 120)
    const more = (): void => {
      do sent += chunk.length
      while (!response.destroyed && response.write(chunk))
    }
    response.on('drain', more)
    more()
  })
  const { caller } = await pair(t, flood, 'http')
  const client = new Client(t, caller.port)
  client.socket.pause()
  client.send('GET / HTTP/1.1\r\nHost: web\r\n\r\n')
  await still(() => sent, 'the app to be held back')
  // Kernel buffers of four connections, and our marks; not a byte per byte sent.
  assert.ok(sent < 40_000_000, `${sent}`)
  client.socket.destroy()
})

test('a fast writer to an app that does not read is held back', async (t) => {
  const deaf = net.createServer((socket) => socket.pause())
  const { caller } = await pair(t, deaf, 'http')
  const client = new Client(t, caller.port)
  client.send('POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 1000000000\r\n\r\n')
  const chunk = Buffer.alloc(65_536, 120)
  let sent = 0
  const more = (): void => {
    while (sent < 200_000_000) {
      sent += chunk.length
      if (!client.socket.write(chunk)) return
    }
  }
  client.socket.on('drain', more)
  more()
  await still(() => sent, 'the client to be held back')
  assert.ok(sent < 60_000_000, `${sent}`)
  client.socket.destroy()
})
