// The part of the contract about nodes, services and checks.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { CheckStatus, Registration, Registry } from '../../src/registry/registry.ts'
import { code, eventually, fresh } from './place.ts'

export function registration(node: string, service: string, more: Partial<Registration> = {}): Registration {
  return {
    node,
    address: '10.1.2.3',
    id: `${service}-1`,
    service,
    port: 8080,
    tags: ['v1', 'a=b'],
    meta: { version: 'v1', 'meshctl-mesh': 'demo' },
    ...more,
  }
}

export function catalogue(given: () => Registry): void {
  test('an instance is registered, found, updated and deregistered', async () => {
    const r = given()
    const [node, service] = [fresh('vm'), fresh('web')]
    const mine = registration(node, service)
    await r.register(mine, { status: 'passing', output: 'answers' })
    const { value } = await r.instances(service)
    assert.deepEqual(value, [
      {
        node,
        nodeAddress: '10.1.2.3',
        id: `${service}-1`,
        service,
        address: '10.1.2.3',
        port: 8080,
        tags: ['v1', 'a=b'],
        meta: { version: 'v1', 'meshctl-mesh': 'demo' },
        passing: true,
        checks: [{ id: `service:${service}-1`, status: 'passing', output: 'answers' }],
      },
    ])
    assert.deepEqual([...((await r.services()).value[service] ?? [])].toSorted(), ['a=b', 'v1'])
    const host = (await r.nodes()).value.find(({ name }) => name === node)
    assert.deepEqual(host, { name: node, address: '10.1.2.3', meta: { 'meshctl-mesh': 'demo' } })
    await r.register({ ...mine, port: 9090, tags: ['v2'] }, { status: 'passing', output: 'answers' })
    const updated = (await r.instances(service)).value
    assert.deepEqual(
      updated.map(({ port, tags }) => [port, tags]),
      [[9090, ['v2']]],
    )
    await r.deregister(node, `${service}-1`)
    assert.deepEqual((await r.instances(service)).value, [])
    assert.deepEqual(await r.nodeChecks(node), [], 'its check went with it')
    assert.ok((await r.nodes()).value.some(({ name }) => name === node))
    await r.deregister(node, `${service}-1`)
    await r.deregisterNode(node)
    await r.deregisterNode(node)
    assert.ok(!(await r.nodes()).value.some(({ name }) => name === node))
  })

  test('registering the same again wakes nobody', async () => {
    const r = given()
    const [node, service] = [fresh('vm'), fresh('same')]
    await r.register(registration(node, service), { status: 'passing', output: 'x' })
    const before = await r.instances(service)
    await r.register(registration(node, service), { status: 'passing', output: 'x' })
    await r.setCheck(node, '10.1.2.3', `${service}-1`, `service:${service}-1`, 'passing', 'x')
    const after = await r.instances(service, { index: before.index, waitMs: 300 })
    assert.equal(after.index, before.index)
    await r.deregisterNode(node)
  })

  test('an instance passes when its own checks and those of its node do', async () => {
    const r = given()
    const [node, service] = [fresh('vm'), fresh('health')]
    const set = (serviceId: string | null, id: string, status: CheckStatus) =>
      r.setCheck(node, '10.1.2.3', serviceId, id, status, `is ${status}`)
    await r.register(registration(node, service), { status: 'critical', output: 'starting' })
    await r.register(registration(node, `${service}-other`), { status: 'passing', output: '' })
    const passing = async (name: string) =>
      (await r.instances(name)).value.map((instance) => instance.passing)
    assert.deepEqual(await passing(service), [false])
    await set(`${service}-1`, `service:${service}-1`, 'passing')
    assert.deepEqual(await passing(service), [true])
    await set(`${service}-1`, `service:${service}-1`, 'warning')
    assert.deepEqual(await passing(service), [false])
    await set(`${service}-1`, `service:${service}-1`, 'passing')
    await set(null, 'meshctl-lease', 'critical')
    assert.deepEqual([await passing(service), await passing(`${service}-other`)], [[false], [false]])
    const checks = await r.nodeChecks(node)
    assert.deepEqual(
      checks.find(({ id }) => id === 'meshctl-lease'),
      { id: 'meshctl-lease', serviceId: '', status: 'critical', output: 'is critical' },
    )
    await set(null, 'meshctl-lease', 'passing')
    assert.deepEqual([await passing(service), await passing(`${service}-other`)], [[true], [true]])
    await r.deregisterNode(node)
  })

  test('waiters on a service see it come, fail and go, and not what happens to others', async () => {
    const r = given()
    const [node, service] = [fresh('vm'), fresh('watched')]
    await r.register(registration(node, `${service}-other`), { status: 'passing', output: '' })
    await r.register(registration(node, service), { status: 'passing', output: '' })
    let seen = await r.instances(service)
    let woken = false
    const waiting = r.instances(service, { index: seen.index, waitMs: 20_000 }).finally(() => (woken = true))
    await r.setCheck(node, '10.1.2.3', `${service}-other-1`, `service:${service}-other-1`, 'critical', 'bad')
    assert.equal((await r.instances(`${service}-other`)).value[0]?.passing, false)
    assert.equal(woken, false)
    await r.setCheck(node, '10.1.2.3', `${service}-1`, `service:${service}-1`, 'critical', 'bad')
    seen = await waiting
    assert.equal(seen.value[0]?.passing, false)
    const node1 = r.instances(service, { index: seen.index, waitMs: 20_000 })
    await r.setCheck(node, '10.1.2.3', null, 'node-check', 'critical', 'bad')
    seen = await node1
    assert.equal(seen.value[0]?.checks.length, 2)
    const last = r.instances(service, { index: seen.index, waitMs: 20_000 })
    const names = await r.services()
    const listing = r.services({ index: names.index, waitMs: 20_000 })
    await r.deregisterNode(node)
    // The node goes in several steps for those who look closely enough.
    const gone = await eventually(async () => {
      const { value } = await r.instances(service)
      return value.length === 0 ? true : null
    }, 'the instance is gone')
    assert.equal(gone, true)
    await last
    assert.equal((await listing).value[service], undefined)
  })

  test('node names and ids of odd characters survive', async () => {
    const r = given()
    const node = `${fresh('vm')}.Example-1`
    const service = fresh('web')
    await r.register(registration(node, service, { id: `${service}:8080/x y` }), {
      status: 'passing',
      output: 'ü\n',
    })
    assert.equal((await r.nodeChecks(node))[0]?.output, 'ü\n')
    await r.deregister(node, `${service}:8080/x y`)
    assert.deepEqual((await r.instances(service)).value, [])
    await r.deregisterNode(node)
  })
}

