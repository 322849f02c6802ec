// Control beside a real Consul: no embedded registry, no tokens of ours, leases judged in Consul's catalogue.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Reaper } from '../../src/control/lease.ts'
import { ReaperLock } from '../../src/control/lock.ts'
import { Store } from '../../src/control/store.ts'
import { FakeClock } from '../../src/clock.ts'
import { connectRegistry } from '../../src/registry/client.ts'
import { keys, leaseCheckId } from '../../src/registry/registry.ts'
import type { Registry } from '../../src/registry/registry.ts'
import { configFor, quiet, startConsul } from '../registry/place.ts'
import { joinHost, Plane } from './plane.ts'

let consul: Awaited<ReturnType<typeof startConsul>>
let registry: Registry

before(async () => {
  consul = await startConsul()
  registry = connectRegistry(configFor(consul.url))
})
after(async () => {
  registry.close()
  await consul.close()
})

test('it signs without a registry of its own and gives no registry token', async () => {
  const plane = new Plane({ embedded: null, consul: { url: consul.url, token: null, ca: null } })
  await plane.start()
  try {
    const { reply } = await joinHost(plane, 'vm1', ['web'])
    assert.equal(reply.registryToken, null)
    assert.equal(plane.registryPort, 0)
    assert.equal((await plane.operator().status()).registry, 'consul')
    await plane.operator().revoke('vm1')
  } finally {
    await plane.remove()
  }
})

test('leases are judged in a real Consul; nodes with an agent of their own are not touched', async () => {
  const clock = new FakeClock(Date.now())
  const store = new Store(':memory:')
  const mesh = 'real'
  const reaper = new Reaper({
    registry,
    lock: new ReaperLock({ registry, store, mesh, clock }),
    mesh,
    clock,
    log: quiet,
  })
  const lease = (host: string, beat: string): Promise<void> =>
    registry.put(`${keys.leases(mesh)}${host}`, beat)
  const passing = async (): Promise<string[]> => {
    const { value } = await registry.instances('web')
    return value.filter((instance) => instance.passing).map(({ node }) => node)
  }
  const run = async (seconds: number): Promise<void> => {
    for (let n = 0; n < seconds; n++) {
      clock.advance(1000)
      await reaper.poll()
    }
  }
  const service = {
    node: 'vm1',
    address: '10.0.0.1',
    id: 'web',
    service: 'web',
    port: 80,
    tags: [],
    meta: {},
  }
  await registry.register(service, { status: 'passing', output: '' })
  await lease('vm1', '1')
  // The dev agent's own node has a lease as well, which stands still.
  await lease('consul-test', '1')
  await run(1)
  await lease('vm1', '2')
  await run(5)
  assert.deepEqual(await passing(), ['vm1'])
  await run(8)
  assert.deepEqual(await passing(), [])
  assert.ok(!(await registry.nodeChecks('consul-test')).some(({ id }) => id === leaseCheckId))
  await lease('vm1', '3')
  await run(1)
  assert.deepEqual(await passing(), ['vm1'])
  await reaper.close()
  store.close()
})
