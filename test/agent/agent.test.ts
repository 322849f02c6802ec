import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, test } from 'node:test'
import { decode, encode } from 'dns-packet'
import { askAgent } from '../../src/agent/socket.ts'
import { connectRegistry } from '../../src/registry/client.ts'
import { keys, type HostReport } from '../../src/registry/registry.ts'
import { claim } from '../../src/registry/vip.ts'
import type { Snapshot } from '../../src/snapshot/types.ts'
import { declared, destinationRule, subsets, virtualService } from '../compile/mesh.ts'
import { managementToken, until, World } from './running.ts'

let world: World

afterEach(() => world.end())

async function dns(port: number, name: string): Promise<string[]> {
  const socket = createSocket('udp4')
  const reply = new Promise<Buffer>((done) => void socket.once('message', done))
  socket.send(
    encode({ type: 'query', id: 1, questions: [{ name, type: 'A', class: 'IN' }] }),
    port,
    '127.0.0.1',
  )
  const packet = decode(await reply)
  socket.close()
  return (packet.answers ?? []).map((answer) => (answer.type === 'A' ? answer.data : answer.type))
}

/** Another host's instance, put into the registry as its agent would. */
async function foreign(
  service: string,
  node: string,
  version: string,
  status: 'passing' | 'critical' = 'passing',
): Promise<void> {
  const address = `10.0.0.${node.slice(2)}`
  await claim(world.registry, 'demo', 'default', service)
  await world.registry.register(
    {
      node,
      address,
      id: service,
      service,
      port: 8080,
      tags: [],
      meta: {
        'meshctl-mesh': 'demo',
        'meshctl-namespace': 'default',
        'meshctl-host': node,
        'meshctl-protocol': 'http',
        'meshctl-service-port': '8080',
        'meshctl-link-port': '15008',
        version,
      },
    },
    { status, output: '' },
  )
}

const put = (object: object): Promise<void> => {
  const { kind, metadata } = object as { kind: string; metadata: { namespace: string; name: string } }
  return world.registry.put(
    keys.resource('demo', kind, metadata.namespace, metadata.name),
    JSON.stringify(object),
  )
}

const hosts = (snapshot: Snapshot | undefined, cluster: string): string[] =>
  snapshot?.clusters.find(({ name }) => name === cluster)?.endpoints.map(({ host }) => host) ?? []

const start = async (): Promise<Awaited<ReturnType<World['app']>>> => {
  world = await World.make()
  const app = await world.app()
  await world.declare([declared('web', { port: app.port })])
  await world.proxy.start(world.place.paths.proxySocket)
  return app
}

