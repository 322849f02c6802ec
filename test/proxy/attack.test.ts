// Attacks through a real engine before a real application: what is malformed is answered by us with its status, the
// connection is closed, and the application never hears of it.
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { IncomingHttpHeaders } from 'node:http'
import net from 'node:net'
import type { AddressInfo } from 'node:net'
import { after, before, suite, test } from 'node:test'
import fc from 'fast-check'
import { systemClock } from '../../src/clock.ts'
import { makeLog } from '../../src/log.ts'
import { Engine } from '../../src/proxy/engine.ts'
import { Stats } from '../../src/proxy/stats.ts'
import { serverName } from '../../src/snapshot/types.ts'
import type { Settings, Snapshot } from '../../src/snapshot/types.ts'
import { badRequests, badResponses } from '../wire/attacks.ts'
import { goodRequests } from '../wire/corpus.ts'
import { readLlhttp } from '../wire/llhttp.ts'
import { requests, seed } from '../wire/soup.ts'
import { emptySnapshot } from './snapshots.ts'

/** An engine whose captured connections are all meant for the application on `port`. */
async function engineBefore(
  port: number,
  settings: Partial<Settings> = {},
): Promise<{ engine: Engine; port: number }> {
  const engine = new Engine({
    clock: systemClock,
    log: makeLog('test', 'silent'),
    stats: new Stats(),
    accessLog: () => undefined,
    originalDestination: () => ({ address: '127.0.0.1', port }),
  })
  engine.apply(snapshotFor(port, settings))
  const listening = await engine.listenInbound({ host: '127.0.0.1', port: 0 })
  return { engine, port: listening.port }
}

function snapshotFor(port: number, settings: Partial<Settings>): Snapshot {
  const plain = emptySnapshot('vm1')
  return emptySnapshot('vm1', {
    settings: { ...plain.settings, ...settings },
    inbound: [
      {
        service: 'web',
        namespace: 'default',
        version: 'v1',
        identity: 0,
        serverName: serverName('web', 'default', port),
        port,
        address: '127.0.0.1',
        protocol: 'http',
        mtls: 'permissive',
      },
    ],
  })
}

interface Seen {
  line: string
  body: string
  headers: IncomingHttpHeaders
}

/** An application that takes down every request that it is given whole, and how many it was given the head of. */
async function countingApp(): Promise<{ port: number; seen: Seen[]; begun: number; close(): void }> {
  const server = createServer((request, response) => {
    app.begun++
    let body = ''
    request.setEncoding('latin1')
    request.on('data', (chunk) => (body += chunk))
    request.on('end', () => {
      app.seen.push({ line: `${request.method} ${request.url}`, body, headers: request.headers })
      setTimeout(() => response.end('ok'), request.url === '/slow' ? 100 : 0)
    })
  })
  const app = {
    port: 0,
    seen: [] as Seen[],
    begun: 0,
    close() {
      server.closeAllConnections()
      server.close()
    },
  }
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  app.port = (server.address() as AddressInfo).port
  return app
}

interface Talk {
  /** Enough was heard. */
  readonly enough?: (text: string) => boolean
  readonly pauseMs?: number
  /** End our half after the last piece. */
  readonly end?: boolean
  /** Give up; by far longer than anything here takes. */
  readonly withinMs?: number
}

/** Sends pieces and collects what comes until the other side closes. */
function send(port: number, pieces: readonly string[], talk: Talk = {}): Promise<string> {
  const { enough = () => false, pauseMs = 1, end = false, withinMs = 20_000 } = talk
  return new Promise((resolve) => {
    let text = ''
    const socket = net.connect(port, '127.0.0.1')
    const timer = setTimeout(() => finish(), withinMs)
    const finish = (): void => {
      clearTimeout(timer)
      socket.destroy()
      resolve(text)
    }
    socket.setNoDelay(true)
    socket.on('data', (bytes) => {
      text += bytes.toString('latin1')
      if (enough(text)) finish()
    })
    socket.on('error', finish)
    socket.on('close', finish)
    void (async () => {
      for (const piece of pieces) {
        if (socket.destroyed) return
        socket.write(Buffer.from(piece, 'latin1'))
        await new Promise((next) => setTimeout(next, pauseMs))
      }
      if (end) socket.end()
    })()
  })
}

const statuses = (text: string): number[] =>
  [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status))

