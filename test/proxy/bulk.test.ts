// One gigabyte through two hops and back again, whole, while the memory of the process stays what it was.
import assert from 'node:assert/strict'
import http from 'node:http'
import http2 from 'node:http2'
import { test } from 'node:test'
import { crc32 } from 'node:zlib'
import { session2, wayTo } from './way.ts'

const gigabyte = 1024 * 1024 * 1024
const piece = 1024 * 1024
/** Both hops, the caller and the application are in this process. */
const mostGrowth = 200_000_000

interface Pipe {
  write(chunk: Buffer): boolean
  end(): unknown
  on(event: 'drain', listener: () => void): unknown
}

interface Source {
  on(event: 'data', listener: (chunk: Buffer) => void): unknown
  on(event: 'end', listener: () => void): unknown
}

/** Sends it, no two pieces alike; returns its checksum. */
async function send(to: Pipe, whole: number): Promise<number> {
  const buffers = Array.from({ length: 8 }, (_, i) => Buffer.alloc(piece, i))
  let sum = 0
  let sent = 0
  await new Promise<void>((resolve) => {
    const more = (): void => {
      while (sent < whole) {
        // Written once all that is before it has left: by then nobody holds it any more.
        const chunk = buffers[(sent / piece) % buffers.length]!
        chunk.writeUInt32LE(sent / piece, 0)
        sum = crc32(chunk, sum)
        sent += piece
        if (!to.write(chunk)) return
      }
      to.end()
      resolve()
    }
    to.on('drain', more)
    more()
  })
  return sum
}

async function receive(from: Source): Promise<{ bytes: number; sum: number }> {
  let bytes = 0
  let sum = 0
  from.on('data', (chunk) => {
    bytes += chunk.length
    sum = crc32(chunk, sum)
  })
  await new Promise<void>((resolve) => from.on('end', resolve))
  return { bytes, sum }
}

/** The most memory that the process had beyond what it had at first. */
function watch(t: { after(f: () => void): void }): () => number {
  const first = process.memoryUsage.rss()
  let most = 0
  const timer = setInterval(() => (most = Math.max(most, process.memoryUsage.rss() - first)), 50)
  t.after(() => clearInterval(timer))
  return () => most
}

test('a gigabyte there and back in HTTP/1.1', async (t) => {
  const way = await wayTo(
    t,
    http.createServer((request, response) => request.pipe(response)),
  )
  const growth = watch(t)
  const request = http.request({
    port: way.port,
    host: '127.0.0.1',
    method: 'POST',
    headers: { 'content-length': gigabyte },
  })
  const response = new Promise<http.IncomingMessage>((resolve, reject) => {
    request.on('response', resolve)
    request.on('error', reject)
  })
  const sent = send(request, gigabyte)
  const received = await receive(await response)
  assert.deepEqual(received, { bytes: gigabyte, sum: await sent })
  assert.ok(growth() < mostGrowth, `${growth()} bytes more`)
  t.diagnostic(`${Math.round(growth() / 1e6)} MB more at most`)
})

test('a quarter of it there and back in HTTP/2', async (t) => {
  const echo = http2.createServer()
  echo.on('stream', (stream: http2.ServerHttp2Stream) => {
    stream.respond({ ':status': 200 })
    stream.pipe(stream)
  })
  const way = await wayTo(t, echo, { protocol: 'http2' })
  const growth = watch(t)
  const stream = session2(t, way.port).request({ ':method': 'POST', ':path': '/', ':authority': 'web' })
  const sent = send(stream, gigabyte / 4)
  const received = await receive(stream)
  assert.deepEqual(received, { bytes: gigabyte / 4, sum: await sent })
  assert.ok(growth() < mostGrowth, `${growth()} bytes more`)
  t.diagnostic(`${Math.round(growth() / 1e6)} MB more at most`)
})
