import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeClock } from '../../../src/clock.ts'
import { Waits } from '../../../src/registry/embedded/waits.ts'
import type { Answer, Watch } from '../../../src/registry/embedded/waits.ts'

function watchOf(topic: string, question = topic) {
  const state = { index: 1, reads: 0 }
  const watch: Watch = {
    topic,
    question,
    read: (): Answer => {
      state.reads++
      return { status: 200, index: state.index, type: '', body: Buffer.alloc(0) }
    },
  }
  return { watch, state }
}

test('ten thousand who wait for the same cost one read', () => {
  const waits = new Waits(new FakeClock())
  const { watch, state } = watchOf('prefix:config/')
  let answered = 0
  for (let at = 0; at < 10_000; at++) waits.wait(watch, 1, 60_000, () => answered++)
  assert.equal(waits.size, 10_000)
  state.index = 2
  waits.wake(new Set(['key:config/a', 'key:config/b']))
  assert.equal(answered, 10_000)
  assert.equal(state.reads, 1)
  assert.equal(waits.size, 0)
})

test('only those are woken whom it concerns', () => {
  const waits = new Waits(new FakeClock())
  const woken: string[] = []
  for (const topic of [
    'prefix:a/',
    'prefix:a/b',
    'prefix:b/',
    'key:a/b',
    'key:a/bc',
    'service:web',
    'nodes',
  ]) {
    const { watch, state } = watchOf(topic)
    state.index = 5
    waits.wait(watch, 1, 1000, () => woken.push(topic))
  }
  waits.wake(new Set(['key:a/bc']))
  assert.deepEqual(woken.splice(0).toSorted(), ['key:a/bc', 'prefix:a/', 'prefix:a/b'])
  waits.wake(new Set(['service:web', 'services']))
  assert.deepEqual(woken.splice(0), ['service:web'])
  assert.equal(waits.size, 3)
})

test('a wake that brings nothing new to a waiter leaves it waiting', () => {
  const waits = new Waits(new FakeClock())
  const { watch, state } = watchOf('nodes')
  const answered: number[] = []
  state.index = 7
  waits.wait(watch, 7, 1000, () => answered.push(7))
  waits.wait(watch, 6, 1000, () => answered.push(6))
  waits.wake(new Set(['nodes']))
  assert.deepEqual(answered, [6])
})

test('time runs out for each by itself; who left is not answered', () => {
  const clock = new FakeClock()
  const waits = new Waits(clock)
  const { watch } = watchOf('nodes')
  const answered: string[] = []
  waits.wait(watch, 1, 1000, () => answered.push('short'))
  waits.wait(watch, 1, 2000, () => answered.push('long'))
  const forget = waits.wait(watch, 1, 500, () => answered.push('gone'))
  forget()
  clock.advance(1000)
  assert.deepEqual(answered, ['short'])
  clock.advance(1000)
  assert.deepEqual(answered, ['short', 'long'])
  assert.equal(waits.size, 0)
})
