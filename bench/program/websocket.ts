// WebSocket connections that each send a message, wait for it to come back, and send the next: arguments host, port, pids
// of the proxies, connections, bytes of a message, seconds. Opening them is not part of what is measured.
import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { cpu } from '../measure.ts'
import { Latencies } from './latency.ts'

const [host = '', port = '', pids = '', ...numbers] = process.argv.slice(2)
const [connections = 0, bytes = 0, seconds = 0] = numbers.map(Number)
const proxies = pids.split(',').filter(Boolean).map(Number)
const latencies = new Latencies()
const mask = randomBytes(4)
const payload = Buffer.alloc(bytes, 'w')
const question = Buffer.concat([
  Buffer.from([0x82, 0x80 | bytes]),
  mask,
  payload.map((byte, at) => byte ^ mask[at & 3]!),
])
const answer = Buffer.concat([Buffer.from([0x82, bytes]), payload])
const headEnd = Buffer.from('\r\n\r\n')
let isOver = false

class Client {
  readonly socket: Socket
  readonly opened: Promise<void>
  #open: (() => void) | null
  #sentAt = 0
  #rest: Buffer = Buffer.alloc(0)

  constructor() {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.opened = promise
    this.#open = resolve
    this.socket = connect({ host, port: Number(port), noDelay: true })
    this.socket.on('data', (chunk: Buffer) => this.#read(chunk))
    this.socket.on('error', fail)
    this.socket.on('close', () => fail(new Error('a connection was closed')))
    this.socket.write(
      `GET /echo HTTP/1.1\r\nhost: ${host}:${port}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n` +
        `sec-websocket-version: 13\r\nsec-websocket-key: ${randomBytes(16).toString('base64')}\r\n\r\n`,
    )
  }

  send(): void {
    this.#sentAt = performance.now()
    this.socket.write(question)
  }

  #read(chunk: Buffer): void {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    if (this.#open !== null) {
      const end = this.#rest.indexOf(headEnd)
      if (end < 0) return
      const head = this.#rest.latin1Slice(0, end)
      if (!head.startsWith('HTTP/1.1 101')) fail(new Error(`no upgrade: ${head}`))
      this.#rest = this.#rest.subarray(end + 4)
      this.#open()
      this.#open = null
    }
    if (this.#rest.length < answer.length) return
    if (!this.#rest.equals(answer)) fail(new Error('what came back is not what was sent'))
    this.#rest = this.#rest.subarray(answer.length)
    if (isOver) return
    latencies.add(performance.now() - this.#sentAt)
    this.send()
  }
}

function fail(error: Error): void {
  if (isOver) return
  console.error(error.message)
  process.exit(1)
}

const clients: Client[] = []
// Opened fifty at a time: a storm of connections is not what is measured.
while (clients.length < connections) {
  const some = Array.from({ length: Math.min(50, connections - clients.length) }, () => new Client())
  clients.push(...some)
  const late = setTimeout(() => fail(new Error('connections were not upgraded within 10 s')), 10_000)
  await Promise.all(some.map(({ opened }) => opened))
  clearTimeout(late)
}
const [before, began] = [cpu(proxies), performance.now()]
for (const client of clients) client.send()
setTimeout(() => {
  isOver = true
  const cpu_us = cpu(proxies) - before
  const elapsed = (performance.now() - began) / 1000
  console.log(JSON.stringify({ count: latencies.count, seconds: elapsed, ...latencies.summary(), cpu_us }))
  process.exit(0)
}, seconds * 1000)
