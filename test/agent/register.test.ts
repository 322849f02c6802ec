import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Registrar } from '../../src/agent/register.ts'
import { FakeClock } from '../../src/clock.ts'
import { MeshError } from '../../src/errors.ts'
import { leaseEveryMs, type Registry } from '../../src/registry/registry.ts'
import { hostConfig } from '../compile/mesh.ts'
import { silent } from './place.ts'

/** A host without services, and a registry that answers as the test says. */
function setup(): {
  clock: FakeClock
  puts: PromiseWithResolvers<void>[]
  reached: boolean[]
  registrar: Registrar
} {
  const clock = new FakeClock()
  const puts: PromiseWithResolvers<void>[] = []
  const reached: boolean[] = []
  const registry: Partial<Registry> = {
    put: () => {
      const answer = Promise.withResolvers<void>()
      puts.push(answer)
      return answer.promise
    },
    // After the first look.
    nodeChecks: async () => {
      if (puts.length > 1) throw new MeshError('MSH0301', 'no answer')
      return []
    },
  }
  const registrar = new Registrar({
    config: hostConfig({ host: 'vm1', services: [] }),
    registry: registry as Registry,
    bootId: 'boot',
    clock,
    log: silent,
    health: () => [],
    reached: (isReached) => reached.push(isReached),
  })
  return { clock, puts, reached, registrar }
}

/** What is to happen after a promise has happened. */
const settled = (): Promise<void> => new Promise((done) => void setImmediate(done))

test('a registry that does not answer leaves no queue behind, and is told of before its deadline', async () => {
  const { clock, puts, reached, registrar } = setup()
  registrar.start()
  await settled()
  puts[0]?.resolve()
  await settled()
  assert.deepEqual(reached, [true])
  // The first beat of the timers gets no answer; a hundred more are due meanwhile.
  clock.advance(leaseEveryMs)
  await settled()
  assert.deepEqual([puts.length, reached.length], [2, 1])
  clock.advance(leaseEveryMs)
  assert.equal(reached.at(-1), false)
  clock.advance(leaseEveryMs * 100)
  puts[1]?.reject(new MeshError('MSH0301', 'no answer'))
  await settled()
  assert.equal(reached.at(-1), false)
  assert.equal(puts.length, 2)
  clock.advance(leaseEveryMs)
  await settled()
  puts[2]?.resolve()
  await settled()
  assert.equal(reached.at(-1), true)
  assert.equal(puts.length, 3)
  registrar.stop()
})

test('a registry that refuses has heard', async () => {
  const { puts, reached, registrar } = setup()
  registrar.start()
  await settled()
  puts[0]?.reject(new MeshError('MSH0302', 'denied'))
  await settled()
  assert.deepEqual(reached, [true])
  registrar.stop()
})
