import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { inspect } from 'node:util'
import { connectRegistry } from '../../../src/registry/client.ts'
import type { Embedded } from '../../../src/registry/embedded/server.ts'
import type { Registration, Registry } from '../../../src/registry/registry.ts'
import { claim } from '../../../src/registry/vip.ts'
import { code, configFor, embedded, eventually, managementToken } from '../place.ts'

const denied = code('MSH0302')

function registration(node: string): Registration {
  return { node, address: '10.0.0.1', id: 'web-1', service: 'web', port: 80, tags: [], meta: {} }
}

describe('tokens of the embedded registry', () => {
  let server: Embedded
  let management: Registry
  let host: Registry
  let anonymous: Registry
  let stranger: Registry
  const clients: Registry[] = []
  const client = (token: string | null): Registry => {
    const made = connectRegistry(configFor(`http://127.0.0.1:${server.port}`, { token }))
    clients.push(made)
    return made
  }
  before(async () => {
    server = await embedded()
    management = client(managementToken)
    host = client(await server.createToken({ host: 'vm1', mesh: 'demo' }))
    anonymous = client(null)
    stranger = client('no-such-token')
    await management.register(registration('vm2'), { status: 'passing', output: '' })
    await management.put('meshctl/demo/config/VirtualService/default/web', '{}')
    await management.put('meshctl/demo/vips/240.240.0.1', '{}')
    await management.put('meshctl/other/config/VirtualService/default/web', '{}')
    await management.put('elsewhere', 'x')
  })
  after(async () => {
    for (const made of clients) made.close()
    await server.close()
  })

  test('without a token, or with one that nobody has, nothing is to be had', async () => {
    for (const nobody of [anonymous, stranger]) {
      await assert.rejects(nobody.leader(), denied)
      await assert.rejects(nobody.services(), denied)
      await assert.rejects(nobody.instances('web'), denied)
      await assert.rejects(nobody.get('meshctl/demo/config/VirtualService/default/web'), denied)
      await assert.rejects(nobody.list('meshctl/demo/'), denied)
      await assert.rejects(nobody.put('x', 'y'), denied)
      await assert.rejects(nobody.register(registration('vm1'), { status: 'passing', output: '' }), denied)
      await assert.rejects(nobody.createSession({ name: 'x', ttlSeconds: 10 }), denied)
      await assert.rejects(nobody.transact([{ verb: 'set', key: 'x', value: 'y' }]), denied)
      await assert.rejects(nobody.agentRegister(registration(''), 10), denied)
    }
  })

  test('a host reads its mesh and no other', async () => {
    assert.equal((await host.get('meshctl/demo/config/VirtualService/default/web')).value?.value, '{}')
    assert.equal((await host.list('meshctl/demo/')).value.length, 2)
    assert.ok((await host.nodes()).value.some(({ name }) => name === 'vm2'))
    assert.equal((await host.instances('web')).value.length, 1)
    for (const prefix of ['meshctl/other/', 'meshctl/', 'meshctl/demo', '', 'meshctl/demo/../other/']) {
      if (prefix === 'meshctl/demo/../other/') {
        assert.deepEqual((await host.list(prefix)).value, [], 'a path is a name, not a way')
      } else await assert.rejects(host.list(prefix), denied, prefix)
    }
    await assert.rejects(host.get('elsewhere'), denied)
    await assert.rejects(host.transact([{ verb: 'check-index', key: 'elsewhere', index: '1' }]), denied)
  })

  test('a host writes its own node and no other', async () => {
    await host.register(registration('vm1'), { status: 'passing', output: '' })
    await host.setCheck('vm1', '10.0.0.1', 'web-1', 'service:web-1', 'warning', 'x')
    const other = { ...registration('vm2'), address: '6.6.6.6' }
    await assert.rejects(host.register(other, { status: 'passing', output: '' }), denied)
    await assert.rejects(host.setCheck('vm2', '10.0.0.1', null, 'c', 'critical', ''), denied)
    await assert.rejects(host.deregister('vm2', 'web-1'), denied)
    await assert.rejects(host.deregisterNode('vm2'), denied)
    await assert.rejects(host.deregisterNode('VM1'), denied)
    assert.equal((await management.instances('web')).value.length, 2)
    await host.deregisterNode('vm1')
    await assert.rejects(host.agentRegister(registration(''), 10), denied)
  })

  test('a host writes its own lease and report, and takes addresses that are free', async () => {
    for (const room of ['leases', 'reports']) {
      await host.put(`meshctl/demo/${room}/vm1`, 'mine')
      await assert.rejects(host.put(`meshctl/demo/${room}/vm2`, 'not mine'), denied)
      await assert.rejects(host.put(`meshctl/demo/${room}/vm1/x`, 'not mine'), denied)
      await assert.rejects(host.put(`meshctl/other/${room}/vm1`, 'not mine'), denied)
      await assert.rejects(host.delete(`meshctl/demo/${room}/vm1`, { recurse: true }), denied)
      assert.equal(await host.delete(`meshctl/demo/${room}/vm1`), true)
    }
    await assert.rejects(host.put('meshctl/demo/config/VirtualService/default/web', 'mine'), denied)
    await assert.rejects(host.cas('meshctl/demo/config/VirtualService/default/new', 'mine', '0'), denied)

    const address = await claim(host, 'demo', 'default', 'web')
    assert.equal(await claim(management, 'demo', 'default', 'web'), address)
    const taken = (await host.get('meshctl/demo/vips/240.240.0.1')).value
    assert.ok(taken)
    assert.equal(await host.cas(taken.key, '{"service":"web","namespace":"default"}', '0'), false)
    await assert.rejects(host.cas(taken.key, 'stolen', taken.modifyIndex), denied)
    await assert.rejects(host.put(taken.key, 'stolen'), denied)
    await assert.rejects(host.delete(taken.key), denied)
    await assert.rejects(host.put('meshctl/demo/vips/240.240.0.9', 'free, but without looking'), denied)
    const steal = { verb: 'cas', key: taken.key, value: 'stolen', index: taken.modifyIndex } as const
    await assert.rejects(host.transact([steal]), denied)
    await assert.rejects(host.transact([{ verb: 'set', key: taken.key, value: 'stolen' }]), denied)
    assert.equal((await management.get(taken.key)).value?.value, '{}')
  })

  test('a host has sessions of its own, for its own keys', async () => {
    await host.register(registration('vm1'), { status: 'passing', output: '' })
    const mine = await host.createSession({ name: 'mine', ttlSeconds: 10 })
    const foreign = await management.createSession({ name: 'theirs', ttlSeconds: 10 })
    assert.equal(await host.acquire('meshctl/demo/leases/vm1', 'x', mine), true)
    await assert.rejects(host.acquire('meshctl/demo/leases/vm2', 'x', mine), denied)
    await assert.rejects(host.acquire('meshctl/demo/leases/vm1', 'x', foreign), denied)
    await assert.rejects(host.destroySession(foreign), denied)
    await assert.rejects(host.renewSession(foreign), denied)
    await assert.rejects(host.createSession({ name: 'x', ttlSeconds: 10, node: 'vm2' }), denied)
    assert.equal(await host.renewSession(mine), true)
    await host.destroySession(mine)
    await management.destroySession(foreign)
  })

  test('a revoked token ends at once, for who waits as well', async () => {
    const token = await server.createToken({ host: 'vm3', mesh: 'demo' })
    const gone = client(token)
    const seen = await gone.list('meshctl/demo/')
    const waiting = assert.rejects(gone.list('meshctl/demo/', { index: seen.index, waitMs: 60_000 }), denied)
    await eventually(() => server.waiting() === 1, 'the query waits')
    await server.revokeToken('vm3')
    await waiting
    await assert.rejects(gone.list('meshctl/demo/'), denied)
    assert.ok((await host.nodes()).value.length > 0, 'other hosts go on')
  })

  test('a host keeps its old token for a while when it gets a new one', async () => {
    const tokens = []
    for (let at = 0; at < 18; at++) tokens.push(await server.createToken({ host: 'vm4', mesh: 'demo' }))
    const works = await Promise.all(
      tokens.map((token) =>
        client(token)
          .nodes()
          .then(
            () => true,
            () => false,
          ),
      ),
    )
    assert.deepEqual(works, [false, false, ...Array<boolean>(16).fill(true)])
  })
})

test('tokens survive a restart as hashes only; none is told in an error', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'registry-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const dbPath = join(folder, 'registry.db')
  const first = await embedded({ dbPath })
  const token = await first.createToken({ host: 'vm1', mesh: 'demo' })
  await first.close()
  assert.ok(!readFileSync(dbPath).includes(token))
  const second = await embedded({ dbPath })
  t.after(() => second.close())
  const host = connectRegistry(configFor(`http://127.0.0.1:${second.port}`, { token }))
  t.after(() => host.close())
  assert.ok((await host.nodes()).value.length > 0)
  const error = await host.put('elsewhere', 'x').then(
    () => assert.fail('was allowed'),
    (reason: unknown) => reason,
  )
  assert.ok(!inspect(error, { depth: 20, showHidden: true }).includes(token))
  await assert.rejects(embedded({ managementToken: 'short' }), /too short/)
})
