// Snapshots that come as what has changed: under load, refused, and with everything else left as it was.
import assert from 'node:assert/strict'
import http from 'node:http'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { clientSnapshot } from '../../bench/system/snapshot.ts'
import { MeshError } from '../../src/errors.ts'
import type { Core } from '../../src/proxy/core.ts'
import { Keep } from '../../src/proxy/keep.ts'
import { link } from '../../src/proxy/link.ts'
import type { Live } from '../../src/proxy/live.ts'
import { diff, patch } from '../../src/snapshot/change.ts'
import type { Change } from '../../src/snapshot/change.ts'
import type { Cluster, Route, Snapshot } from '../../src/snapshot/types.ts'
import { Authority, callerSnapshot, Caller, Client, Instance, listen } from './hops.ts'
import type { Calls } from './hops.ts'
import { Load } from './load.ts'

const authority = new Authority()

/** An instance, and how many connections its application was given. */
async function start(
  t: TestContext,
  text: string,
): Promise<{ instance: Instance; connections: () => number }> {
  let connections = 0
  const app = http.createServer((request, response) => {
    request.resume()
    request.on('end', () => response.end(text))
  })
  app.keepAliveTimeout = 60_000
  app.on('connection', () => connections++)
  const instance = await new Instance(t, await listen(t, app), { version: text }).start(authority)
  return { instance, connections: () => connections }
}

const to = (...instances: Instance[]): Calls => ({
  subsets: [{ name: '', weight: 1, endpoints: instances.map((instance) => instance.endpoint()) }],
})

/** Where the caller is, and how it gets elsewhere. */
class Config {
  #caller: Caller
  now: Snapshot

  constructor(caller: Caller, now: Snapshot) {
    this.#caller = caller
    this.now = now
    caller.engine.apply(now)
  }

  change(next: Snapshot): void {
    const change = JSON.parse(JSON.stringify(diff(this.now, next))) as Change
    this.#caller.engine.change(this.now.hash, change)
    this.now = next
  }
}

async function one(caller: Caller, path = '/'): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = http.request({ host: '127.0.0.1', port: caller.port, path, agent: false }, (response) => {
      let text = String(response.statusCode)
      response.on('data', (chunk) => (text += ` ${chunk}`))
      response.on('end', () => resolve(text))
    })
    request.on('error', reject)
    request.end()
  })
}

test('instances come and go under load: no request fails, and the last patch is in force', async (t) => {
  const first = (await start(t, 'one')).instance
  const second = (await start(t, 'two')).instance
  const caller = await new Caller(t).start(authority, to(first))
  const config = new Config(caller, callerSnapshot(to(first)))
  const load = new Load(t, caller.port)
  await load.more(50)
  for (let i = 0; i < 30; i++) {
    config.change(callerSnapshot(i % 3 === 0 ? to(first, second) : i % 3 === 1 ? to(second) : to(first)))
    await load.more(10)
  }
  config.change(callerSnapshot(to(second)))
  await load.stop()
  assert.deepEqual([...load.statuses.keys()], [200])
  assert.equal(await one(caller), '200 two')
  assert.deepEqual(
    caller.engine.endpoints().map(({ endpoint, active }) => [endpoint, active]),
    [[`127.0.0.1:${second.appPort}`, 0]],
  )
})

test('an endpoint that stays keeps its connections and its ejection, whatever comes and goes beside it', async (t) => {
  const { instance, connections } = await start(t, 'one')
  const dead = { ...instance.endpoint(), port: 1, linkPort: 1, host: 'dead' }
  const calls = (...more: object[]): Calls => ({
    subsets: [{ name: '', weight: 1, endpoints: [instance.endpoint(), dead, ...(more as (typeof dead)[])] }],
    cluster: { balancer: 'round-robin' },
  })
  const caller = await new Caller(t).start(authority, calls())
  const config = new Config(caller, callerSnapshot(calls()))
  for (let i = 0; i < 4; i++) assert.equal(await one(caller), '200 one')
  const ejected = () => caller.engine.endpoints().map((each) => each.ejected)
  assert.deepEqual(ejected(), [false, true])
  const before = connections()
  config.change(callerSnapshot(calls({ ...dead, port: 2, host: 'new' })))
  assert.deepEqual(ejected(), [false, true, false])
  config.change(callerSnapshot(calls()))
  assert.deepEqual(ejected(), [false, true])
  assert.equal(await one(caller), '200 one')
  assert.equal(connections(), before)
})

