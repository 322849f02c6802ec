// The push socket: the agent's client against the proxy's server, and the server against garbage.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { MeshError } from '../../src/errors.ts'
import { makeLog } from '../../src/log.ts'
import { servePush } from '../../src/proxy/push.ts'
import { connectPush } from '../../src/snapshot/push.ts'
import type { Push, PushReply } from '../../src/snapshot/types.ts'
import { emptySnapshot } from './snapshots.ts'

async function serve(t: TestContext, handle: (push: Push) => Promise<PushReply>): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), 'push-'))
  const path = join(dir, 'proxy', 'proxy.sock')
  const server = await servePush(path, makeLog('test', 'silent'), handle)
  t.after(() => {
    server.close()
    rmSync(dir, { recursive: true })
  })
  return path
}

const echo = (push: Push): Promise<PushReply> =>
  Promise.resolve(
    push.type === 'snapshot'
      ? { type: 'applied', hash: push.snapshot.hash }
      : { type: 'pong', hash: push.type, workers: 1, version: '' },
  )

/** What the server says to raw bytes until it has said `lines` lines or closes. */
function say(path: string, bytes: string | Buffer, lines: number): Promise<PushReply[]> {
  return new Promise((resolve, reject) => {
    let text = ''
    const socket = connect(path, () => socket.write(bytes))
    const finish = (): void => {
      socket.destroy()
      resolve(
        text
          .split('\n')
          .slice(0, -1)
          .map((line) => JSON.parse(line) as PushReply),
      )
    }
    socket.on('data', (chunk) => {
      text += chunk.toString()
      if (text.split('\n').length > lines) finish()
    })
    socket.on('error', reject)
    socket.on('close', finish)
  })
}

test('messages are answered in order on one connection', async (t) => {
  let running = 0
  const path = await serve(t, async (push) => {
    assert.equal(++running, 1, 'one at a time')
    await new Promise((resolve) => setImmediate(resolve))
    running--
    return echo(push)
  })
  const push = connectPush(path)
  t.after(() => push.close())
  const snapshot = emptySnapshot('vm1')
  const replies = await Promise.all([
    push.send({ type: 'ping' }),
    push.send({ type: 'snapshot', snapshot }),
    push.send({ type: 'stats' }),
  ])
  assert.deepEqual(
    replies.map((reply) => ('hash' in reply ? reply.hash : '')),
    ['ping', snapshot.hash, 'stats'],
  )
})

test('the socket is for its owner alone, and a stale one is replaced', async (t) => {
  const path = await serve(t, echo)
  assert.equal(statSync(path).mode & 0o777, 0o600)
  const log = makeLog('test', 'silent')
  const dir = mkdtempSync(join(tmpdir(), 'stale-'))
  t.after(() => rmSync(dir, { recursive: true }))
  writeFileSync(join(dir, 'stale.sock'), '')
  const server = await servePush(join(dir, 'stale.sock'), log, echo)
  server.close()
})

test('garbage is answered with an error and the connection goes on', async (t) => {
  const path = await serve(t, echo)
  const garbage = [
    '{',
    '[]',
    'null',
    '{"type":"rm"}',
    '{"type":"snapshot"}',
    '{"type":"secrets","secrets":1}',
    '{"type":"drain"}',
  ]
  const replies = await say(path, `${garbage.join('\n')}\n{"type":"ping"}\n`, garbage.length + 1)
  assert.deepEqual(
    replies.map((reply) => reply.type),
    [...garbage.map(() => 'error'), 'pong'],
  )
})

test('a message in small pieces is read as one', async (t) => {
  const path = await serve(t, echo)
  const socket = connect(path)
  t.after(() => socket.destroy())
  const reply = new Promise<string>((resolve) => socket.once('data', (chunk) => resolve(chunk.toString())))
  for (const byte of '{"type":"ping"}\n') {
    socket.write(byte)
    await new Promise((resolve) => setImmediate(resolve))
  }
  assert.equal((JSON.parse(await reply) as PushReply).type, 'pong')
})

test('a message without end is refused at the limit', async (t) => {
  const path = await serve(t, echo)
  const [reply] = await say(path, Buffer.alloc(65 * 1024 * 1024, 'x'), 1)
  assert.match(JSON.stringify(reply), /longer than/)
})

test('a failure of the handler is an answer, not an end', async (t) => {
  const path = await serve(t, (push) => (push.type === 'ping' ? Promise.reject(new Error('no')) : echo(push)))
  const push = connectPush(path)
  t.after(() => push.close())
  assert.deepEqual(await push.send({ type: 'ping' }), { type: 'error', reason: 'no' })
  assert.equal((await push.send({ type: 'stats' })).type, 'pong')
})

test('the client says MSH0702 when there is no proxy, when it goes away and when it is silent', async (t) => {
  const unreachable = (error: unknown): boolean => error instanceof MeshError && error.code === 'MSH0702'
  await assert.rejects(connectPush('/nonexistent/proxy.sock').send({ type: 'ping' }), unreachable)
  const path = await serve(t, () => new Promise(() => undefined))
  await assert.rejects(connectPush(path).send({ type: 'ping' }, 50), unreachable)
  const push = connectPush(path)
  const waiting = push.send({ type: 'ping' })
  push.close()
  await assert.rejects(waiting, unreachable)
  await assert.rejects(push.send({ type: 'ping' }), unreachable)
})
