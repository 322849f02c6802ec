// h2spec against a session on a socket, plain and TLS: all of its cases, the strict ones too.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import net from 'node:net'
import tls from 'node:tls'
import { suite, test } from 'node:test'
import { promisify } from 'node:util'
import { h2specBinary } from '../../../scripts/h2spec.ts'
import type { Stream } from '../../../src/wire/h2/stream.ts'
import { Authority } from '../../pki/authority.ts'
import { listen } from './socket.ts'
import type { SocketPeer } from './socket.ts'

const run = promisify(execFile)

/** Cases of h2spec 2.2.1, the last version that the module proxy has. */
const cases = 146

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

async function judge(port: number, ...options: string[]): Promise<void> {
  const args = ['--strict', '--port', String(port), '--timeout', '2', ...options]
  const { stdout } = await run(h2specBinary(), args, { maxBuffer: 2 ** 24 }).catch((error: unknown) => {
    // It ends with 1 where a case failed; the report says more than that.
    const { stdout: report } = error as { stdout: string }
    return { stdout: report }
  })
  const failures = stdout.slice(Math.max(0, stdout.indexOf('Failures:')))
  assert.match(stdout, new RegExp(`^${cases} tests, ${cases} passed, 0 skipped, 0 failed$`, 'm'), failures)
}

suite('h2spec', () => {
  test('plain', async (t) => {
    const server = await listen(net.createServer(), 'connection', greet)
    t.after(server.close)
    await judge(server.port)
  })

  test('TLS', async (t) => {
    const { chain, key } = new Authority().leaf('spiffe://demo.mesh/ns/default/sa/web', {
      names: ['127.0.0.1'],
    })
    const secure = tls.createServer({ cert: chain, key, ALPNProtocols: ['h2'] })
    const server = await listen(secure, 'secureConnection', greet)
    t.after(server.close)
    await judge(server.port, '--tls', '--insecure')
  })
})
