// Hostile and clumsy clients: every one gets a clean refusal, and the server goes on.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { after, before, describe, test } from 'node:test'
import type { Embedded } from '../../../src/registry/embedded/server.ts'
import { embedded, eventually, managementToken } from '../place.ts'

describe('what the embedded registry refuses', () => {
  let server: Embedded
  before(async () => {
    server = await embedded({ requestTimeoutMs: 400, names: ['control.example'] })
  })
  after(() => server.close())

  const ask = (path: string, init: RequestInit = {}): Promise<Response> =>
    fetch(`http://127.0.0.1:${server.port}${path}`, {
      ...init,
      headers: { 'x-consul-token': managementToken, ...(init.headers as Record<string, string> | undefined) },
    })
  /** Writes bytes by hand and reads until the server closes. */
  const raw = (bytes: string, end = false): Promise<string> => {
    const { promise, resolve } = Promise.withResolvers<string>()
    const socket = connect(server.port, '127.0.0.1', () => (end ? socket.end(bytes) : socket.write(bytes)))
    let text = ''
    socket.setEncoding('latin1')
    socket.on('data', (chunk: string) => (text += chunk))
    socket.on('error', () => {})
    socket.on('close', () => resolve(text))
    return promise
  }
  const statusOf = (text: string): number => Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0)
  const head = (host: string): string =>
    `GET /v1/status/leader HTTP/1.1\r\nHost: ${host}\r\nX-Consul-Token: ${managementToken}\r\nConnection: close\r\n\r\n`

  test('names that are not its own (DNS rebinding), and pages of other sites', async () => {
    for (const host of [
      'evil.example',
      'evil.example:8500',
      '',
      '127.0.0.1.evil.example',
      'localhost.evil',
    ]) {
      assert.ok([400, 421].includes(statusOf(await raw(head(host)))), host)
    }
    for (const host of ['127.0.0.1', 'localhost:8500', '[::1]:15011', '10.1.2.3', 'Control.Example:15011']) {
      assert.equal(statusOf(await raw(head(host))), 200, host)
    }
    const foreign = await ask('/v1/status/leader', { headers: { origin: 'https://evil.example' } })
    assert.equal(foreign.status, 403)
  })

  test('paths, methods and queries that make no sense', async () => {
    const cases: [string, RequestInit, number][] = [
      ['/', {}, 404],
      ['/v1/nothing', {}, 404],
      ['/v1/catalog/nodes/', {}, 404],
      ['/v2/kv/a', {}, 404],
      ['/v1/kv/%zz', {}, 400],
      ['/v1/kv/%ff', {}, 400],
      ['/v1/kv/a%00b', {}, 400],
      [`/v1/kv/${'x'.repeat(3000)}`, {}, 400],
      ['/v1/kv/', {}, 400],
      ['/v1/kv/', { method: 'PUT', body: 'x' }, 400],
      ['/v1/kv/', { method: 'DELETE' }, 400],
      ['/v1/kv/a', { method: 'POST', body: 'x' }, 405],
      ['/v1/catalog/nodes', { method: 'DELETE' }, 405],
      ['/v1/kv/a?cas=zz', { method: 'PUT', body: 'x' }, 400],
      ['/v1/kv/a?cas=-1', { method: 'PUT', body: 'x' }, 400],
      ['/v1/kv/a?cas=99999999999999999999', { method: 'PUT', body: 'x' }, 400],
      ['/v1/kv/a?cas=0&acquire=x', { method: 'PUT', body: 'x' }, 400],
      ['/v1/catalog/nodes?index=abc', {}, 400],
      ['/v1/catalog/nodes?index=1&wait=abc', {}, 400],
      ['/v1/catalog/nodes?index=1&wait=10', {}, 400],
      ['/v1/catalog/nodes?filter=x', {}, 400],
      ['/v1/catalog/nodes?near=x', {}, 400],
      ['/v1/catalog/nodes?dc=elsewhere', {}, 400],
      [`/v1/catalog/nodes?token=${managementToken}`, {}, 400],
      ['/v1/catalog/service/', {}, 400],
      ['/v1/health/service/', {}, 400],
      ['/v1/health/service/x?passing=maybe', {}, 400],
      ['/v1/health/state/strange', {}, 400],
      ['/v1/session/info/short', {}, 400],
    ]
    for (const [path, init, status] of cases) {
      const answer = await ask(path, init)
      assert.equal(
        answer.status,
        status,
        `${init.method ?? 'GET'} ${path.slice(0, 60)}: ${await answer.text()}`,
      )
    }
  })

  test('bodies that are no JSON, or JSON of another shape', async () => {
    const put = async (path: string, body: string) => (await ask(path, { method: 'PUT', body })).status
    for (const body of ['', '{', '[]', 'null', '"x"', '1', '{"Node":7}', '{"Node":{}}', '\u0000']) {
      const status = await put('/v1/catalog/register', body)
      assert.ok(status >= 400 && status < 500, `register ${body}: ${status}`)
    }
    const node = '"Node":"vm1","Address":"10.0.0.1"'
    for (const body of [
      `{${node},"Service":[]}`,
      `{${node},"Service":{"Service":"web","Port":"80"}}`,
      `{${node},"Service":{"Service":"web","Port":99999}}`,
      `{${node},"Service":{"Service":"web","Tags":[1]}}`,
      `{${node},"Service":{"Service":"web","Meta":{"a":1}}}`,
      `{${node},"Service":{"Service":"web","Connect":{"Native":true}}}`,
      `{${node},"Check":{"CheckID":"a","Node":"vm2"}}`,
      `{${node},"Check":{}}`,
      `{${node},"Checks":{}}`,
    ]) {
      assert.equal(await put('/v1/catalog/register', body), 400, body)
    }
    for (const body of [
      '{}',
      'x',
      '[{}]',
      '[{"KV":{"Verb":"set","Key":"a","Value":"***"}}]',
      '[{"KV":[]}]',
      '[1]',
    ]) {
      assert.equal(await put('/v1/txn', body), 400, body)
    }
    assert.equal(await put('/v1/session/create', '{"TTL":"soon"}'), 400)
    assert.equal(await put('/v1/session/create', '{"LockDelay":{}}'), 400)
    assert.equal(await put('/v1/agent/service/register', '{"Name":"x","Check":{"HTTP":"http://x"}}'), 400)
    const nodes = (await (await ask('/v1/catalog/nodes')).json()) as { Node: string }[]
    assert.ok(!nodes.some(({ Node }) => Node === 'vm1'), 'a refused registration leaves nothing behind')
  })

  test('bodies that are too large, said or unsaid', async () => {
    const full = await ask('/v1/kv/full', { method: 'PUT', body: 'x'.repeat(512 * 1024) })
    assert.equal(full.status, 200, 'the largest value that Consul takes')
    const start = `PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nX-Consul-Token: ${managementToken}\r\n`
    assert.equal(statusOf(await raw(`${start}Content-Length: 600000\r\n\r\nx`)), 413)
    const chunk = `10000\r\n${'x'.repeat(0x10000)}\r\n`
    assert.equal(statusOf(await raw(`${start}Transfer-Encoding: chunked\r\n\r\n${chunk.repeat(9)}`)), 413)
  })

  test('slow senders of heads and bodies', async () => {
    const start = `PUT /v1/kv/slow HTTP/1.1\r\nHost: localhost\r\nX-Consul-Token: ${managementToken}\r\n`
    assert.ok([0, 408].includes(statusOf(await raw('GET /v1/sta'))))
    assert.ok([0, 400, 408].includes(statusOf(await raw(`${start}Content-Length: 10\r\n\r\nx`))))
    assert.equal((await ask('/v1/kv/slow')).status, 404, 'half a body is no value')
    assert.ok([0, 400].includes(statusOf(await raw(`${start}Content-Length: 10\r\n\r\nhalf`, true))))
    assert.equal((await ask('/v1/kv/slow')).status, 404)
  })

  test('bytes that are no HTTP, and heads that are too long', async () => {
    assert.ok([0, 400].includes(statusOf(await raw('\x16\x03\x01\x02\x00\x01hello'))))
    assert.equal(statusOf(await raw('GET / HTTP/9.9\r\n\r\n')), 400)
    assert.equal(
      statusOf(await raw(`GET /v1/kv/a HTTP/1.1\r\nHost: x\r\nA: ${'x'.repeat(40_000)}\r\n\r\n`)),
      431,
    )
    assert.equal((await ask('/v1/status/leader')).status, 200)
  })

  test('one address cannot take all places without a token', async (t) => {
    const small = await embedded({ maxStrangers: 4 })
    const sockets: Socket[] = []
    t.after(() => {
      for (const socket of sockets) socket.destroy()
      return small.close()
    })
    const open = async (bytes: string): Promise<boolean> => {
      const socket = connect(small.port, '127.0.0.1', () => socket.write(bytes))
      sockets.push(socket)
      return await new Promise((resolve) => {
        socket.once('data', () => resolve(true))
        socket.on('error', () => resolve(false))
        socket.once('close', () => resolve(false))
      })
    }
    const ask = 'GET /v1/status/leader HTTP/1.1\r\nHost: localhost\r\n'
    const answers: boolean[] = []
    for (let at = 0; at < 8; at++)
      answers.push(await open(`${ask}X-Consul-Token: ${managementToken}\r\n\r\n`))
    assert.ok(answers.every(Boolean), 'whoever has one takes no place')
    for (let at = 0; at < 6; at++) answers.push(await open(`${ask}\r\n`))
    assert.deepEqual(answers.slice(8), [true, true, true, true, false, false])
    sockets[8]?.destroy()
    await eventually(() => open(`${ask}\r\n`), 'a place is free again')
  })

  test('one host cannot take all places with its token', async (t) => {
    const small = await embedded({ maxPerHost: 3 })
    const token = await small.createToken({ host: 'vm1', mesh: 'demo' })
    const other = await small.createToken({ host: 'vm2', mesh: 'demo' })
    const sockets: Socket[] = []
    t.after(() => {
      for (const socket of sockets) socket.destroy()
      return small.close()
    })
    const ask = async (shown: string): Promise<number> => {
      const socket = connect(small.port, '127.0.0.1')
      sockets.push(socket)
      socket.write(`GET /v1/status/leader HTTP/1.1\r\nHost: localhost\r\nX-Consul-Token: ${shown}\r\n\r\n`)
      const [chunk] = (await once(socket, 'data')) as [Buffer]
      return statusOf(chunk.toString('latin1'))
    }
    const statuses: number[] = []
    for (const shown of [token, token, token, token, other]) statuses.push(await ask(shown))
    assert.deepEqual(statuses, [200, 200, 200, 429, 200])
    for (const socket of sockets) socket.destroy()
    await eventually(async () => (await ask(token)) === 200, 'a place is free again')
  })

  test('the body of who has no token is not kept', async () => {
    const start = 'PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500000\r\n\r\n'
    // Refused before it came.
    assert.equal(statusOf(await raw(start)), 403)
  })

  test('who goes away while waiting is forgotten', async () => {
    const abort = new AbortController()
    const seen = await ask('/v1/catalog/nodes')
    const index = seen.headers.get('x-consul-index') ?? ''
    const waiting = ask(`/v1/catalog/nodes?index=${index}&wait=60s`, { signal: abort.signal })
    await eventually(() => server.waiting() === 1, 'it waits')
    abort.abort()
    await assert.rejects(waiting)
    await eventually(() => server.waiting() === 0, 'it is forgotten')
  })

  test('an index from the future is answered, so that its owner starts anew', async () => {
    const answer = await ask('/v1/catalog/nodes?index=999999&wait=60s')
    assert.ok(Number(answer.headers.get('x-consul-index')) < 999_999)
  })
})