export function localAgent(given: () => Registry): void {
  test('a service of the local agent is critical until told otherwise, and again when nobody speaks', async () => {
    const r = given()
    const service = fresh('local')
    const mine = registration('', service)
    await r.agentRegister(mine, 1)
    const state = async () => (await r.instances(service)).value[0]
    const first = await eventually(state, 'the agent told the catalogue')
    assert.equal(first.passing, false)
    assert.equal(first.port, 8080)
    assert.deepEqual(first.meta, mine.meta)
    assert.equal(first.address, '10.1.2.3')
    await r.agentPass(`service:${service}-1`, 'passing', 'all is well')
    await eventually(async () => (await state())?.passing, 'it passes')
    await r.agentPass(`service:${service}-1`, 'passing', 'all is well')
    await r.agentRegister(mine, 1)
    const check = (await state())?.checks.find(({ id }) => id === `service:${service}-1`)
    assert.equal(check?.status, 'passing', 'registering again does not take it out of service')
    assert.equal(check.output, 'all is well')
    const expired = await eventually(async () => {
      const now = (await state())?.checks.find(({ id }) => id === `service:${service}-1`)
      return now?.status === 'critical' ? now : null
    }, 'its TTL runs out')
    assert.match(expired.output, /TTL expired/)
    await r.agentDeregister(`${service}-1`)
    await eventually(async () => (await state()) === undefined, 'it is gone')
    await assert.rejects(r.agentPass(`service:${service}-1`, 'passing', ''), code('MSH0303'))
  })
}
