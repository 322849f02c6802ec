import assert from 'node:assert/strict'
import http from 'node:http'
import net from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import type { RouteMatch } from '../../src/snapshot/types.ts'
import { Authority, Caller, Client, eventually, Instance, listen } from './hops.ts'
import type { Calls } from './hops.ts'

const authority = new Authority()

async function version(t: TestContext, name: string): Promise<Instance> {
  const app = http.createServer((request, response) => {
    request.resume()
    response.end(name)
  })
  return new Instance(t, await listen(t, app), { version: name }).start(authority)
}

/** Sends requests one after the other over one connection, and gives the bodies or statuses. */
async function ask(port: number, options: http.RequestOptions & { body?: string }, agent?: http.Agent) {
  return new Promise<{ status: number; body: string; reason: string }>((resolve, reject) => {
    const request = http.request(
      { host: '127.0.0.1', port, ...(agent && { agent }), ...options },
      (response) => {
        let body = ''
        response.setEncoding('latin1')
        response.on('data', (chunk: string) => (body += chunk))
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            body,
            reason: String(response.headers['x-meshctl-reason'] ?? ''),
          }),
        )
        response.on('error', reject)
      },
    )
    request.on('error', reject)
    request.end(options.body)
  })
}

const none: RouteMatch = {
  path: null,
  method: null,
  authority: null,
  headers: [],
  withoutHeaders: [],
  queryParams: [],
  ignoreUriCase: false,
}

test('1,000 requests at 90/10 land within a percent', async (t) => {
  const v1 = await version(t, 'v1')
  const v2 = await version(t, 'v2')
  const caller = await new Caller(t).start(authority, {
    subsets: [
      { name: 'v1', weight: 90, endpoints: [v1.endpoint()] },
      { name: 'v2', weight: 10, endpoints: [v2.endpoint()] },
    ],
  })
  const agent = new http.Agent({ keepAlive: true, maxSockets: 8 })
  t.after(() => agent.destroy())
  const answers = await Promise.all(Array.from({ length: 1000 }, () => ask(caller.port, {}, agent)))
  const second = answers.filter(({ body }) => body === 'v2').length
  assert.ok(second >= 95 && second <= 105, `${second} of 1000`)
})

test('routes match by path, header, method and query; what matches nothing is a 404 that is logged', async (t) => {
  const v1 = await version(t, 'v1')
  const v2 = await version(t, 'v2')
  const route = (name: string, cluster: number, match: Partial<RouteMatch>) => ({
    name,
    matches: [{ ...none, ...match }],
    clusters: [{ cluster, weight: 1 }],
    timeout: 0,
    retry: { attempts: 0, perTryTimeout: 0, on: [], statuses: [], methods: [] },
  })
  const caller = await new Caller(t).start(authority, {
    subsets: [
      { name: 'v1', weight: 1, endpoints: [v1.endpoint()] },
      { name: 'v2', weight: 1, endpoints: [v2.endpoint()] },
    ],
    routes: () => [
      route('beta', 1, { headers: [{ name: 'x-user', match: { kind: 'exact', value: 'ann' } }] }),
      route('regex', 1, { path: { kind: 'regex', value: '/v[0-9]+/.*' } }),
      route('query', 1, { queryParams: [{ name: 'beta', match: { kind: 'exact', value: '1' } }] }),
      route('posts', 1, { method: { kind: 'exact', value: 'POST' }, path: { kind: 'prefix', value: '/p' } }),
      route('rest', 0, {
        path: { kind: 'prefix', value: '/' },
        withoutHeaders: [{ name: 'x-none', match: { kind: 'present', value: '' } }],
      }),
    ],
  })
  const cases: [http.RequestOptions, string][] = [
    [{ path: '/' }, 'v1'],
    [{ path: '/', headers: { 'X-User': 'ann' } }, 'v2'],
    [{ path: '/', headers: { 'X-User': 'anna' } }, 'v1'],
    [{ path: '/v22/x' }, 'v2'],
    [{ path: '/xv22/x' }, 'v1'],
    [{ path: '/x?beta=1' }, 'v2'],
    [{ path: '/x?beta=2' }, 'v1'],
    [{ path: '/p', method: 'POST' }, 'v2'],
    [{ path: '/p' }, 'v1'],
  ]
  for (const [options, want] of cases) {
    assert.equal((await ask(caller.port, options)).body, want, JSON.stringify(options))
  }
  const lost = await ask(caller.port, { path: '/', headers: { 'x-none': '1' } })
  assert.equal(lost.status, 404)
  assert.equal(lost.reason, 'no_route')
  await eventually(() => caller.lines.some((line) => line.flags === 'NR' && line.status === 404), 'the line')
})

