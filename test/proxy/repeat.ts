// The same request over and over, on connections that are kept, and an application that answers it.
import assert from 'node:assert/strict'
import net from 'node:net'
import type { TestContext } from 'node:test'
import { listen } from './hops.ts'

const request = Buffer.from(
  'GET /things/1?page=2 HTTP/1.1\r\nhost: web.default.mesh:8080\r\nuser-agent: cost\r\naccept: */*\r\n\r\n',
)
const body = 'x'.repeat(1024)
const answer = Buffer.from(
  `HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
)
const headEnd = Buffer.from('\r\n\r\n')

/** An application that answers whatever comes as one piece. */
export function application(t: TestContext): Promise<number> {
  return listen(
    t,
    net.createServer({ noDelay: true }, (socket) => {
      socket.on('data', (chunk: Buffer) => {
        if (chunk.includes(headEnd)) socket.write(answer)
      })
    }),
  )
}

/** So many requests over some connections at once; resolves when all are answered. */
export async function ask(
  t: TestContext,
  port: number,
  connections: number,
  requests: number,
): Promise<void> {
  let left = requests
  const one = (): Promise<void> => {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const socket = net.connect({ port, host: '127.0.0.1', noDelay: true })
    t.after(() => socket.destroy())
    let bytes = 0
    let size = 0
    const next = (): void => {
      if (left-- > 0) socket.write(request)
      else {
        socket.destroy()
        resolve()
      }
    }
    socket.on('error', reject)
    socket.on('connect', next)
    socket.on('data', (chunk: Buffer) => {
      if (size === 0) {
        const end = chunk.indexOf(headEnd)
        assert.ok(end > 0 && chunk.latin1Slice(0, 12) === 'HTTP/1.1 200', chunk.latin1Slice(0, 200))
        size = end + headEnd.length + body.length
      }
      bytes += chunk.length
      if (bytes < size) return
      bytes = size = 0
      next()
    })
    return promise
  }
  await Promise.all(Array.from({ length: connections }, one))
}