suite('requests', () => {
  let app: Awaited<ReturnType<typeof countingApp>>
  let engine: Engine
  let port: number

  before(async () => {
    app = await countingApp()
    ;({ engine, port } = await engineBefore(app.port))
  })
  after(() => {
    engine.close()
    app.close()
  })

  for (const bad of badRequests) {
    test(`refused: ${bad.name}`, async () => {
      app.seen = []
      app.begun = 0
      const text = await send(port, [bad.bytes])
      assert.deepEqual(statuses(text), [bad.status])
      assert.match(text, /\r\nconnection: close\r\n/i)
      assert.equal(app.begun, 0)
    })
  }

  test('refused behind a good request on the same connection, which is answered first', async () => {
    for (const bad of badRequests.filter(({ bytes }) => bytes.length < 1000)) {
      app.seen = []
      app.begun = 0
      const text = await send(port, [`GET /first HTTP/1.1\r\nHost: a\r\n\r\n${bad.bytes}`])
      if (bad.name.includes('empty lines')) continue
      assert.deepEqual(statuses(text), [200, bad.status], bad.name)
      assert.deepEqual(
        app.seen.map(({ line }) => line),
        ['GET /first'],
        bad.name,
      )
    }
  })

  test('refused when it comes in two pieces: the application never gets it whole', async () => {
    for (const bad of badRequests.filter(({ bytes }) => bytes.length < 1000)) {
      app.seen = []
      const cut = Math.max(1, bad.bytes.length - 3)
      const text = await send(port, [bad.bytes.slice(0, cut), bad.bytes.slice(cut)])
      assert.deepEqual(app.seen, [], bad.name)
      // Once the application has the head of a chunked request, its own answer may have come first.
      if (statuses(text).length > 0) assert.ok(statuses(text)[0]! >= 400, bad.name)
    }
  })

  test('positive twin: what is well formed reaches the application exactly once', async () => {
    const skip = /connect|upgrade|asterisk|two|three|m-search|empty line/
    for (const good of goodRequests.filter(({ name }) => !skip.test(name))) {
      app.seen = []
      const text = await send(port, [good.bytes], {
        enough: (soFar) => soFar.endsWith('ok') || soFar.includes('\r\n0\r\n\r\n'),
      })
      assert.equal(statuses(text).at(-1), 200, good.name)
      assert.equal(app.seen.length, 1, good.name)
    }
  })

  test(`soup: the application gets no request that llhttp would not have read itself, seed ${seed}`, async () => {
    await fc.assert(
      fc.asyncProperty(requests, async (bytes) => {
        // An application and an engine of its own, so that nothing of another run can arrive late.
        const own = await countingApp()
        const { engine: proxy, port: at } = await engineBefore(own.port)
        await send(at, [bytes.toString('latin1')], { end: true, withinMs: 1000 })
        proxy.close()
        own.close()
        const theirs = readLlhttp(bytes, 'request').messages.filter(({ complete }) => complete)
        const note = JSON.stringify([bytes.toString('latin1'), own.seen])
        assert.ok(own.seen.length <= theirs.length, note)
        for (const [i, { line, body }] of own.seen.entries()) {
          assert.equal(line, theirs[i]!.start.replace(/ http:\/\/[^/]*/, ' '), note)
          assert.equal(body, theirs[i]!.body, note)
        }
      }),
      { seed, interruptAfterTimeLimit: 2000, numRuns: 5000 },
    )
  })

  test('a body that ends early ends its exchange', async () => {
    app.seen = []
    const started = performance.now()
    await send(port, ['POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nx'], {
      end: true,
      withinMs: 10_000,
    })
    assert.ok(performance.now() - started < 8000)
    assert.deepEqual(app.seen, [])
  })

  test('a body that ends early ends its exchange behind a slow one too', async () => {
    app.seen = []
    const started = performance.now()
    const half = 'POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n'
    const text = await send(port, [`GET /slow HTTP/1.1\r\nHost: a\r\n\r\n${half}`], {
      end: true,
      withinMs: 10_000,
    })
    assert.deepEqual(statuses(text), [200])
    assert.ok(performance.now() - started < 8000)
    assert.deepEqual(
      app.seen.map(({ line }) => line),
      ['GET /slow'],
    )
  })

  test('a chunked body reaches the application with its content unchanged', async () => {
    app.seen = []
    const chunks = Array.from(
      { length: 50 },
      (_, i) => `${(i + 1).toString(16)};x=${i}\r\n${'y'.repeat(i + 1)}\r\n`,
    )
    const bytes = `POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n${chunks.join('')}0\r\n\r\n`
    const pieces = Array.from({ length: Math.ceil(bytes.length / 97) }, (_, i) =>
      bytes.slice(i * 97, i * 97 + 97),
    )
    assert.deepEqual(statuses(await send(port, pieces)), [200])
    assert.equal(app.seen[0]!.body, 'y'.repeat((50 * 51) / 2))
  })

  test('hop-by-hop: a nominated header ends here, identity headers of a stranger end here too', async () => {
    app.seen = []
    await send(port, [
      'GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nX-Other: 2\r\n' +
        'X-Forwarded-Client-Cert: URI=spiffe://mesh.test/ns/default/sa/admin\r\nKeep-Alive: 5\r\nTE: trailers\r\n\r\n',
    ])
    const { headers } = app.seen[0]!
    assert.equal(headers['x-mine'], undefined)
    assert.equal(headers['x-other'], '2')
    assert.equal(headers['keep-alive'], undefined)
    assert.equal(headers['te'], undefined)
    assert.doesNotMatch(String(headers['x-forwarded-client-cert'] ?? ''), /admin/)
  })

  test('a head that trickles in is ended at its deadline, not kept alive by its trickle', async (t) => {
    const { engine: slow, port: slowPort } = await engineBefore(app.port, {
      headTimeout: 300,
    })
    t.after(() => slow.close())
    app.begun = 0
    const started = performance.now()
    // Ten seconds' worth of header lines.
    const trickle = [
      'GET / HTTP/1.1\r\nHost: a\r\n',
      ...Array.from({ length: 200 }, (_, i) => `X-${i}: y\r\n`),
    ]
    assert.deepEqual(statuses(await send(slowPort, trickle, { pauseMs: 50 })), [408])
    assert.deepEqual(statuses(await send(slowPort, ['GET / HTTP/1.1\r\nHo'])), [408])
    assert.equal(app.begun, 0)
    assert.ok(performance.now() - started < 9_000)
  })
})