test('a dead instance costs no request, whatever the method, and is not asked again', async (t) => {
  const good = await version(t, 'good')
  const gone = net.createServer()
  const port = await listen(t, gone)
  const dead = { ...good.endpoint(), port: 1, linkPort: port, version: 'dead' }
  await new Promise((resolve) => gone.close(resolve))
  const caller = await new Caller(t).start(authority, {
    subsets: [{ name: '', weight: 1, endpoints: [dead, good.endpoint()] }],
    cluster: { balancer: 'round-robin' },
    route: { retry: { attempts: 0, perTryTimeout: 0, on: [], statuses: [], methods: [] } },
  })
  for (let i = 0; i < 10; i++) {
    const answer = await ask(caller.port, { method: 'POST', body: 'pay', path: '/pay' })
    assert.deepEqual([answer.status, answer.body], [200, 'good'])
  }
  await eventually(() => caller.lines.length === 10, 'the lines')
  assert.equal(caller.lines.filter((line) => line.tries > 1).length, 1)
  assert.deepEqual(
    caller.engine.endpoints().map(({ ejected }) => ejected),
    [true, false],
  )
})

test('an app that died behind its live proxy costs no request either', async (t) => {
  const good = await version(t, 'good')
  const app = net.createServer()
  const port = await listen(t, app)
  const broken = await new Instance(t, port, { version: 'dead' }).start(authority)
  await new Promise((resolve) => app.close(resolve))
  const caller = await new Caller(t).start(authority, {
    subsets: [{ name: '', weight: 1, endpoints: [broken.endpoint(), good.endpoint()] }],
    cluster: { balancer: 'round-robin' },
    route: { retry: { attempts: 0, perTryTimeout: 0, on: [], statuses: [], methods: [] } },
  })
  for (let i = 0; i < 6; i++) {
    const answer = await ask(caller.port, { method: 'POST', body: 'pay' })
    assert.deepEqual([answer.status, answer.body], [200, 'good'])
  }
  await eventually(() => broken.lines[0]?.flags === 'UF', 'the line')
})

test('no instance left: 503 that says why', async (t) => {
  const app = net.createServer()
  const port = await listen(t, app)
  const only = await new Instance(t, port, {}).start(authority)
  await new Promise((resolve) => app.close(resolve))
  const caller = await new Caller(t).start(authority, {
    subsets: [{ name: 'v1', weight: 1, endpoints: [only.endpoint()] }],
  })
  const answer = await ask(caller.port, {})
  assert.equal(answer.status, 503)
  assert.equal(answer.reason, 'upstream_connect_failure')
  caller.apply({ subsets: [{ name: 'v1', weight: 1, endpoints: [] }] })
  const empty = await ask(caller.port, {})
  assert.equal(empty.status, 503)
  assert.equal(empty.reason, 'no_healthy_upstream')
  assert.match(empty.body, /web\.default \(v1\) has no healthy instance/)
  await eventually(() => caller.lines.some((line) => line.flags === 'UH'), 'the line')
})

interface Flaky {
  readonly instance: Instance
  readonly seen: string[]
}

/** Answers per request from a list: 'reset', a status, or never. */
async function flaky(t: TestContext, answers: readonly (string | number)[]): Promise<Flaky> {
  const seen: string[] = []
  const app = http.createServer((request, response) => {
    const what = answers[seen.length] ?? 200
    seen.push(`${request.method} ${request.url}`)
    if (what === 'reset') request.socket.resetAndDestroy()
    else if (what === 'never') request.resume()
    else response.writeHead(Number(what)).end(`status ${what}`)
  })
  return { seen, instance: await new Instance(t, await listen(t, app), {}).start(authority) }
}

const retrying = (retry: Partial<Calls['route'] & object>['retry']): Calls['route'] => ({ retry: retry! })

