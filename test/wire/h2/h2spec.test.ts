// h2spec against a server's session on a socket, plain and TLS, h2specd against a client's: all cases, the strict ones too.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import net from 'node:net'
import type { AddressInfo } from 'node:net'
import tls from 'node:tls'
import { suite, test } from 'node:test'
import { promisify } from 'node:util'
import { h2specBinary } from '../../../scripts/h2spec.ts'
import type { Stream } from '../../../src/wire/h2/stream.ts'
import { Authority } from '../../pki/authority.ts'
import { SocketPeer, listen } from './socket.ts'

const run = promisify(execFile)

/** Cases of version 2.2.1, the last one that the module proxy has, for servers and for clients. */
const serverCases = 146
const clientCases = 57

/** Answers every request with five bytes when all of it has come. */
function greet(peer: SocketPeer): void {
  const answer = (stream: Stream): void => {
    peer.respond(stream, 200, [['content-length', '5']], false)
    peer.write(stream, 'hello', true)
  }
  peer.onHeaders = (stream, isEnd) => {
    if (isEnd) answer(stream)
  }
  peer.onData = (stream, _, isEnd) => {
    if (isEnd) answer(stream)
  }
  peer.onTrailers = answer
}

async function judge(name: 'h2spec' | 'h2specd', cases: number, ...args: string[]): Promise<void> {
  const all = ['--strict', '--timeout', '2', ...args]
  const { stdout } = await run(h2specBinary(name), all, { maxBuffer: 2 ** 24 }).catch((error: unknown) => {
    // It ends with 1 where a case failed; the report says more than that.
    const { stdout: report } = error as { stdout: string }
    return { stdout: report }
  })
  const report = stdout.slice(Math.max(0, stdout.indexOf('Failures:')))
  assert.match(stdout, new RegExp(`^${cases} tests, ${cases} passed, 0 skipped, 0 failed$`, 'm'), report)
}

suite('h2spec', () => {
  test('plain', async (t) => {
    const server = await listen(net.createServer(), 'connection', greet)
    t.after(server.close)
    await judge('h2spec', serverCases, '--port', String(server.port))
  })

  test('TLS', async (t) => {
    const { chain, key } = new Authority().leaf('spiffe://demo.mesh/ns/default/sa/web', {
      names: ['127.0.0.1'],
    })
    const secure = tls.createServer({ cert: chain, key, ALPNProtocols: ['h2'] })
    const server = await listen(secure, 'secureConnection', greet)
    t.after(server.close)
    await judge('h2spec', serverCases, '--port', String(server.port), '--tls', '--insecure')
  })

  test('client', async (t) => {
    const callers = net.createServer({ allowHalfOpen: true }, (caller) => {
      caller.on('data', (url) => call(new URL(url.toString()), () => caller.end()))
    })
    callers.listen(0, '127.0.0.1')
    await once(callers, 'listening')
    t.after(() => callers.close())
    process.env['CALLER_PORT'] = String((callers.address() as AddressInfo).port)
    const from = await freePorts(clientCases)
    const exec = `${process.execPath} test/wire/h2/caller.ts`
    await judge('h2specd', clientCases, '--from-port', String(from), '--exec', exec)
  })
})

/** The first of so many free ports in a row, below those that the kernel gives to others. */
async function freePorts(count: number): Promise<number> {
  for (let from = 20_000 + (process.pid % 50) * 100; from < 30_000; from += 100) {
    const servers = Array.from({ length: count }, (_, i) => net.createServer().listen(from + i, '127.0.0.1'))
    const found = await Promise.allSettled(servers.map((server) => once(server, 'listening')))
    await Promise.all(
      servers.filter(({ listening }) => listening).map((server) => once(server.close(), 'close')),
    )
    if (found.every(({ status }) => status === 'fulfilled')) return from
  }
  throw new Error('no free ports below 30000')
}

/** One request, as far as the case lets it come. */
function call(url: URL, done: () => void): void {
  const socket = net.connect(Number(url.port), url.hostname, () => {
    const peer = new SocketPeer('client', socket)
    // h2specd says GOAWAY when it has seen what it wanted, or reads ours; it would then wait a second.
    peer.goingAway = () => socket.destroy()
    socket.on('finish', () => socket.destroy())
    peer.request()
  })
  socket.on('error', () => undefined)
  socket.on('close', done)
}