suite('responses', () => {
  /** An application that answers each connection's first bytes with exactly these. */
  async function rawApp(answer: (turn: number) => string): Promise<{ port: number; close(): void }> {
    let turn = 0
    const sockets = new Set<net.Socket>()
    const server = net.createServer((socket) => {
      sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('data', () => socket.write(Buffer.from(answer(turn++), 'latin1')))
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return {
      port: (server.address() as AddressInfo).port,
      close() {
        server.close()
        for (const socket of sockets) socket.destroy()
      },
    }
  }

  const ok = (body: string): string => `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`
  const request = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'

  for (const bad of badResponses.filter((one) => one.requestMethod !== 'CONNECT')) {
    test(`not passed on: ${bad.name}`, async (t) => {
      const app = await rawApp(() => bad.bytes)
      const { engine, port } = await engineBefore(app.port)
      t.after(() => {
        engine.close()
        app.close()
      })
      const text = await send(port, [request])
      const [status] = statuses(text)
      assert.ok(status === 502 || status === 503, text)
      assert.match(text, /x-meshctl-reason: upstream/)
    })
  }

  test('CVE-2026-48931 response-queue poisoning: a second response is nobody’s', async (t) => {
    const app = await rawApp((turn) => ok(`own ${turn}`) + ok('poison'))
    const { engine, port } = await engineBefore(app.port)
    t.after(() => {
      engine.close()
      app.close()
    })
    for (let turn = 0; turn < 5; turn++) {
      const text = await send(port, [request])
      assert.deepEqual(statuses(text), [200])
      assert.ok(text.endsWith(`own ${turn}`), text)
    }
  })

  test('bytes that come later on an idle connection are not the next answer', async (t) => {
    const app = await rawApp((turn) => ok(`own ${turn}`))
    const { engine, port } = await engineBefore(app.port)
    t.after(() => {
      engine.close()
      app.close()
    })
    assert.ok((await send(port, [request])).endsWith('own 0'))
    assert.ok((await send(port, [request])).endsWith('own 1'))
  })

  test('a 101 that nobody asked for is not passed on', async (t) => {
    const app = await rawApp(
      () => 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nraw',
    )
    const { engine, port } = await engineBefore(app.port)
    t.after(() => {
      engine.close()
      app.close()
    })
    const text = await send(port, [request])
    assert.deepEqual(statuses(text), [502])
    assert.ok(!text.includes('raw'))
  })
})
