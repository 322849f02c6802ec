// HTTP/1.1 at a fixed rate: arguments host, port, requests per second, connections, seconds, pids of the proxies. A request that waits for its
// connection because the one before is not answered yet has that wait in its latency, so a stall is counted in full; how
// late our own timer was is not.
import { connect, type Socket } from 'node:net'
import { cpu } from '../measure.ts'
import { Latencies } from './latency.ts'

const [host = '', port = '', pids = '', ...numbers] = process.argv.slice(2)
const [rate = 0, connections = 0, seconds = 0] = numbers.map(Number)
const proxies = pids.split(',').filter(Boolean).map(Number)
const request = Buffer.from(`GET / HTTP/1.1\r\nhost: ${host}:${port}\r\n\r\n`)
const headEnd = Buffer.from('\r\n\r\n')
const latencies = new Latencies()

class Connection {
  readonly socket: Socket
  /** When the requests that have no answer yet were due, in order; only the first is on its way. */
  readonly #due: number[] = []
  #head: Buffer = Buffer.alloc(0)
  /** Bytes of the body that are to come, -1: the head is not whole. */
  #left = -1

  constructor() {
    this.socket = connect({ host, port: Number(port), noDelay: true })
    this.socket.on('data', (chunk: Buffer) => this.#read(chunk))
    this.socket.on('error', fail)
    this.socket.on('close', () => fail(new Error('a connection was closed')))
  }

  ask(now: number): void {
    this.#due.push(now)
    if (this.#due.length === 1) this.socket.write(request)
  }

  get waiting(): number {
    return this.#due.length
  }

  #read(chunk: Buffer): void {
    let body = chunk
    if (this.#left < 0) {
      this.#head = this.#head.length === 0 ? chunk : Buffer.concat([this.#head, chunk])
      const end = this.#head.indexOf(headEnd)
      if (end < 0) return
      const text = this.#head.latin1Slice(0, end)
      const length = /\ncontent-length: *(\d+)/i.exec(text)?.[1]
      if (!text.startsWith('HTTP/1.1 200') || length === undefined) {
        fail(new Error(`an answer that is not wanted: ${text}`))
        return
      }
      body = this.#head.subarray(end + 4)
      this.#left = Number(length)
      this.#head = Buffer.alloc(0)
    }
    this.#left -= body.length
    if (this.#left > 0) return
    this.#left = -1
    latencies.add(performance.now() - (this.#due.shift() ?? 0))
    if (this.#due.length > 0) this.socket.write(request)
  }
}

function fail(error: Error): void {
  console.error(error.message)
  process.exit(1)
}

const all = Array.from({ length: connections }, () => new Connection())
await Promise.all(all.map(({ socket }) => new Promise((resolve) => socket.once('connect', resolve))))
const [before, begin] = [cpu(proxies), performance.now()]
let sent = 0
const timer = setInterval(() => {
  const now = performance.now()
  const elapsed = Math.min(now - begin, seconds * 1000)
  for (; sent < (elapsed * rate) / 1000; sent++) all[sent % connections]?.ask(now)
  if (now - begin < seconds * 1000) return
  // What is on its way still counts.
  const isOver = all.every(({ waiting }) => waiting === 0)
  if (!isOver && now - begin < seconds * 1000 + 20_000) return
  if (!isOver) fail(new Error('requests were never answered'))
  clearInterval(timer)
  const cpu_us = cpu(proxies) - before
  console.log(JSON.stringify({ count: latencies.count, seconds, ...latencies.summary(), cpu_us }))
  process.exit(0)
}, 1)
