// Registries that misbehave: the client comes back with a code, and soon.
import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { inspect } from 'node:util'
import { connectRegistry } from '../../src/registry/client.ts'
import type { Registry } from '../../src/registry/registry.ts'
import { code, configFor } from './place.ts'

const token = 'a-token-that-nobody-may-see'

/** A server that does `act` with every connection that has sent something. */
async function against(t: TestContext, act: (socket: Socket) => void, timeoutMs = 5000): Promise<Registry> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('data', () => act(socket))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const port = address !== null && typeof address === 'object' ? address.port : 0
  const registry = connectRegistry(configFor(`http://127.0.0.1:${port}`, { token }), { timeoutMs })
  t.after(() => {
    registry.close()
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return registry
}

const reply = (status: string, body: string, headers = '') =>
  `HTTP/1.1 ${status}\r\nContent-Length: ${Buffer.byteLength(body)}\r\nContent-Type: application/json\r\n${headers}\r\n${body}`

async function rejected(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => assert.fail('was answered'),
    (error: unknown) => error,
  )
}

test('silence ends at the deadline', async (t) => {
  const registry = await against(t, () => {}, 100)
  code('MSH0301')(await rejected(registry.get('a')))
  code('MSH0301')(await rejected(registry.get('a', { index: '5', waitMs: 100 })))
})

test('an answer that is cut off is noticed at once', async (t) => {
  const registry = await against(t, (socket) => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\nX-Consul-Index: 5\r\n\r\nhalf', () =>
      socket.destroy(),
    )
  })
  const began = performance.now()
  code('MSH0301')(await rejected(registry.get('a', { index: '1', waitMs: 60_000 })))
  assert.ok(performance.now() - began < 4000)
})

test('connections that are closed, and bytes that are no HTTP', async (t) => {
  const closing = await against(t, (socket) => socket.destroy())
  code('MSH0301')(await rejected(closing.get('a')))
  const babbling = await against(t, (socket) => socket.end('220 smtp ready\r\n'))
  code('MSH0301')(await rejected(babbling.get('a')))
})

test('answers of what is no registry', async (t) => {
  const index = 'X-Consul-Index: 7\r\n'
  for (const [body, headers, wanted] of [
    ['[]', '', 'MSH0303'],
    ['{}', 'X-Consul-Index: many\r\n', 'MSH0303'],
    ['not json', index, 'MSH0303'],
    ['[1,2]', index, 'MSH0303'],
    ['[{"Key":7}]', index, 'MSH0303'],
    ['[{"Key":"a","Value":"eA==","ModifyIndex":"x"}]', index, 'MSH0303'],
  ] as const) {
    const registry = await against(t, (socket) => socket.write(reply('200 OK', body, headers)))
    const error = await rejected(registry.list('a'))
    code(wanted)(error)
  }
})

test('statuses become codes', async (t) => {
  for (const [status, body, wanted] of [
    ['403 Forbidden', 'Permission denied', 'MSH0302'],
    ['401 Unauthorized', '', 'MSH0302'],
    ['500 Internal Server Error', 'rpc error making call: Permission denied', 'MSH0302'],
    ['500 Internal Server Error', 'No cluster leader', 'MSH0301'],
    ['503 Service Unavailable', '', 'MSH0301'],
    ['429 Too Many Requests', '', 'MSH0301'],
    ['500 Internal Server Error', 'Missing node registration', 'MSH0303'],
    ['400 Bad Request', 'no', 'MSH0303'],
    ['301 Moved Permanently', '', 'MSH0303'],
  ] as const) {
    const plain = reply(status, body).replace('application/json', 'text/plain')
    const registry = await against(t, (socket) => socket.write(plain))
    code(wanted)(await rejected(registry.put('a', 'b')))
  }
})

test('an index that went back, and an index of zero', async (t) => {
  const at = async (sent: string, asked: string) => {
    const registry = await against(t, (socket) =>
      socket.write(reply('200 OK', '[]', `X-Consul-Index: ${sent}\r\n`)),
    )
    return (await registry.list('a', { index: asked, waitMs: 10 })).index
  }
  assert.equal(await at('5', '9'), '0')
  assert.equal(await at('9', '5'), '9')
  assert.equal(await at('0', '0'), '1')
})

test('no error shows the token, and none shows control characters of the peer', async (t) => {
  const registry = await against(t, (socket) =>
    socket.write(reply('500 No', '\u001b[31mred\u0007'.repeat(100))),
  )
  for (const error of [
    await rejected(registry.put('a', 'b')),
    await rejected(registry.get('a')),
    await rejected(registry.transact([{ verb: 'set', key: 'a', value: 'b' }])),
    await rejected(registry.agentPass('service:x', 'passing', 'y')),
  ]) {
    code('MSH0303')(error)
    assert.ok(!inspect(error, { depth: 20, showHidden: true }).includes(token))
    const { message } = error as Error
    assert.ok(message.length < 500)
    // eslint-disable-next-line no-control-regex -- what is looked for are control characters
    assert.ok(!/[\u0000-\u001f]/.test(message))
  }
})
