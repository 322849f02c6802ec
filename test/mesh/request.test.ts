// The main promise across all parts: from a declaration on a host to requests between hosts, and what changes them.
import assert from 'node:assert/strict'
import { serviceSpiffe } from '../../src/model/service.ts'
import { until } from '../agent/running.ts'
import { Mesh, web } from './mesh.ts'
import { recorded } from './recorder.ts'

recorded('from declaration to request: name, address, route, identity', async (recorder) => {
  await using mesh = await Mesh.start(recorder)
  const [vm1, vm2, vm3] = await mesh.usual()
  const vip = await vm3.resolve('web.default.mesh')
  assert.match(vip, /^240\.240\./)
  assert.equal(await vm1.resolve('web.default.mesh'), vip, 'the same address on every host')
  // The first identity of vm3 is the host, the second its service.
  const asShop = await vm3.call({ as: 1, headers: { 'x-forwarded-client-cert': 'URI=spiffe://forged' } })
  assert.equal(asShop.status, 200)
  assert.match(asShop.told?.caller ?? '', new RegExp(serviceSpiffe('demo.mesh', 'default', 'shop')))
  assert.doesNotMatch(asShop.told?.caller ?? '', /forged/)
  const asHost = await vm3.call()
  assert.match(asHost.told?.caller ?? '', /spiffe:\/\/demo\.mesh\/host\/vm3/)
  // A host reaches its own instance and the others'.
  await mesh.answering(vm1, ['v1', 'v2'])
  await mesh.answering(vm2, ['v1', 'v2'])
  const { report, registry } = await vm3.status()
  assert.deepEqual([report.proxy, report.dns, registry.connected, report.problems], ['ok', 'ok', true, []])
})

recorded(
  'a caller that was refused before the service was there keeps no connection that stays refused',
  async (recorder) => {
    await using mesh = await Mesh.start(recorder)
    const caller = await mesh.host('vm1')
    await until('a snapshot', () => caller.proxy?.hash !== '')
    const address = '240.240.44.239'
    caller.expect('web.default.mesh', address)
    assert.equal((await caller.call()).status, 502)
    await mesh.host('vm2', [web('v1')])
    await until(
      'DNS to know it',
      async () => (await caller.resolve('web.default.mesh').catch(() => '')) === address,
    )
    // The same caller with the same kept connections.
    await mesh.answering(caller, ['v1'])
  },
)

recorded(
  'weights of a VirtualService are seen in traffic, under load, without a failed request',
  async (recorder) => {
    await using mesh = await Mesh.start(recorder)
    const [, , vm3] = await mesh.usual()
    const load = mesh.load(vm3)
    await mesh.weigh({ v1: 100, v2: 0 })
    await mesh.answering(vm3, ['v1'])
    await mesh.weigh({ v1: 0, v2: 100 })
    await mesh.answering(vm3, ['v2'])
    await mesh.weigh({ v1: 80, v2: 20 })
    await mesh.answering(vm3, ['v1', 'v2'])
    await load.stop()
    const counted = mesh.load(vm3)
    await counted.more(1000)
    await counted.stop()
    const share = (counted.versions.get('v2') ?? 0) / counted.done
    // Four standard deviations of 1000 draws.
    assert.ok(Math.abs(share - 0.2) < 0.05, `v2 has ${share}`)
    assert.deepEqual([...load.failed, ...counted.failed], [])
  },
)

recorded('a new instance is used, one that fails its check or is stopped is left alone', async (recorder) => {
  await using mesh = await Mesh.start(recorder)
  const [vm1, vm2, vm3] = await mesh.usual()
  const load = mesh.load(vm3)
  await mesh.host('vm4', [web('v3')])
  await mesh.answering(vm3, ['v1', 'v2', 'v3'])
  await mesh.answering(vm1, ['v1', 'v2', 'v3'])
  vm1.app.healthy = false
  await mesh.answering(vm3, ['v2', 'v3'])
  assert.deepEqual(await mesh.healthy(), ['vm2', 'vm4'])
  await load.more(50)
  vm1.app.healthy = true
  await mesh.answering(vm3, ['v1', 'v2', 'v3'])
  await load.stop()
  assert.deepEqual(load.failed, [])
  // Stopped without a word: only its check tells.
  await vm2.app.stop()
  await until('vm2 to leave the healthy set', async () => (await mesh.healthy()).join() === 'vm1,vm4')
  await mesh.answering(vm3, ['v1', 'v3'])
  await vm2.app.start()
  await mesh.answering(vm3, ['v1', 'v2', 'v3'], {}, 60_000)
})

recorded('drain and leave: no request fails while an instance goes under load', async (recorder) => {
  await using mesh = await Mesh.start(recorder)
  const [vm1, , vm3] = await mesh.usual()
  // Exchanges that are under way when the drain begins.
  vm1.app.delay = 20
  const load = mesh.load(vm3, {}, 8)
  await load.more(100)
  const drained = await vm1.agent?.drain(5000)
  assert.deepEqual(drained, { open: 0 })
  const before = vm1.app.requests
  await vm1.agent?.leave()
  await vm1.kill()
  await load.more(200)
  await load.stop()
  assert.deepEqual(load.failed, [])
  assert.equal(vm1.app.requests, before)
  assert.deepEqual(await mesh.healthy(), ['vm2'])
  assert.ok(!(await mesh.registry.nodes()).value.some(({ name }) => name === 'vm1'))
})
