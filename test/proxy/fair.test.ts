// Many exchanges share one link: what one of them does may not be felt by the others, nor by our memory.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import http2 from 'node:http2'
import net from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { Caller, Client, eventually, Instance, listen, still } from './hops.ts'
import { ask, authority, session2, wayTo } from './way.ts'

/** What may lie between two ends that do not read: sockets of the kernel, windows of the link, queues of the hops. */
const mostInFlight = 24_000_000
const whole = 64_000_000

test('a reader that stalls on one stream stalls nobody else on the link, and is waited for', async (t) => {
  let sent = 0
  const chunk = Buffer.alloc(100_000, 'x')
  const app = http2.createServer()
  app.on('stream', (stream: http2.ServerHttp2Stream, headers) => {
    stream.on('error', () => undefined)
    stream.respond({ ':status': 200 })
    if (headers[':path'] !== '/big') {
      stream.end('small')
      return
    }
    const more = (): void => {
      while (sent < whole) {
        sent += chunk.length
        if (!stream.write(chunk)) {
          stream.once('drain', more)
          return
        }
      }
      stream.end()
    }
    more()
  })
  const way = await wayTo(t, app, { protocol: 'http2' })
  // One of each version, each on a connection of its own, and both on the same link.
  const slow = session2(t, way.port).request({ ':path': '/big', ':authority': 'web' })
  await once(slow, 'response')
  slow.pause()
  const session = session2(t, way.port)
  const stalled = await still(() => sent, 'the application to be held back')
  assert.ok(stalled < mostInFlight, `${stalled} bytes taken from the application`)
  const took: number[] = []
  for (let i = 0; i < 200; i++) {
    const started = performance.now()
    const answer = await ask(session, { ':path': '/small' })
    took.push(performance.now() - started)
    assert.equal(answer.body.toString(), 'small')
  }
  const median = took.toSorted((a, b) => a - b)[100]!
  assert.ok(median < 10, `half of 200 requests beside it took ${median} ms and more`)
  assert.equal(sent, stalled)
  let received = 0
  slow.on('data', (bytes: Buffer) => (received += bytes.length))
  slow.resume()
  await once(slow, 'end')
  assert.equal(received, whole)
})

test('an application that does not read holds back its caller, and nobody else', async (t) => {
  const readers: http.IncomingMessage[] = []
  const app = http.createServer((request, response) => {
    if (request.url === '/small') {
      response.end('small')
      return
    }
    readers.push(request)
    let bytes = 0
    request.on('end', () => response.end(`got ${bytes}`))
    request.pause()
    request.on('data', (chunk: Buffer) => (bytes += chunk.length))
    request.pause()
  })
  const way = await wayTo(t, app)
  const client = new Client(t, way.port)
  client.send(`POST /big HTTP/1.1\r\nHost: web\r\nContent-Length: ${whole}\r\n\r\n`)
  const chunk = Buffer.alloc(100_000)
  let sent = 0
  const more = (): void => {
    while (sent < whole) {
      sent += chunk.length
      if (!client.socket.write(chunk)) return
    }
  }
  client.socket.on('drain', more)
  more()
  await eventually(() => readers.length === 1, 'the request')
  const stalled = await still(() => sent, 'the caller to be held back')
  assert.ok(stalled < mostInFlight, `${stalled} bytes taken from the caller`)
  const other = new Client(t, way.port)
  for (let i = 1; i <= 100; i++) {
    other.send('GET /small HTTP/1.1\r\nHost: web\r\n\r\n')
    await other.until((now) => now.text.split('small').length === i + 1, `answer ${i}`)
  }
  readers[0]!.resume()
  await client.untilText(`got ${whole}`)
})

/** Passes bytes on, and breaks whatever is open when told to. */
async function relay(t: TestContext, to: number): Promise<{ port: number; cut: () => number }> {
  const open = new Set<net.Socket>()
  const server = net.createServer((near) => {
    const far = net.connect(to, '127.0.0.1')
    for (const socket of [near, far]) {
      open.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        open.delete(socket)
        near.destroy()
        far.destroy()
      })
    }
    near.pipe(far).pipe(near)
  })
  const cut = (): number => {
    const { size } = open
    for (const socket of open) socket.resetAndDestroy()
    return size / 2
  }
  t.after(cut)
  return { port: await listen(t, server), cut }
}

test('links that break under load cost no request that can be sent again', async (t) => {
  // Head and body in one write: an answer that has begun could not be asked for again.
  const app = http.createServer((_request, response) => setTimeout(() => response.end('ok'), 2))
  const instance = await new Instance(t, await listen(t, app), {}).start(authority)
  const between = await relay(t, instance.linkPort)
  const caller = await new Caller(t).start(authority, {
    subsets: [{ name: '', weight: 1, endpoints: [{ ...instance.endpoint(), linkPort: between.port }] }],
  })
  const agent = new http.Agent({ keepAlive: true, maxSockets: 50 })
  t.after(() => agent.destroy())
  const get = (): Promise<number> =>
    new Promise((resolve, reject) => {
      const request = http.get({ port: caller.port, host: '127.0.0.1', agent }, (response) => {
        response.resume()
        response.on('end', () => resolve(response.statusCode ?? 0))
        response.on('error', reject)
      })
      request.on('error', reject)
    })
  let answered = 0
  let cuts = 0
  const state = { isOver: false }
  const users = Array.from({ length: 50 }, async () => {
    while (!state.isOver) {
      assert.equal(await get(), 200)
      answered++
    }
  })
  const cutting = (async () => {
    try {
      for (let i = 1; i <= 8; i++) {
        const last = answered
        // In the middle of what runs, however fast this machine is.
        await eventually(() => answered > last + 50, 'load')
        cuts += between.cut()
      }
    } finally {
      state.isOver = true
    }
  })()
  await Promise.all([...users, cutting])
  assert.ok(cuts >= 8, `${cuts} links were cut`)
  await eventually(() => caller.lines.length === answered, 'the lines')
  // That some had to be sent again shows that the cuts met requests under way.
  assert.ok(caller.lines.some((line) => line.tries > 1) || instance.lines.some((line) => line.flags === 'DC'))
})
