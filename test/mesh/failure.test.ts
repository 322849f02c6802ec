// Parts that go away while traffic runs: a host, the registry, control, a proxy.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { connectRegistry } from '../../src/registry/client.ts'
import { leaseCheckId } from '../../src/registry/registry.ts'
import { until } from '../agent/running.ts'
import { FastClock } from './fastclock.ts'
import { Mesh, web } from './mesh.ts'
import { Stillness } from '../stillness.ts'
import { recorded } from './recorder.ts'

recorded(
  'a killed host: callers move at the first failed connect, the registry says so within 15 s',
  async (recorder) => {
    // Mesh time runs four times as fast: its 15 s are awaited for 4.
    await using mesh = await Mesh.start(recorder, { clock: new FastClock(4) })
    const [, vm2, vm3] = await mesh.usual()
    const load = mesh.load(vm3)
    await load.more(50)
    // The reaper judges only hosts that it has seen renewing.
    await new Promise((done) => void mesh.clock.after(4000, () => done(null)))
    const stillness = new Stillness()
    const killed = mesh.clock.monotonic()
    await vm2.kill()
    const carried = load.failed.length
    await mesh.answering(vm3, ['v1'])
    // Nobody has told them yet.
    assert.deepEqual(await mesh.healthy(), ['vm1', 'vm2'])
    const moved = load.failed.length
    await load.more(200)
    assert.equal(load.failed.length, moved, 'requests fail after the callers have moved')
    // What was under way on its connections may be lost, one by each caller; new requests are not.
    assert.ok(moved - carried <= 4, load.failed.join('\n'))
    await until('the reaper to mark vm2', async () => (await mesh.healthy()).join() === 'vm1')
    const took = mesh.clock.monotonic() - killed
    const stood = stillness.end()
    recorder.note(
      'test',
      `${Math.round(took)} ms of mesh time; stood still for ${stood} ms of this machine's`,
    )
    // Where the registry could not be asked for 3 s, three quarters of one here, every host gets a full period again.
    assert.ok(took < (stood < 500 ? 15_000 : 60_000), `${Math.round(took)} ms of mesh time`)
    assert.ok(
      (await mesh.registry.nodeChecks('vm2')).some(
        ({ id, status }) => id === leaseCheckId && status === 'critical',
      ),
    )
    await load.stop()
    // It comes back by itself.
    vm2.apps.length = 0
    await vm2.startApps()
    await vm2.startProxy()
    await vm2.startAgent()
    await until('vm2 to be healthy again', async () => (await mesh.healthy()).join() === 'vm1,vm2', 60_000)
    await mesh.answering(vm3, ['v1', 'v2'], {}, 60_000)
  },
)

recorded(
  'registry down: traffic, routes and restarted agents and proxies go on from disk',
  async (recorder) => {
    await using mesh = await Mesh.start(recorder)
    const [vm1, vm2, vm3] = await mesh.usual()
    await mesh.weigh({ v1: 100, v2: 0 })
    await mesh.answering(vm3, ['v1'])
    await mesh.control.registry.shut()
    await until('the agent to notice', async () => !(await vm3.status()).registry.connected)
    const load = mesh.load(vm1)
    await mesh.answering(vm3, ['v1'])
    const { hash } = vm3.proxy ?? assert.fail()
    const path = join(vm3.place.paths.proxyState, 'snapshot.json')
    await until('it to be on disk', () => readFileSync(path, 'utf8').includes(hash))
    vm3.stopProxy()
    await vm3.startProxy()
    assert.equal(vm3.proxy?.hash, hash, 'it boots from what lies on disk')
    await mesh.answering(vm3, ['v1'])
    await vm3.stopAgent()
    await mesh.answering(vm3, ['v1'])
    await vm3.startAgent()
    assert.match(await vm3.resolve('web.default.mesh'), /^240\.240\./)
    await mesh.answering(vm3, ['v1'])
    const { report } = await vm3.status()
    assert.ok(
      report.problems.some((problem) => problem.includes('registry away')),
      report.problems.join(),
    )
    // The agent knows its own services without anybody.
    await vm2.stopAgent()
    await vm2.startAgent()
    await load.more(100)
    await load.stop()
    assert.deepEqual(load.failed, [])
    await mesh.control.registry.open()
    await until(
      'the agents to be connected again',
      async () => {
        const all = await Promise.all(mesh.vms.map((vm) => vm.status()))
        return all.every(({ registry }) => registry.connected && registry.registered)
      },
      60_000,
    )
    // What is written now arrives everywhere.
    await mesh.weigh({ v1: 0, v2: 100 })
    await mesh.answering(vm3, ['v2'], {}, 60_000)
    await mesh.host('vm4', [web('v2')])
  },
)

