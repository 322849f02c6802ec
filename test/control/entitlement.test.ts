// A joined host's token at the registry that control runs: what the operator entitled the host to, and no more.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { connectRegistry } from '../../src/registry/client.ts'
import type { Registration, Registry } from '../../src/registry/registry.ts'
import { claim } from '../../src/registry/vip.ts'
import { joinHost, managementToken, Plane, refusedWith } from './plane.ts'

const plane = new Plane()
before(() => plane.start())
after(() => plane.remove())

const denied = refusedWith('MSH0302')
const passing = { status: 'passing', output: '' } as const

function client(token: string | null): Registry {
  const url = `https://127.0.0.1:${plane.registryPort}`
  const spiffe = 'spiffe://demo.mesh/control'
  return connectRegistry({ url, token, ca: plane.authority.roots, spiffe, localAgent: null })
}

function instance(node: string, service: string, address: string = '10.0.0.11'): Registration {
  return { node, address, id: `${service}-1`, service, port: 80, tags: [], meta: {} }
}

test('a host cannot take part in a service that no operator gave it', async () => {
  const { reply: victim } = await joinHost(plane, 'vm1', ['bank'])
  const { reply } = await joinHost(plane, 'vm2', ['web'])
  const [one, two, root] = [
    client(victim.registryToken),
    client(reply.registryToken),
    client(managementToken),
  ]
  try {
    await one.register(instance('vm1', 'bank'), passing)
    await two.register(instance('vm2', 'web'), passing)
    await assert.rejects(two.register(instance('vm2', 'bank'), passing), denied)
    await assert.rejects(two.register(instance('vm2', 'web', '10.0.0.66'), passing), denied)
    await assert.rejects(claim(two, 'demo', 'default', 'bank'), denied)
    const wanted = { services: [{ name: 'bank', namespace: 'default' }] }
    await plane.operator().entitlement('vm2', wanted)
    assert.deepEqual((await root.instances('web')).value, [], 'gone with the entitlement')
    await two.register(instance('vm2', 'bank'), passing)
    await plane.operator().revoke('vm2')
    assert.deepEqual(
      (await root.instances('bank')).value.map(({ node }) => node),
      ['vm1'],
      'a revoked host serves nobody',
    )
  } finally {
    for (const registry of [one, two, root]) registry.close()
  }
})