describe('an agent with everything there', () => {
  test('registers, compiles, pushes, answers DNS and reports; changes arrive by themselves', async () => {
    const app = await start()
    await foreign('api', 'vm2', 'v1')
    const agent = await world.start()
    const web = await until('web registered', async () => (await world.registry.instances('web')).value[0])
    assert.deepEqual(
      [web.node, web.port, web.passing, web.meta['meshctl-service-port']],
      ['vm1', app.port, true, '8080'],
    )

    const both = await until('both services in the snapshot', () =>
      world.proxy.snapshots.find(
        ({ outbound }) => outbound.length === 2 && outbound.every(({ ports }) => ports.length > 0),
      ),
    )
    const [secrets] = world.proxy.secrets
    assert.deepEqual(
      secrets?.leafs.map(({ spiffe }) => spiffe),
      ['spiffe://demo.mesh/host/vm1', 'spiffe://demo.mesh/ns/default/sa/web'],
    )
    assert.equal(both.inbound[0]?.port, app.port)
    const vip = both.outbound.find(({ service }) => service === 'api')?.vip ?? ''
    assert.match(vip, /^240\.240\./)
    assert.deepEqual(await dns(agent.dnsPort, 'api.default.mesh'), [vip])

    // Another version comes, and a split.
    await foreign('api', 'vm3', 'v2')
    await put(destinationRule('api', { host: 'api', subsets }))
    const route = [
      { destination: { host: 'api', subset: 'v1' }, weight: 90 },
      { destination: { host: 'api', subset: 'v2' }, weight: 10 },
    ]
    await put(virtualService('api', { hosts: ['api'], http: [{ route }] }))
    await until('the split', () =>
      hosts(world.proxy.snapshots.at(-1), 'outbound|8080|v2|api.default.mesh').includes('vm3'),
    )
    await foreign('api', 'vm3', 'v2', 'critical')
    await until(
      'vm3 left out',
      () => hosts(world.proxy.snapshots.at(-1), 'outbound|8080|v2|api.default.mesh').length === 0,
    )

    const report = await until('a report that says ok', async () => {
      const { value } = await world.registry.get(`${keys.reports('demo')}vm1`)
      const said = JSON.parse(value?.value ?? 'null') as HostReport | null
      return said?.proxy === 'ok' &&
        said.services[0]?.status === 'passing' &&
        said.snapshot === world.proxy.hash
        ? said
        : null
    })
    assert.deepEqual([report.host, report.capture, report.dns, report.problems], ['vm1', 'off', 'ok', []])
    const lease = await world.registry.get(`${keys.leases('demo')}vm1`)
    assert.match(lease.value?.value ?? '', /"sequence":/)
  })

  test('what the proxy boots with is on its disk, 0600, before it is pushed', async () => {
    await start()
    await world.start()
    await until('a snapshot', () => world.proxy.snapshots.length > 0)
    const { proxyState } = world.place.paths
    for (const name of ['snapshot.json', 'secrets.json']) {
      assert.equal(statSync(join(proxyState, name)).mode & 0o777, 0o600)
    }
    const saved = JSON.parse(readFileSync(join(proxyState, 'snapshot.json'), 'utf8')) as Snapshot
    await until(
      'the newest one saved',
      () => saved.hash === world.proxy.hash || world.proxy.snapshots.some(({ hash }) => hash === saved.hash),
    )
    assert.ok(!readFileSync(join(proxyState, 'snapshot.json'), 'utf8').includes('PRIVATE KEY'))
  })

  test('an application that stops is critical in the registry and out of the own snapshot', async () => {
    const app = await start()
    const web = declared('web', {
      port: app.port,
      checks: [{ tcp: `127.0.0.1:${app.port}`, interval: '20ms' }],
    })
    world.config = { ...world.config, services: [web] }
    await world.start()
    await until('web in the snapshot', () =>
      hosts(world.proxy.snapshots.at(-1), 'outbound|8080||web.default.mesh').includes('vm1'),
    )
    await new Promise<void>((done) => void app.server.close(() => done()))
    await until('critical', async () => (await world.registry.instances('web')).value[0]?.passing === false)
    await until(
      'left out',
      () => hosts(world.proxy.snapshots.at(-1), 'outbound|8080||web.default.mesh').length === 0,
    )
    await new Promise<void>((done) => void app.server.listen(app.port, '127.0.0.1', done))
    await until('back', async () => (await world.registry.instances('web')).value[0]?.passing === true)
  })

  test('a service that vanished from the registry is put back', async () => {
    await start()
    await world.start()
    await until('registered', async () => (await world.registry.instances('web')).value.length === 1)
    await world.registry.deregister('vm1', 'web')
    await until(
      'registered again',
      async () => (await world.registry.instances('web')).value.length === 1,
      60_000,
    )
  })

  test('a service that only calls is an identity and a line of the report, and nothing in the registry', async () => {
    await start()
    const shop = declared('shop', { port: 0, servicePort: 0 })
    await world.declare([shop])
    const agent = await world.start({ locate: () => assert.fail('it was looked for') })
    const snapshot = await until('a snapshot', () => world.proxy.snapshots.at(-1))
    assert.deepEqual(snapshot.inbound, [])
    assert.deepEqual(
      snapshot.identities.map(({ spiffe, capturePort }) => [spiffe, capturePort]),
      [
        ['spiffe://demo.mesh/host/vm1', 15001],
        ['spiffe://demo.mesh/ns/default/sa/shop', 15101],
      ],
    )
    assert.ok(world.proxy.secrets.at(-1)?.leafs.some(({ spiffe }) => spiffe.endsWith('/sa/shop')))
    await until('the lease', async () => (await world.registry.get(`${keys.leases('demo')}vm1`)).value)
    const { report, registry } = await until('all told', () => {
      const status = agent.status()
      return status.report.proxy === 'ok' && status.registry.registered ? status : null
    })
    assert.deepEqual(report.services, [{ name: 'shop', namespace: 'default', status: 'passing' }])
    assert.deepEqual([report.problems, registry.registered], [[], true])
    await agent.drain(0)
    assert.deepEqual(Object.keys((await world.registry.services()).value), [])
    assert.deepEqual((await world.registry.list(keys.vips('demo'))).value, [])
  })

  test('a service that stops listening and only calls from then on leaves the registry', async () => {
    const app = await start()
    await world.start()
    await until('registered', async () => (await world.registry.instances('web')).value.length === 1)
    await world.agent?.stop()
    await world.declare([declared('web', { port: 0, servicePort: 0 })])
    await world.start()
    await until('out of it', async () => (await world.registry.instances('web')).value.length === 0)
    assert.ok(app.server.listening)
  })

  test('broken config in the registry is reported and does not stop the rest', async () => {
    await start()
    await world.start()
    await world.registry.put(`${keys.config('demo')}VirtualService/default/broken`, 'not json')
    await put(virtualService('mirror', { hosts: ['web'], http: [{ mirror: {} }] }))
    const { report } = await until('both reported', async () => {
      const status = await askAgent<'status'>(world.place.paths.agentSocket, { verb: 'status' })
      return status.report.problems.length === 2 ? status : null
    })
    assert.match(report.problems[0] ?? '', /broken: not JSON/)
    assert.match(report.problems[1] ?? '', /VirtualService default\/mirror: skipped/)
  })
})