recorded(
  'registry out of reach for ten minutes: nobody notices but the reports, and nobody when it is back',
  async (recorder) => {
    const clock = new FastClock(1)
    await using mesh = await Mesh.start(recorder, { clock })
    const [vm1, vm2, vm3] = await mesh.usual()
    const pass = (ms: number): Promise<void> => new Promise((done) => void clock.after(ms, done))
    const load = mesh.load(vm3, {}, 2)
    await load.more(50)
    // The reaper judges only hosts that it has seen renewing.
    await pass(4000)
    // Between hosts and control, so that the reaper lives on and sees no host renew its lease.
    await mesh.control.registry.shut()
    const began = clock.monotonic()
    clock.speed = 60
    await pass(300_000)
    // In the middle of it a machine is started anew.
    clock.speed = 1
    vm1.stopProxy()
    await vm1.stopAgent()
    await vm1.startProxy()
    await vm1.startAgent()
    await mesh.answering(vm1, ['v1', 'v2'])
    clock.speed = 60
    await pass(300_000)
    clock.speed = 1
    assert.ok(clock.monotonic() - began > 600_000)
    const { report } = await vm3.status()
    assert.ok(
      report.problems.some((problem) => problem.includes('registry away')),
      report.problems.join(),
    )
    await mesh.answering(vm3, ['v1', 'v2'])
    const before = load.failed.length
    const inside = connectRegistry(mesh.control.inside())
    const { value: instances } = await inside.instances('web')
    inside.close()
    assert.ok(instances.length === 2 && instances.every(({ passing }) => !passing), 'what it says first')
    // The caller hears of the catalogue before anybody has renewed a lease.
    await vm1.stopAgent()
    await vm2.stopAgent()
    await mesh.control.registry.open()
    // As long as any of its watches may still wait for the next try.
    clock.speed = 10
    await pass(16_000)
    clock.speed = 1
    assert.ok((await vm3.status()).registry.connected)
    assert.deepEqual(await mesh.healthy(), [])
    await load.more(200)
    await vm1.startAgent()
    await vm2.startAgent()
    await until(
      'the agents to be connected again',
      async () => {
        const all = await Promise.all(mesh.vms.map((vm) => vm.status()))
        return all.every(({ registry }) => registry.connected && registry.registered)
      },
      60_000,
    )
    await until('all to be healthy', async () => (await mesh.healthy()).join() === 'vm1,vm2', 60_000)
    await load.more(200)
    await load.stop()
    // Those under way on the proxy that was stopped, at most.
    assert.ok(before <= 2, load.failed.join('\n'))
    assert.deepEqual(load.failed.slice(before), [])
    await mesh.weigh({ v1: 0, v2: 100 })
    await mesh.answering(vm3, ['v2'], {}, 60_000)
  },
)

recorded('control down: traffic goes on, renewals wait and recover', async (recorder) => {
  await using mesh = await Mesh.start(recorder, { leafSeconds: 24 })
  const [vm1, , vm3] = await mesh.usual()
  const load = mesh.load(vm3, { as: 1 })
  await mesh.control.stop()
  await assert.rejects(vm1.agent?.renew(true) ?? assert.fail(), { code: 'MSH0401' })
  await until(
    'the report to say so, after three quarters of their life',
    async () => {
      const { report } = await vm1.status()
      return report.problems.some((problem) => problem.includes('due and not renewed'))
    },
    60_000,
  )
  await load.more(100)
  const before = (await vm1.status()).report.certificateNotAfter
  await mesh.control.start()
  await until(
    'vm1 to have a later certificate',
    async () => {
      const { report } = await vm1.status()
      return report.certificateNotAfter > before
    },
    60_000,
  )
  await until('all hosts to be registered', async () => (await vm1.status()).registry.registered, 60_000)
  await load.more(100)
  await load.stop()
  assert.deepEqual(load.failed, [])
  // A host that joins only now.
  await mesh.host('vm4', [web('v3')])
  await mesh.answering(vm3, ['v1', 'v2', 'v3'], {}, 60_000)
})
