// Callers of HTTP/2 that open, reset and hold whatever they can, before a real worker: what the application is asked to do and
// what the worker holds stay bounded, and the worker is the same one afterwards.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import http2 from 'node:http2'
import net from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { defaultLimits } from '../../src/wire/h2/limits.ts'
import { Flag, Type } from '../../src/wire/h2/frame.ts'
import { field, frame, get, idOf, post, whole, word } from '../wire/h2/victim.ts'
import { eventually, listen } from './hops.ts'
import { childrenOf, prefix, serving, start } from './process.ts'

const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
const megabyte = 1_048_576

interface Worker {
  readonly port: number
  /** Requests that reached the application. */
  readonly asked: () => number
  /** Bytes that the application could send. */
  readonly sent: () => number
  /** Resident, megabytes. */
  readonly memory: () => number
  /** Fails if the worker is another one, or does not serve. */
  check(): Promise<void>
}

/** `/stuck` is never read nor answered, `/much` answers with megabytes. */
async function worker(t: TestContext): Promise<Worker> {
  let asked = 0
  let sent = 0
  const app = http2.createServer()
  app.on('session', (session) => session.on('error', () => undefined))
  app.on('stream', (stream: http2.ServerHttp2Stream, headers) => {
    asked++
    stream.on('error', () => undefined)
    if (headers[':path'] === '/stuck') return
    stream.resume()
    stream.respond({ ':status': 200 })
    if (headers[':path'] !== '/much') {
      stream.end('hello')
      return
    }
    const chunk = Buffer.alloc(65_536)
    const more = (): void => {
      for (let i = 0; i < 64 && !stream.destroyed; i++) {
        sent += chunk.length
        if (!stream.write(chunk)) {
          stream.once('drain', more)
          return
        }
      }
    }
    more()
  })
  const port = await listen(t, app)
  const proxy = await start(t, prefix(t), port, { workers: 1 })
  await proxy.push.send({ type: 'snapshot', snapshot: serving(port) })
  const pids = (): string => childrenOf(proxy.process.pid!).join()
  await eventually(() => pids() !== '0', 'the worker')
  const first = pids()
  const call = async (): Promise<void> => {
    const session = http2.connect(`http://127.0.0.1:${proxy.inbound}`)
    session.on('error', () => undefined)
    t.after(() => session.destroy())
    const stream = session.request({ ':path': '/', ':authority': 'web' })
    const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders]
    assert.equal(headers[':status'], 200)
    stream.resume()
    await once(stream, 'end')
    session.close()
  }
  await call()
  asked = 0
  return {
    port: proxy.inbound,
    asked: () => asked,
    sent: () => sent,
    memory: () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${first}/status`, 'latin1'))![1]) / 1024,
    async check() {
      await call()
      assert.equal(pids(), first)
      assert.doesNotMatch(proxy.log(), /uncaught|"level":(50|60)/)
    },
  }
}

interface Attacker {
  readonly socket: net.Socket
  readonly closed: Promise<unknown>
  text: Buffer[]
}

function attack(
  t: TestContext,
  port: number,
  isReading = true,
  settings: Buffer = Buffer.alloc(0),
): Attacker {
  const socket = net.connect(port, '127.0.0.1')
  const text: Buffer[] = []
  t.after(() => socket.destroy())
  socket.on('error', () => undefined)
  const closed = once(socket, 'close').catch(() => undefined)
  if (isReading) socket.on('data', (bytes: Buffer) => text.push(bytes))
  else socket.pause()
  socket.write(Buffer.concat([preface, frame(Type.settings, 0, 0, settings)]))
  return { socket, closed, text }
}

test('rapid reset: the application hears of no more than the burst and the rate', async (t) => {
  const one = await worker(t)
  const attackers = 4
  const before = one.memory()
  const started = performance.now()
  await Promise.all(
    Array.from({ length: attackers }, async () => {
      const { socket, closed } = attack(t, one.port)
      for (let i = 0; i < 20_000 && !socket.destroyed; i += 100) {
        const pieces: Buffer[] = []
        for (let k = i; k < i + 100; k++)
          pieces.push(frame(1, whole, idOf(k), get), frame(Type.rstStream, 0, idOf(k), word(8)))
        if (!socket.write(Buffer.concat(pieces)))
          await Promise.race([once(socket, 'drain').catch(() => undefined), closed])
      }
      await closed
    }),
  )
  const seconds = (performance.now() - started) / 1000
  const { burst, perSecond } = defaultLimits.floods.resets
  assert.ok(
    one.asked() <= attackers * (burst + perSecond * seconds + 1),
    `${one.asked()} reached the application`,
  )
  await one.check()
  assert.ok(one.memory() < before + 60, `${one.memory()} MB after ${before}`)
  t.diagnostic(`${one.asked()} reached the application in ${seconds} s; ${before} → ${one.memory()} MB`)
})

test('a thousand streams whose bodies nobody reads, and as many whose answers nobody takes', async (t) => {
  const one = await worker(t)
  const before = one.memory()
  const stuck = Buffer.concat([field(':path', '/stuck')])
  const head = (path: Buffer): Buffer =>
    Buffer.concat([Buffer.from([0x83, 0x86]), path, Buffer.from([0x41, 3]), Buffer.from('web')])
  const body = attack(t, one.port)
  for (let i = 0; i < 1000; i++) body.socket.write(frame(1, Flag.endHeaders, idOf(i), head(stuck)))
  const data = Buffer.alloc(16_384)
  for (let round = 0; round < 16; round++) {
    for (let i = 0; i < 1000 && !body.socket.destroyed; i++) {
      if (!body.socket.write(frame(Type.data, 0, idOf(i), data)))
        await Promise.race([
          once(body.socket, 'drain').catch(() => undefined),
          new Promise((resolve) => setTimeout(resolve, 200)),
        ])
      if (body.socket.writableLength > megabyte) break
    }
  }
  const held = one.memory()
  const written = body.socket.bytesWritten - body.socket.writableLength
  body.socket.destroy()
  const mute = attack(t, one.port, false, Buffer.concat([Buffer.from([0, 4]), word(0x7fffffff)]))
  mute.socket.write(frame(Type.windowUpdate, 0, 0, word(0x7ffe0000)))
  const much = head(field(':path', '/much'))
  for (let i = 0; i < 1000; i++) mute.socket.write(frame(1, whole, idOf(i), much))
  await eventually(() => one.asked() > 500, 'requests')
  await new Promise((resolve) => setTimeout(resolve, 500))
  const most = one.memory()
  mute.socket.destroy()
  await one.check()
  t.diagnostic(
    `${before} MB, ${written / megabyte} MB taken of bodies: ${held} MB, answers ${one.sent() / megabyte} MB: ${most} MB`,
  )
  assert.ok(Math.max(held, most) < before + 400, `${held} and ${most} MB after ${before}`)
})

const floods: Record<string, Buffer> = {
  SETTINGS: frame(Type.settings, 0, 0),
  PING: frame(Type.ping, 0, 0, Buffer.alloc(8)),
  'WINDOW_UPDATE of the connection': frame(Type.windowUpdate, 0, 0, word(1)),
  'empty DATA': frame(Type.data, 0, 1),
}

test('floods of frames end their connection, read or not, and nothing else', async (t) => {
  const one = await worker(t)
  const before = one.memory()
  for (const [name, bytes] of Object.entries(floods)) {
    for (const isReading of [true, false]) {
      const { socket, closed } = attack(t, one.port, isReading)
      socket.write(frame(1, Flag.endHeaders, 1, post))
      const many = Buffer.concat(Array.from({ length: 2000 }, () => bytes))
      let rounds = 0
      while (!socket.destroyed && rounds++ < 50) {
        if (!socket.write(many))
          await Promise.race([
            once(socket, 'drain').catch(() => undefined),
            closed,
            new Promise((r) => setTimeout(r, 300)),
          ])
      }
      if (!isReading) socket.resume()
      await Promise.race([
        closed,
        new Promise((_resolve, reject) => {
          setTimeout(() => reject(new Error(`${name} was borne`)), 3000).unref()
        }),
      ])
    }
  }
  await one.check()
  assert.ok(one.memory() < before + 40, `${one.memory()} MB after ${before}`)
})
