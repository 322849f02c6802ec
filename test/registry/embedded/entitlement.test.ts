// What a host's token cannot do, though the registry believes that it is the host's: draw to itself the traffic of
// services, addresses and names that are not its own, or fill the registry that everybody reads.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { connectRegistry } from '../../../src/registry/client.ts'
import type { Entitlement } from '../../../src/registry/embedded/access.ts'
import type { Embedded } from '../../../src/registry/embedded/server.ts'
import type { Registration, Registry } from '../../../src/registry/registry.ts'
import { claim } from '../../../src/registry/vip.ts'
import { code, configFor, embedded, managementToken } from '../place.ts'

const denied = code('MSH0302')
const passing = { status: 'passing', output: '' } as const
const vips = 'meshctl/demo/vips/'

describe('a host registers what it is entitled to', () => {
  let server: Embedded
  let management: Registry
  let host: Registry
  let token: string
  let entitlement: Entitlement | null
  const web = { name: 'web', namespace: 'default' }
  before(async () => {
    entitlement = { address: '10.0.0.1', services: [web, { name: 'web', namespace: 'team' }] }
    server = await embedded({ entitlementOf: (name) => (name === 'vm1' ? entitlement : null) })
    token = await server.createToken({ host: 'vm1', mesh: 'demo' })
    management = connectRegistry(configFor(`http://127.0.0.1:${server.port}`, { token: managementToken }))
    host = connectRegistry(configFor(`http://127.0.0.1:${server.port}`, { token }))
  })
  after(async () => {
    management.close()
    host.close()
    await server.close()
  })

  const instance = (more: Partial<Registration> = {}): Registration => ({
    node: 'vm1',
    address: '10.0.0.1',
    id: 'web-1',
    service: 'web',
    port: 80,
    tags: [],
    meta: {},
    ...more,
  })
  const raw = async (body: unknown): Promise<number> => {
    const response = await fetch(`http://127.0.0.1:${server.port}/v1/catalog/register`, {
      method: 'PUT',
      headers: { 'x-consul-token': token },
      body: JSON.stringify(body),
    })
    await response.arrayBuffer()
    return response.status
  }

  test('only its own services, in the namespace that it speaks for', async () => {
    await host.register(instance(), passing)
    await host.register(instance({ id: 'web-2', meta: { 'meshctl-namespace': 'team' } }), passing)
    await assert.rejects(host.register(instance({ id: 'bank-1', service: 'bank' }), passing), denied)
    const elsewhere = instance({ id: 'web-3', meta: { 'meshctl-namespace': 'bank' } })
    await assert.rejects(host.register(elsewhere, passing), denied)
    // Renaming an instance that it has is registering another service.
    await assert.rejects(host.register(instance({ service: 'bank' }), passing), denied)
    assert.deepEqual((await management.instances('bank')).value, [])
    assert.deepEqual(
      (await management.instances('web')).value.map(({ id }) => id),
      ['web-1', 'web-2'],
    )
  })

  test('only at the address where it was joined: callers take registered addresses for its services', async () => {
    await assert.rejects(host.register(instance({ address: '10.0.0.99' }), passing), denied)
    const Service = { Service: 'web', ID: 'web-9', Port: 5432, Address: '10.0.0.99' }
    assert.equal(await raw({ Node: 'vm1', Address: '10.0.0.1', Service }), 403)
    assert.equal(await raw({ Node: 'vm1', SkipNodeUpdate: true, Service }), 403)
    await assert.rejects(
      host.setCheck('vm1', '10.0.0.99', null, 'c', 'passing', ''),
      denied,
      'nor by a check',
    )
    assert.ok((await management.instances('web')).value.every(({ address }) => address === '10.0.0.1'))
  })

  test('and says of itself what it is', async () => {
    for (const meta of [{ 'meshctl-host': 'vm2' }, { 'meshctl-mesh': 'other' }])
      await assert.rejects(host.register(instance({ meta }), passing), denied)
    await host.register(instance({ meta: { 'meshctl-host': 'vm1', 'meshctl-mesh': 'demo' } }), passing)
  })

  test('virtual addresses only for its own services, and not all of them', async () => {
    await claim(host, 'demo', 'default', 'web')
    const bank = JSON.stringify({ service: 'bank', namespace: 'default' })
    await assert.rejects(host.cas(`${vips}240.240.7.7`, bank, '0'), denied)
    await assert.rejects(host.cas(`${vips}240.240.7.7`, 'squatted', '0'), denied)
    const cas = { verb: 'cas', key: `${vips}240.240.7.7`, value: bank, index: '0' } as const
    await assert.rejects(host.transact([cas]), denied)
    const mine = JSON.stringify({ service: 'web', namespace: 'default' })
    const taken: boolean[] = []
    for (let at = 1; at <= 9; at++) {
      taken.push(
        await host.cas(`${vips}240.240.9.${at}`, mine, '0').catch((error: unknown) => !denied(error)),
      )
    }
    assert.deepEqual(taken, [true, true, true, true, true, true, true, false, false])
    assert.equal((await management.get(`${vips}240.240.9.9`)).value, null)
    const again = { verb: 'cas', key: `${vips}240.240.9.9`, value: mine, index: '0' } as const
    await assert.rejects(host.transact([again]))
    assert.equal((await management.get(`${vips}240.240.9.9`)).value, null)
  })

  test('it does not fill the registry', async () => {
    const meta = Object.fromEntries(Array.from({ length: 60 }, (_, at) => [`k${at}`, 'x'.repeat(2000)]))
    await assert.rejects(host.register(instance({ id: 'fat', meta }), passing))
    const many = (at: number): Promise<number> => {
      const Checks = Array.from({ length: 255 }, (_, i) => ({ CheckID: `c${at + i}`, Status: 'passing' }))
      return raw({ Node: 'vm1', SkipNodeUpdate: true, Checks })
    }
    assert.deepEqual([await many(0), await many(1000), await many(2000)], [200, 403, 403])
    assert.ok((await management.nodeChecks('vm1')).length <= 512)
    for (let at = 0; at < 64; at++) await host.createSession({ name: 'many', ttlSeconds: 10 })
    await assert.rejects(host.createSession({ name: 'many', ttlSeconds: 10 }), denied)
    await host.deregisterNode('vm1')
  })

  test('what it is no longer entitled to leaves the catalogue', async () => {
    await host.register(instance(), passing)
    await host.register(instance({ id: 'web-2', meta: { 'meshctl-namespace': 'team' } }), passing)
    entitlement = { address: '10.0.0.1', services: [web] }
    await server.prune('vm1')
    assert.deepEqual(
      (await management.instances('web')).value.map(({ id }) => id),
      ['web-1'],
    )
    entitlement = null
    await server.prune('vm1')
    assert.deepEqual((await management.instances('web')).value, [])
    await assert.rejects(host.register(instance(), passing), denied)
  })
})
