// Bad config meets a running mesh: it is named, and everything that worked goes on.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { keys } from '../../src/registry/registry.ts'
import { snapshotHash } from '../../src/snapshot/hash.ts'
import { connectPush } from '../../src/snapshot/push.ts'
import type { Snapshot } from '../../src/snapshot/types.ts'
import { until } from '../agent/running.ts'
import { virtualService } from '../compile/mesh.ts'
import { meshName } from './control.ts'
import { Mesh } from './mesh.ts'
import { recorded } from './recorder.ts'

recorded('bad resources in the registry are named and take nothing down', async (recorder) => {
  await using mesh = await Mesh.start(recorder)
  const [, , vm3] = await mesh.usual()
  await mesh.weigh({ v1: 100, v2: 0 })
  await mesh.answering(vm3, ['v1'])
  const load = mesh.load(vm3)
  const key = (kind: string, name: string): string => keys.resource(meshName, kind, 'default', name)
  const problems = async (text: RegExp): Promise<boolean> => {
    const { report } = await vm3.status()
    return report.problems.some((problem) => text.test(problem))
  }
  // As somebody with another tool might leave them.
  await mesh.registry.put(key('VirtualService', 'torn'), '{"apiVersion":')
  await mesh.registry.put(key('VirtualService', 'empty'), 'null')
  await mesh.registry.put(
    key('DestinationRule', 'other'),
    JSON.stringify(virtualService('other', { hosts: 7 })),
  )
  await mesh.put(
    virtualService('odd', {
      hosts: ['shop'],
      http: [{ route: [{ destination: { host: 'nowhere' }, weight: 'x' }] }],
    }),
  )
  await until('the torn one to be named', () => problems(/torn/))
  await until('the odd one to be named', () => problems(/odd/))
  await mesh.answering(vm3, ['v1'])
  // What is right goes on to take effect beside them.
  await mesh.weigh({ v1: 0, v2: 100 })
  await mesh.answering(vm3, ['v2'])
  await load.stop()
  assert.deepEqual(load.failed, [])
  for (const name of ['torn', 'empty']) await mesh.registry.delete(key('VirtualService', name))
  await until('the torn one to be forgotten', async () => !(await problems(/torn|empty/)))
})

recorded(
  'a snapshot that the proxy rejects changes nothing, neither in memory nor on disk',
  async (recorder) => {
    await using mesh = await Mesh.start(recorder)
    const [, , vm3] = await mesh.usual()
    await mesh.weigh({ v1: 100, v2: 0 })
    await mesh.answering(vm3, ['v1'])
    const load = mesh.load(vm3)
    const path = join(vm3.place.paths.proxyState, 'snapshot.json')
    const stored = (): Snapshot => JSON.parse(readFileSync(path, 'utf8')) as Snapshot
    await until('what is in force to be on disk', () => stored().hash === vm3.proxy?.hash)
    const good = stored()
    // Somebody else at the socket: a hash that lies, and routes that lead to clusters that are not there.
    const push = connectPush(vm3.place.paths.proxySocket)
    const broken = { ...good, clusters: [], hash: '' }
    for (const snapshot of [
      { ...good, host: 'other' },
      { ...broken, hash: snapshotHash(broken) },
    ]) {
      assert.equal((await push.send({ type: 'snapshot', snapshot }, 5000)).type, 'rejected')
    }
    push.close()
    assert.equal(vm3.proxy?.hash, good.hash)
    await mesh.answering(vm3, ['v1'])
    // The agent's own next one is refused, as by a proxy of another version.
    const { proxy } = vm3
    proxy.refusal = 'not understood'
    await mesh.weigh({ v1: 0, v2: 100 })
    await until('the agent to report it', async () => {
      const { report } = await vm3.status()
      return (
        report.proxy === 'rejected' && report.problems.some((problem) => problem.includes('not understood'))
      )
    })
    await mesh.answering(vm3, ['v1'])
    await until('the good one to be back on disk', () => stored().hash === good.hash)
    await load.stop()
    assert.deepEqual(load.failed, [])
    // The next change is tried again.
    proxy.refusal = null
    await mesh.weigh({ v1: 50, v2: 50 })
    await until('it to be in force', async () => (await vm3.status()).report.proxy === 'ok')
    await mesh.answering(vm3, ['v1', 'v2'])
  },
)
