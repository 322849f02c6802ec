import assert from 'node:assert/strict'
import { createServer as createHttp } from 'node:http'
import { createServer, type AddressInfo } from 'node:net'
import { describe, test } from 'node:test'
import { Checks, type ServiceHealth } from '../../src/agent/checks.ts'
import { probe } from '../../src/agent/probe.ts'
import { FakeClock } from '../../src/clock.ts'
import { declared } from '../compile/mesh.ts'

const context = { timeoutMs: 500, runAs: null }
const listen = async (server: {
  listen: (port: number, host: string, done: () => void) => unknown
  address: () => unknown
}): Promise<number> => {
  await new Promise<void>((done) => void server.listen(0, '127.0.0.1', done))
  return (server.address() as AddressInfo).port
}

describe('probes', () => {
  test('http: 2xx passes, 429 warns, the rest is critical; method and headers are sent', async () => {
    const seen: string[] = []
    const server = createHttp((request, response) => {
      seen.push(`${request.method} ${String(request.headers['x-token'])}`)
      response.statusCode = Number(request.url?.slice(1))
      response.end('x'.repeat(100_000))
    })
    const at = `http://127.0.0.1:${await listen(server)}`
    assert.equal(
      (await probe({ http: `${at}/204`, method: 'HEAD', header: { 'X-Token': ['a'] } }, context)).status,
      'passing',
    )
    assert.equal((await probe({ http: `${at}/429` }, context)).status, 'warning')
    assert.equal((await probe({ http: `${at}/302` }, context)).status, 'critical')
    assert.match((await probe({ http: `${at}/503` }, context)).output, /503 Service Unavailable/)
    assert.equal(seen[0], 'HEAD a')
    await new Promise<void>((done) => void server.close(() => done()))
    assert.match((await probe({ http: `${at}/200` }, context)).output, /ECONNREFUSED/)
    assert.equal((await probe({ http: 'ftp://x' }, context)).status, 'critical')
  })

  test('http that never answers is critical at its timeout', async () => {
    const server = createServer()
    const port = await listen(server)
    const finding = await probe({ http: `http://127.0.0.1:${port}/` }, { timeoutMs: 30, runAs: null })
    assert.match(finding.output, /no answer within 30 ms/)
    server.close()
  })

  test('tcp', async () => {
    const server = createServer((socket) => socket.destroy())
    const port = await listen(server)
    assert.equal((await probe({ tcp: `localhost:${port}` }, context)).status, 'passing')
    await new Promise<void>((done) => void server.close(() => done()))
    assert.equal((await probe({ tcp: `127.0.0.1:${port}` }, context)).status, 'critical')
    assert.equal((await probe({ tcp: 'nonsense' }, context)).status, 'critical')
  })

  test('scripts: exit status 0, 1, other; killed with their children at the timeout; output is bounded', async () => {
    const sh = (script: string, timeoutMs: number = 2000): ReturnType<typeof probe> =>
      probe({ args: ['/bin/sh', '-c', script] }, { timeoutMs, runAs: null })
    assert.deepEqual(await sh('echo fine'), { status: 'passing', output: '/bin/sh: fine' })
    assert.equal((await sh('exit 1')).status, 'warning')
    assert.deepEqual(await sh('echo bad >&2; exit 2'), { status: 'critical', output: '/bin/sh: bad' })
    assert.match((await sh('sleep 60 & sleep 60', 50)).output, /not finished within 50 ms/)
    assert.ok((await sh('yes | head -c 100000')).output.length < 1100)
    assert.equal((await probe({ args: ['/no/such/program'] }, context)).status, 'critical')
  })

  test('a script does not see the environment of the agent', async () => {
    process.env['MESHCTL_SECRET_FOR_TEST'] = 'secret'
    const finding = await probe({ args: ['/usr/bin/env'] }, context)
    assert.ok(!finding.output.includes('secret'))
    delete process.env['MESHCTL_SECRET_FOR_TEST']
  })
})

describe('the state of a service', () => {
  test('one failure is forgiven, the second in a row counts, one pass brings it back', async () => {
    const server = createServer((socket) => socket.destroy())
    const port = await listen(server)
    const clock = new FakeClock()
    const changes: ServiceHealth[] = []
    let rounds = 0
    let located = Promise.withResolvers<void>()
    const checks = new Checks([declared('web', { port })], {
      clock,
      changed: (health) => changes.push(health),
      locate: async () => {
        rounds++
        located.resolve()
        return '127.0.0.1'
      },
    })
    assert.equal(checks.health()[0]?.status, 'critical')
    await checks.start()
    assert.equal(checks.health()[0]?.status, 'passing')
    const next = async (): Promise<void> => {
      const before = rounds
      located = Promise.withResolvers()
      // The timer is set when the round before has ended; until then advancing finds nothing.
      while (rounds === before) {
        clock.advance(5000)
        await new Promise((done) => void setImmediate(done))
      }
      await located.promise
    }
    const settled = async (wanted: string): Promise<void> => {
      while (checks.health()[0]?.status !== wanted) await new Promise((done) => void setImmediate(done))
    }
    await new Promise<void>((done) => void server.close(() => done()))
    const atClose = rounds
    await next()
    await next()
    await settled('critical')
    assert.equal(rounds - atClose, 2, 'the second failure in a row counts, not the first')
    await new Promise<void>((done) => void server.listen(port, '127.0.0.1', done))
    await next()
    await settled('passing')
    assert.deepEqual(
      changes.map((change) => change.status),
      ['passing', 'critical', 'passing'],
    )
    checks.stop()
    server.close()
  })

  test('a service that only calls is not checked', async () => {
    const checks = new Checks([declared('shop', { port: 0, servicePort: 0 })], {
      clock: new FakeClock(),
      changed: () => assert.fail('a change was told'),
      locate: () => assert.fail('it was looked for'),
    })
    await checks.start()
    assert.deepEqual(checks.health(), [])
    checks.stop()
  })

  test('the worst check counts, and a move of the application is told', async () => {
    const changes: ServiceHealth[] = []
    const web = declared('web', { checks: [{ args: ['/bin/true'] }, { args: ['/bin/sh', '-c', 'exit 1'] }] })
    const checks = new Checks(
      [web, declared('fixed', { id: 'fixed', bind: '10.9.9.9', checks: [{ args: ['true'] }] })],
      {
        changed: (health) => changes.push(health),
        locate: async () => '::1',
      },
    )
    await checks.start()
    checks.stop()
    assert.deepEqual(
      checks.health().map(({ status, address }) => [status, address]),
      [
        ['warning', '::1'],
        ['passing', '10.9.9.9'],
      ],
    )
  })
})
