import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Grace, graceMs } from '../../src/agent/grace.ts'
import { FakeClock } from '../../src/clock.ts'
import type { MeshInstance } from '../../src/model/instance.ts'
import { meshInstance } from '../../src/registry/catalogue.ts'
import type { Instance } from '../../src/registry/registry.ts'

const passing = (node: number): Instance => told(node, {})
const lapsed = (node: number): Instance => told(node, { 'meshctl-lease': 'critical' })

function told(node: number, failing: Readonly<Record<string, string>>): Instance {
  const checks = { 'service:web': 'passing', ...failing }
  return {
    node: `vm${node}`,
    nodeAddress: `10.0.0.${node}`,
    id: 'web',
    service: 'web',
    address: `10.0.0.${node}`,
    port: 8080,
    tags: [],
    meta: {},
    passing: Object.values(checks).every((status) => status === 'passing'),
    checks: Object.entries(checks).map(([id, status]) => ({ id, status, output: '' })),
  }
}

function counted(instances: readonly Instance[]): MeshInstance[] {
  return instances.flatMap((instance) => meshInstance(instance, 'demo') ?? [])
}

const verdict = (instances: readonly Instance[]): boolean[] => instances.map((instance) => instance.passing)

function setup(): { clock: FakeClock; grace: Grace; ended: Map<string, boolean[]> } {
  const clock = new FakeClock()
  const ended = new Map<string, boolean[]>()
  const grace = new Grace(clock, (service, instances) => ended.set(service, verdict(instances)))
  return { clock, grace, ended }
}

const before = counted([passing(1), passing(2)])

test('without an outage a lapsed lease counts at once', () => {
  const { grace } = setup()
  assert.deepEqual(verdict(grace.judge('web', [lapsed(1), passing(2)], before)), [false, true])
})

test('after an outage lapsed leases are overlooked, and count when the time is over', () => {
  const { clock, grace, ended } = setup()
  grace.lost('watch')
  grace.found('watch')
  assert.deepEqual(verdict(grace.judge('web', [lapsed(1), lapsed(2)], before)), [true, true])
  clock.advance(graceMs - 1)
  assert.equal(ended.size, 0)
  clock.advance(1)
  assert.deepEqual([...ended], [['web', [false, false]]])
  assert.deepEqual(verdict(grace.judge('web', [lapsed(1), passing(2)], before)), [false, true])
})

test('an answer that comes while writing still fails is judged as after the outage', () => {
  const { grace } = setup()
  grace.lost('lease')
  assert.deepEqual(verdict(grace.judge('web', [lapsed(1)], before)), [true])
})

test('hosts that are back in time are not told again', () => {
  const { clock, grace, ended } = setup()
  grace.lost('watch')
  grace.found('watch')
  grace.judge('web', [lapsed(1), lapsed(2)], before)
  grace.judge('api', [lapsed(1)], before)
  grace.judge('old', [lapsed(1)], before)
  grace.judge('web', [passing(1), passing(2)], before)
  grace.forget('old')
  clock.advance(graceMs)
  assert.deepEqual([...ended.keys()], ['api'])
})

test('both ways must be back; an outage that returns begins the time anew', () => {
  const { clock, grace, ended } = setup()
  grace.lost('watch')
  grace.lost('lease')
  grace.found('watch')
  grace.judge('web', [lapsed(1)], before)
  clock.advance(graceMs * 2)
  assert.equal(ended.size, 0)
  grace.found('lease')
  clock.advance(graceMs - 1)
  grace.lost('watch')
  clock.advance(graceMs)
  assert.equal(ended.size, 0)
  grace.found('watch')
  clock.advance(graceMs)
  assert.deepEqual([...ended], [['web', [false]]])
})

test('what is overlooked is only silence of a host that counted until now', () => {
  const { grace } = setup()
  grace.lost('watch')
  const failing = told(1, { 'service:web': 'critical', 'meshctl-lease': 'critical' })
  assert.deepEqual(verdict(grace.judge('web', [failing], before)), [false], 'its own check fails')
  assert.deepEqual(verdict(grace.judge('web', [lapsed(3)], before)), [false], 'nobody knew it')
  const gone = counted([lapsed(1), passing(2)])
  assert.deepEqual(
    verdict(grace.judge('web', [lapsed(1), lapsed(2)], gone)),
    [false, true],
    'it was gone before',
  )
  const serf = told(1, { serfHealth: 'critical' })
  assert.deepEqual(
    verdict(grace.judge('web', [serf], before)),
    [true],
    "a Consul agent's word is silence too",
  )
})

test('after stop nothing is told', () => {
  const { clock, grace, ended } = setup()
  grace.lost('watch')
  grace.found('watch')
  grace.judge('web', [lapsed(1)], before)
  grace.stop()
  clock.advance(graceMs)
  assert.equal(ended.size, 0)
})