test('retries follow the policy, and a POST of which bytes have left is never sent twice', async (t) => {
  const policy = {
    attempts: 2,
    perTryTimeout: 0,
    on: ['reset', 'gateway-error', 'retriable-status-codes'],
    statuses: [418],
    methods: ['GET'],
  }
  const run = async (answers: (string | number)[], method: string) => {
    const { instance, seen } = await flaky(t, answers)
    const caller = await new Caller(t).start(authority, {
      subsets: [{ name: '', weight: 1, endpoints: [instance.endpoint()] }],
      route: retrying(policy)!,
    })
    const answer = await ask(caller.port, { method, ...(method === 'POST' && { body: 'once' }) })
    return { status: answer.status, seen: seen.length, reason: answer.reason }
  }
  assert.deepEqual(await run([502, 200], 'GET'), { status: 200, seen: 2, reason: '' })
  assert.deepEqual(await run([418, 502, 200], 'GET'), { status: 200, seen: 3, reason: '' })
  assert.deepEqual(await run([502, 502, 502], 'GET'), { status: 502, seen: 3, reason: '' })
  assert.deepEqual(await run([500, 200], 'GET'), { status: 500, seen: 1, reason: '' })
  assert.deepEqual(await run(['reset', 200], 'GET'), { status: 200, seen: 2, reason: '' })
  assert.deepEqual(await run([502, 200], 'POST'), { status: 502, seen: 1, reason: '' })
  const reset = await run(['reset', 200], 'POST')
  assert.deepEqual([reset.status, reset.seen], [503, 1])
  assert.equal(reset.reason, 'upstream_reset')
})

test('timeouts: of a try, which is tried again, and of the whole', async (t) => {
  const one = await flaky(t, ['never', 200])
  const caller = await new Caller(t).start(authority, {
    subsets: [{ name: '', weight: 1, endpoints: [one.instance.endpoint()] }],
    route: retrying({ attempts: 1, perTryTimeout: 60, on: ['reset'], statuses: [], methods: ['GET'] })!,
  })
  assert.equal((await ask(caller.port, {})).status, 200)
  assert.equal(one.seen.length, 2)
  const two = await flaky(t, ['never'])
  const slow = await new Caller(t).start(authority, {
    subsets: [{ name: '', weight: 1, endpoints: [two.instance.endpoint()] }],
    route: { timeout: 80 },
  })
  const answer = await ask(slow.port, {})
  assert.equal(answer.status, 504)
  assert.equal(answer.reason, 'upstream_timeout')
  assert.match(answer.body, /after 80 ms/)
  await eventually(() => slow.lines.some((line) => line.flags === 'UT'), 'the line')
})

test('retries have a budget: a service that only fails is not asked three times as often', async (t) => {
  const { instance, seen } = await flaky(
    t,
    Array.from({ length: 1000 }, () => 503),
  )
  const caller = await new Caller(t).start(authority, {
    subsets: [{ name: '', weight: 1, endpoints: [instance.endpoint()] }],
  })
  const agent = new http.Agent({ keepAlive: true, maxSockets: 100 })
  t.after(() => agent.destroy())
  await Promise.all(Array.from({ length: 100 }, () => ask(caller.port, {}, agent)))
  assert.ok(seen.length < 200, `${seen.length} requests for 100`)
})

test('too many waiting: 503 UO', async (t) => {
  const { instance } = await flaky(t, ['never', 'never', 'never', 'never'])
  const caller = await new Caller(t).start(authority, {
    subsets: [{ name: '', weight: 1, endpoints: [instance.endpoint()] }],
    cluster: { maxConnections: 1, maxPending: 1 },
  })
  const first = new Client(t, caller.port).send('GET /1 HTTP/1.1\r\nHost: w\r\n\r\n')
  await eventually(() => caller.engine.endpoints()[0]?.active === 1, 'the first')
  const second = new Client(t, caller.port).send('GET /2 HTTP/1.1\r\nHost: w\r\n\r\n')
  await eventually(() => caller.engine.endpoints()[0]?.active === 2, 'the second')
  const answer = await ask(caller.port, {})
  assert.equal(answer.status, 503)
  assert.equal(answer.reason, 'upstream_overflow')
  assert.equal(first.text + second.text, '')
  first.socket.resetAndDestroy()
  second.socket.resetAndDestroy()
  await eventually(() => caller.lines.filter((line) => line.flags === 'DC').length === 2, 'both lines')
  assert.equal(caller.engine.endpoints()[0]?.active, 0)
})

test('5xx in a row eject where the policy says so', async (t) => {
  const bad = await flaky(
    t,
    Array.from({ length: 100 }, () => 500),
  )
  const good = await version(t, 'good')
  const caller = await new Caller(t).start(authority, {
    subsets: [{ name: '', weight: 1, endpoints: [bad.instance.endpoint(), good.endpoint()] }],
    cluster: {
      balancer: 'round-robin',
      outlier: { consecutiveErrors: 3, baseEjection: 30_000, maxEjectionPercent: 50 },
    },
  })
  const statuses = []
  for (let i = 0; i < 20; i++) statuses.push((await ask(caller.port, {})).status)
  assert.equal(statuses.filter((status) => status === 500).length, 3)
})
