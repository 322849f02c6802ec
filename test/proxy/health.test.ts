// The health and metrics servers: what they answer, and to whom they do not.
import assert from 'node:assert/strict'
import { request } from 'node:http'
import { test } from 'node:test'
import { serveHealth, servePrometheus } from '../../src/proxy/health.ts'

const source = {
  isReady: true,
  live: 2,
  hash: 'abc',
  host: 'vm1',
  stats: () => Promise.resolve({ text: 'a 1\n' }),
}

function ask(
  port: number,
  path: string,
  options: { method?: string; host?: string } = {},
): Promise<[number, string]> {
  return new Promise((resolve, reject) => {
    const { method = 'GET', host = `127.0.0.1:${port}` } = options
    request({ port, path, method, headers: { host }, agent: false }, (response) => {
      let body = ''
      response.on('data', (chunk) => (body += chunk))
      response.on('end', () => resolve([response.statusCode ?? 0, body]))
    })
      .on('error', reject)
      .end()
  })
}

test('ready is 200 only when the source is ready', async (t) => {
  const state = { ...source }
  const server = await serveHealth(state, { host: '127.0.0.1', port: 0 })
  t.after(() => server.close())
  assert.deepEqual(await ask(server.port, '/healthz/ready'), [
    200,
    '{"ready":true,"workers":2,"snapshot":"abc"}\n',
  ])
  state.isReady = false
  assert.equal((await ask(server.port, '/healthz/ready'))[0], 503)
})

test('metrics are served at their path only, for reading only', async (t) => {
  const server = await servePrometheus(source, { host: '127.0.0.1', port: 0 })
  t.after(() => server.close())
  assert.deepEqual(await ask(server.port, '/metrics'), [200, 'a 1\n'])
  for (const path of [
    '/',
    '/metrics/',
    '/metrics?x',
    '/quitquitquit',
    '/healthz/ready',
    'http://127.0.0.1/metrics',
  ]) {
    assert.equal((await ask(server.port, path))[0], 404, path)
  }
  for (const method of ['POST', 'DELETE', 'OPTIONS'])
    assert.equal((await ask(server.port, '/metrics', { method }))[0], 405)
})

test('a name that is not ours is refused: DNS rebinding', async (t) => {
  const server = await servePrometheus(source, { host: '127.0.0.1', port: 0 })
  t.after(() => server.close())
  for (const host of [
    'evil.example',
    'evil.example:15090',
    'localhost.evil.example',
    '127.0.0.1.evil.example',
  ]) {
    assert.equal((await ask(server.port, '/metrics', { host }))[0], 421, host)
  }
  for (const host of ['localhost', 'LOCALHOST:1', '10.0.0.7:15090', '[::1]:15090', 'vm1', 'VM1:15090']) {
    assert.equal((await ask(server.port, '/metrics', { host }))[0], 200, host)
  }
})

test('a source that fails is a 500, not an end', async (t) => {
  const server = await servePrometheus(
    { ...source, stats: () => Promise.reject(new Error('no')) },
    { host: '127.0.0.1', port: 0 },
  )
  t.after(() => server.close())
  assert.equal((await ask(server.port, '/metrics'))[0], 500)
  assert.equal((await ask(server.port, '/metrics'))[0], 500)
})