describe('an agent with something away', () => {
  test('registry down: goes on, says so, and boots from disk; comes back by itself', async () => {
    await start()
    await foreign('api', 'vm2', 'v1')
    let agent = await world.start()
    await until('api', () =>
      hosts(world.proxy.snapshots.at(-1), 'outbound|8080||api.default.mesh').includes('vm2'),
    )
    await until('saved', () =>
      statSync(join(world.place.paths.state, 'view.json'), { throwIfNoEntry: false }),
    )
    await until('registered', async () => (await world.registry.instances('web')).value.length === 1)
    await until(
      'own instance seen',
      () => hosts(world.proxy.snapshots.at(-1), 'outbound|8080||web.default.mesh').length === 1,
    )
    await world.stopRegistry()
    await until('noticed', async () => !agent.status().registry.connected)
    assert.equal((await dns(agent.dnsPort, 'api.mesh')).length, 1)
    assert.match(agent.status().report.problems[0] ?? '', /registry away; the view is 0 min old/)

    const before = world.proxy.hash
    await agent.stop()
    world.proxy.snapshots = []
    agent = await world.start()
    await until('the same snapshot from disk', () => world.proxy.hash === before)
    assert.equal((await dns(agent.dnsPort, 'api.mesh')).length, 1)

    await world.startRegistry()
    await until('connected again', () => agent.status().registry.connected, 20_000)
    await foreign('late', 'vm4', 'v1')
    await until(
      'news arrive',
      () => hosts(world.proxy.snapshots.at(-1), 'outbound|8080||late.default.mesh').includes('vm4'),
      60_000,
    )
  })

  test('proxy down at first, restarted later: it gets everything each time', async () => {
    await start()
    world.proxy.stop()
    const agent = await world.start()
    await until(
      'down is reported',
      () => agent.status().report.proxy === 'down' && agent.status().proxy.wanted !== '',
    )
    await world.proxy.start(world.place.paths.proxySocket)
    await until('pushed', () => world.proxy.snapshots.length > 0 && world.proxy.secrets.length > 0)
    await until('ok is reported', () => agent.status().report.proxy === 'ok')
    world.proxy.stop()
    world.proxy.snapshots = []
    world.proxy.secrets = []
    await until('down again', () => agent.status().report.proxy === 'down')
    await world.proxy.start(world.place.paths.proxySocket)
    await until('pushed again', () => world.proxy.snapshots.length > 0 && world.proxy.secrets.length > 0)
  })

  test('a snapshot that the proxy rejects is reported, not repeated, and not what it boots with', async () => {
    await start()
    const agent = await world.start()
    await until(
      'own instance seen',
      () => hosts(world.proxy.snapshots.at(-1), 'outbound|8080||web.default.mesh').length === 1,
    )
    const good = world.proxy.hash
    let refused = 0
    world.proxy.refuse = (snapshot) => {
      if (!snapshot.outbound.some(({ service }) => service === 'bad')) return null
      refused++
      return 'no such thing'
    }
    await foreign('bad', 'vm6', 'v1')
    await until('rejected', () => agent.status().report.proxy === 'rejected')
    const { pings } = world.proxy
    await until('two more turns', () => world.proxy.pings > pings + 1)
    assert.ok(refused <= 2, `${refused} tries`)
    assert.match(agent.status().report.problems.join(), /snapshot rejected: no such thing/)
    const saved = JSON.parse(
      readFileSync(join(world.place.paths.proxyState, 'snapshot.json'), 'utf8'),
    ) as Snapshot
    assert.equal(saved.hash, good)
  })
})

