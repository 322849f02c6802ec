// Callers that ask for much and take nothing: they are given up after a while, and hold little until then.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import http2 from 'node:http2'
import net from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { Authority, Caller, eventually, Instance, listen } from './hops.ts'

const authority = new Authority()
const bytes = 50_000_000

/** Answers with more than anybody's buffers hold. */
async function way(t: TestContext, version: 1 | 2): Promise<{ caller: Caller; sent: () => number }> {
  let sent = 0
  const answer = (response: http.ServerResponse): void => {
    response.writeHead(200, { 'content-length': bytes })
    const chunk = Buffer.alloc(65_536)
    const more = (): void => {
      while (sent < bytes && !response.destroyed) {
        sent += chunk.length
        if (!response.write(chunk)) break
      }
    }
    response.on('drain', more)
    more()
  }
  const app =
    version === 1
      ? http.createServer((_request, response) => answer(response))
      : http2.createServer((_request, response) => answer(response as unknown as http.ServerResponse))
  const instance = await new Instance(t, await listen(t, app), {}).start(authority)
  const caller = await new Caller(t).start(authority, {
    subsets: [{ name: '', weight: 1, endpoints: [instance.endpoint()] }],
    settings: { idleTimeout: 1500 },
  })
  return { caller, sent: () => sent }
}

test('a caller of HTTP/1.1 that reads nothing is given up', async (t) => {
  const { caller, sent } = await way(t, 1)
  const socket = net.connect(caller.port, '127.0.0.1')
  t.after(() => socket.destroy())
  socket.on('error', () => {})
  await once(socket, 'connect')
  socket.pause()
  socket.write('GET /much HTTP/1.1\r\nHost: web\r\n\r\n')
  await eventually(() => caller.lines.some((line) => line.path === '/much'), 'the line')
  assert.equal(caller.lines.find((line) => line.path === '/much')?.flags, 'DC')
  assert.ok(sent() < bytes / 2, `${sent()} bytes were taken from the application`)
})

test('a stream without a window is given up, others of its connection go on', async (t) => {
  const { caller, sent } = await way(t, 2)
  const session = http2.connect(`http://127.0.0.1:${caller.port}`, { settings: { initialWindowSize: 0 } })
  t.after(() => session.destroy())
  session.on('error', () => {})
  const request = session.request({ ':path': '/much' })
  request.on('error', () => {})
  const [head] = (await once(request, 'response')) as [http2.IncomingHttpHeaders]
  assert.equal(head[':status'], 200)
  await once(request, 'close')
  assert.equal(request.rstCode, http2.constants.NGHTTP2_CANCEL)
  assert.ok(sent() < bytes / 2, `${sent()} bytes were taken from the application`)
  const next = session.request({ ':path': '/head', ':method': 'HEAD' })
  const [second] = (await once(next, 'response')) as [http2.IncomingHttpHeaders]
  assert.equal(second[':status'], 200)
  next.close()
})
