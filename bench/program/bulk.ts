// Bulk transfers: arguments host, port, pids of the proxies, connections up, connections down, seconds. What goes up counts
// when the server says that it came, what comes down when it is here; a MB is 1,000,000 bytes.
import { connect, type Socket } from 'node:net'
import { cpu } from '../measure.ts'

const [host = '', port = '', pids = '', up = '0', down = '0', seconds = '0'] = process.argv.slice(2)
const proxies = pids.split(',').filter(Boolean).map(Number)
const chunk = Buffer.alloc(262_144, 'b')
let isOver = false

/** Bytes that the server says it got, of one connection. */
async function send(): Promise<number> {
  const socket = await open('u')
  const { promise, resolve } = Promise.withResolvers<number>()
  let said = ''
  socket.on('data', (data: Buffer) => (said += data.toString()))
  socket.on('end', () => resolve(Number(said)))
  const pour = (): void => {
    while (!isOver && socket.write(chunk));
    // Its end has to arrive although the answer has yet to come: half-closed.
    if (isOver) socket.end()
    else socket.once('drain', pour)
  }
  pour()
  return promise
}

async function receive(): Promise<number> {
  const socket = await open('d')
  const { promise, resolve } = Promise.withResolvers<number>()
  let bytes = 0
  socket.on('data', (data: Buffer) => {
    bytes += data.length
    if (!isOver) return
    resolve(bytes)
    socket.destroy()
  })
  return promise
}

async function open(first: 'u' | 'd'): Promise<Socket> {
  const socket = connect({ host, port: Number(port), noDelay: true, allowHalfOpen: true })
  socket.on('error', fail)
  await new Promise((resolve) => socket.once('connect', resolve))
  socket.write(first)
  return socket
}

function fail(error: Error): void {
  console.error(error.message)
  process.exit(1)
}

const [before, began] = [cpu(proxies), performance.now()]
const transfers = [
  ...Array.from({ length: Number(up) }, () => send()),
  ...Array.from({ length: Number(down) }, () => receive()),
]
setTimeout(() => (isOver = true), Number(seconds) * 1000)
setTimeout(() => fail(new Error('a transfer did not end')), Number(seconds) * 1000 + 20_000).unref()
const bytes = (await Promise.all(transfers)).reduce((sum, each) => sum + each, 0)
const elapsed = (performance.now() - began) / 1000
const cpu_us = cpu(proxies) - before
if (transfers.length > 0 && !(bytes > 0)) fail(new Error('nothing arrived'))
console.log(
  JSON.stringify({ count: bytes / 1e6, seconds: elapsed, p50_ms: 0, p99_ms: 0, p999_ms: 0, cpu_us }),
)
process.exit(0)