describe('a host with a Consul agent of its own', () => {
  test('registers through it, keeps its TTL check alive, and leaves through it', async () => {
    await start()
    const { registry } = world.config
    // A real Consul agent on loopback takes its own token; here the management one.
    world.config = {
      ...world.config,
      registry: { ...registry, token: managementToken, localAgent: registry.url },
    }
    await world.start()
    const web = await until('passing', async () => {
      const [found] = (await world.registry.instances('web')).value
      return found?.passing === true ? found : null
    })
    assert.equal(web.meta['meshctl-host'], 'vm1')
    assert.ok(web.checks.some(({ id }) => id === 'service:web'))
    // Lost by a restart of the agent: the next word about its check finds out.
    const direct = connectRegistry({ ...world.config.registry })
    await direct.agentDeregister('web')
    await until(
      'back',
      async () => (await world.registry.instances('web')).value[0]?.passing === true,
      60_000,
    )
    direct.close()
    await askAgent<'leave'>(world.place.paths.agentSocket, { verb: 'leave' })
    assert.deepEqual((await world.registry.instances('web')).value, [])
  })
})

describe('the way out', () => {
  test('drain: critical first, then the proxy; leave: nothing of the host stays', async () => {
    await start()
    await world.start()
    await until('registered', async () => (await world.registry.instances('web')).value[0]?.passing === true)
    const { agentSocket } = world.place.paths
    const draining = askAgent<'drain'>(agentSocket, { verb: 'drain', timeoutMs: 500 })
    await until('critical', async () => (await world.registry.instances('web')).value[0]?.passing === false)
    assert.deepEqual(await draining, { open: 0 })
    assert.deepEqual(world.proxy.drained, [500])
    await askAgent<'leave'>(agentSocket, { verb: 'leave' })
    assert.deepEqual((await world.registry.instances('web')).value, [])
    assert.ok(!(await world.registry.nodes()).value.some(({ name }) => name === 'vm1'))
    assert.equal((await world.registry.get(`${keys.leases('demo')}vm1`)).value, null)
    assert.equal((await world.registry.get(`${keys.reports('demo')}vm1`)).value, null)
  })

  test('the socket is for root alone and survives nonsense', async () => {
    await start()
    await world.start()
    const { agentSocket } = world.place.paths
    assert.equal(statSync(agentSocket).mode & 0o777, 0o600)
    await assert.rejects(askAgent(agentSocket, { verb: 'dance' } as never), { code: 'MSH0101' })
    const renewed = await askAgent<'renew'>(agentSocket, { verb: 'renew', force: true })
    assert.equal(renewed.renewed, true)
    await until('new secrets pushed', () => world.proxy.secrets.length === 2)
    assert.equal((await askAgent<'renew'>(agentSocket, { verb: 'renew', force: false })).renewed, false)
    await world.agent?.stop()
    await assert.rejects(askAgent(agentSocket, { verb: 'status' }), { code: 'MSH0604' })
  })
})
