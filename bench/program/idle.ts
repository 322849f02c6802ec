// Connections that ask once or a few times and then stay: arguments host, port, connections, requests on each. Says
// `ready` when all have their answers, and holds them until it is ended.
import { connect } from 'node:net'

const [host = '', port = '', ...numbers] = process.argv.slice(2)
const [connections = 0, requests = 0] = numbers.map(Number)
const request = `GET / HTTP/1.1\r\nhost: ${host}:${port}\r\n\r\n`

/** Resolves when all its requests are answered. */
function hold(): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const socket = connect({ host, port: Number(port), noDelay: true })
  let asked = 1
  let text = ''
  socket.on('error', fail)
  socket.on('close', () => fail(new Error('a connection was closed')))
  socket.on('data', (chunk: Buffer) => {
    text += chunk.latin1Slice()
    const end = text.indexOf('\r\n\r\n')
    const length = Number(/\ncontent-length: *(\d+)/i.exec(text)?.[1] ?? 0)
    if (end < 0 || text.length < end + 4 + length) return
    if (!text.startsWith('HTTP/1.1 200'))
      fail(new Error(`an answer that is not wanted: ${text.slice(0, end)}`))
    text = ''
    if (asked++ < requests) socket.write(request)
    else resolve()
  })
  socket.write(request)
  return promise
}

function fail(error: Error): void {
  console.error(error.message)
  process.exit(1)
}

// A few at a time, so that a handful of connections upstream is enough.
for (let opened = 0; opened < connections; opened += 10) {
  await Promise.all(Array.from({ length: Math.min(10, connections - opened) }, hold))
}
console.log('ready')