test('a patch that cannot be linked, or is for another snapshot, changes nothing', async (t) => {
  const { instance } = await start(t, 'one')
  const caller = await new Caller(t).start(authority, to(instance))
  const config = new Config(caller, callerSnapshot(to(instance)))
  const { now } = config
  const load = new Load(t, caller.port)
  await load.more(20)
  const [cluster] = now.clusters as [Cluster]
  const [service] = now.outbound
  const [port] = service!.ports
  const routes = (route: Partial<Route>): Snapshot => {
    const changed = port!.routes.map((old) => ({ ...old, ...route }))
    return { ...now, hash: 'bad', outbound: [{ ...service!, ports: [{ ...port!, routes: changed }] }] }
  }
  const regex = { kind: 'regex', value: '(' } as const
  const match = { path: regex, method: null, authority: null, headers: [], withoutHeaders: [] }
  const bad: Snapshot[] = [
    { ...now, hash: 'bad', identities: [] },
    { ...now, hash: 'bad', clusters: [] },
    // Two that share a name cannot both survive the next swap.
    { ...now, hash: 'bad', clusters: [{ ...cluster, endpoints: [] }, cluster] },
    { ...now, hash: 'bad', clusters: [{ ...cluster, endpoints: null as never }] },
    { ...routes({ clusters: [{ cluster: 1, weight: 1 }] }), clusters: [{ ...cluster, endpoints: [] }] },
    {
      ...routes({ matches: [{ ...match, queryParams: [], ignoreUriCase: false }] }),
      clusters: [{ ...cluster, endpoints: [] }],
    },
  ]
  const refused = (run: () => void): void =>
    assert.throws(run, (error: unknown) => error instanceof MeshError && error.code === 'MSH0701')
  for (const snapshot of bad) {
    const change = diff(now, snapshot)!
    refused(() => caller.engine.change(now.hash, change))
    assert.deepEqual(patch(now, change), snapshot)
    await load.more(10)
  }
  refused(() => caller.engine.change('another', { set: { hash: 'bad' } }))
  refused(() => caller.engine.change(now.hash, { lists: { clusters: [{ at: 7, change: {} }] } }))
  await load.more(10)
  await load.stop()
  assert.deepEqual([...load.statuses.keys()], [200])
  config.change(callerSnapshot(to(instance, instance)))
  assert.equal(await one(caller), '200 one')
})

test('routes and clusters that come before others leave the way of those as it was', async (t) => {
  const blue = (await start(t, 'blue')).instance
  const green = (await start(t, 'green')).instance
  const parts = (...names: ('blue' | 'green')[]): Calls => ({
    subsets: names.map((name) => ({
      name,
      weight: 1,
      endpoints: [(name === 'blue' ? blue : green).endpoint()],
    })),
    routes: (clusters) =>
      names.map((name) => ({
        ...callerSnapshot(to(blue)).outbound[0]!.ports[0]!.routes[0]!,
        name,
        clusters: [{ cluster: clusters.findIndex(({ subset }) => subset === name), weight: 1 }],
        matches: [
          {
            path: { kind: 'prefix', value: `/${name}` },
            method: null,
            authority: null,
            headers: [],
            withoutHeaders: [],
            queryParams: [],
            ignoreUriCase: false,
          },
        ],
      })),
  })
  const caller = await new Caller(t).start(authority, to(blue))
  const config = new Config(caller, callerSnapshot(parts('green')))
  assert.equal(await one(caller, '/green'), '200 green')
  assert.match(await one(caller, '/blue'), /^404/)
  config.change(callerSnapshot(parts('blue', 'green')))
  assert.equal(await one(caller, '/green'), '200 green')
  assert.equal(await one(caller, '/blue'), '200 blue')
  config.change(callerSnapshot(parts('blue')))
  assert.match(await one(caller, '/green'), /^404/)
  assert.equal(await one(caller, '/blue'), '200 blue')
  const client = new Client(t, caller.port).send('GET /blue HTTP/1.1\r\nHost: w\r\n\r\n')
  await client.untilText('blue')
  config.change({ ...callerSnapshot(parts('blue')), outbound: [], clusters: [] })
  client.send('GET /blue HTTP/1.1\r\nHost: w\r\n\r\n')
  await client.untilText('x-meshctl-reason: no_route')
  assert.deepEqual(caller.engine.endpoints(), [])
})

test('what did not change stays linked: all of it when an endpoint moves, every other route when one changes', () => {
  const large = clientSnapshot({
    protocol: 'http',
    backendPort: 8000,
    vip: '240.240.0.1',
    outboundPort: 15001,
    linkPort: 15008,
    instances: 1,
    others: { services: 5, routes: 10, endpoints: 20 },
  })
  const keep = new Keep()
  const core = { wheel: { cancel: () => undefined } } as unknown as Core
  const linked = (snapshot: Snapshot, before: Live | null): Live => {
    const { live, adopt } = link(core, keep, snapshot, before)
    adopt()
    return live
  }
  const first = linked(large, null)
  const health = keep.health()
  const cluster = large.clusters[3]!
  const moved = { ...cluster, endpoints: cluster.endpoints.with(0, { ...cluster.endpoints[0]!, port: 1 }) }
  const second = linked({ ...large, clusters: large.clusters.with(3, moved) }, first)
  assert.ok(second.outbound === first.outbound)
  assert.equal(keep.health().filter(({ endpoint }, at) => endpoint !== health[at]?.endpoint).length, 1)
  const service = large.outbound[2]!
  const routes = service.ports[0]!.routes.with(4, { ...service.ports[0]!.routes[4]!, timeout: 7 })
  const outbound = large.outbound.with(2, { ...service, ports: [{ ...service.ports[0]!, routes }] })
  const third = linked({ ...second.snapshot, outbound }, second)
  for (const [where, { target }] of third.linked.ports) {
    const before = second.linked.ports.get(where)!.target
    if (where !== `${service.fqdn}:${service.ports[0]!.port}`) assert.ok(target === before)
    else
      for (const [at, route] of target.routes.routes.entries())
        assert.equal(route === before.routes.routes[at], at !== 4)
  }
  // Chains are made for settings.
  const settings = { ...large.settings, accessLog: true }
  const fourth = linked({ ...third.snapshot, settings }, third)
  for (const [where, { target }] of fourth.linked.ports)
    assert.ok(target !== third.linked.ports.get(where)!.target)
})
