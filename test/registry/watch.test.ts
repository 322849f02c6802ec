import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeClock } from '../../src/clock.ts'
import type { Indexed, Query } from '../../src/registry/registry.ts'
import { watch } from '../../src/registry/watch.ts'

/** A registry that answers when the test says so. */
class Script {
  readonly asked: Query[] = []
  #next: PromiseWithResolvers<Indexed<string>> | null = null

  readonly poll = (query: Query): Promise<Indexed<string>> => {
    this.asked.push(query)
    this.#next = Promise.withResolvers<Indexed<string>>()
    query.signal?.addEventListener('abort', () => this.#next?.reject(new Error('aborted')))
    return this.#next.promise
  }

  async answer(index: string, value: string): Promise<void> {
    this.#next?.resolve({ index, value })
    await settle()
  }

  async fail(): Promise<void> {
    this.#next?.reject(new Error('away'))
    await settle()
  }
}

/** Lets everything that is ready run. */
const settle = () => new Promise((resolve) => setImmediate(resolve))

function start(options: { random?: () => number; index?: string } = {}) {
  const script = new Script()
  const clock = new FakeClock()
  const abort = new AbortController()
  const told: string[] = []
  const errors: unknown[] = []
  const ended = watch({
    poll: script.poll,
    changed: (value) => told.push(value),
    failed: (error) => errors.push(error),
    clock,
    signal: abort.signal,
    random: options.random ?? (() => 1),
    ...(options.index === undefined ? {} : { index: options.index }),
  })
  return { script, clock, abort, told, errors, ended }
}

test('the index is carried on; the same index is no news', async () => {
  const { script, clock, abort, told, ended } = start()
  assert.equal(script.asked[0]?.index, '0')
  await script.answer('5', 'a')
  clock.advance(250)
  await settle()
  assert.equal(script.asked[1]?.index, '5')
  clock.advance(60_000)
  await script.answer('5', 'a')
  assert.equal(script.asked[2]?.index, '5')
  assert.deepEqual(told, ['a'])
  abort.abort()
  await ended
})

test('an index that went back is read anew from the start', async () => {
  const { script, clock, abort, told, ended } = start({ index: '90' })
  assert.equal(script.asked[0]?.index, '90')
  await script.answer('7', 'restored')
  await settle()
  assert.equal(script.asked[1]?.index, '0', 'at once')
  assert.deepEqual(told, [])
  await script.answer('7', 'restored')
  assert.deepEqual(told, ['restored'])
  clock.advance(250)
  await settle()
  assert.equal(script.asked[2]?.index, '7')
  abort.abort()
  await ended
})

test('errors are waited out with growing pauses up to a limit, and forgotten after an answer', async () => {
  const { script, clock, abort, errors, ended } = start()
  let asked = 1
  for (const pause of [250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000]) {
    await script.fail()
    clock.advance(pause - 1)
    await settle()
    assert.equal(script.asked.length, asked, `not before ${pause} ms`)
    clock.advance(1)
    await settle()
    assert.equal(script.asked.length, ++asked, `after ${pause} ms`)
  }
  assert.equal(errors.length, 8)
  await script.answer('3', 'back')
  clock.advance(250)
  await settle()
  await script.fail()
  clock.advance(250)
  await settle()
  assert.equal(script.asked.length, asked + 2)
  abort.abort()
  await ended
})

test('watchers that failed together do not come back together', async () => {
  const at = async (random: number): Promise<number> => {
    const { script, clock, abort, ended } = start({ random: () => random })
    await script.fail()
    let ms = 0
    while (script.asked.length < 2 && ms < 1000) {
      clock.advance(1)
      ms++
      await settle()
    }
    abort.abort()
    await ended
    return ms
  }
  const times = await Promise.all([at(0), at(0.5), at(1)])
  assert.deepEqual(times, [125, 188, 250])
})

test('a storm of changes is slowed to four reads a second', async () => {
  const { script, clock, abort, told, ended } = start()
  await script.answer('1', 'a')
  clock.advance(249)
  await settle()
  assert.equal(script.asked.length, 1)
  clock.advance(1)
  await settle()
  assert.equal(script.asked.length, 2)
  await script.answer('9', 'latest')
  assert.deepEqual(told, ['a', 'latest'])
  abort.abort()
  await ended
})

test('the end comes at once, in the middle of a query or of a pause', async () => {
  const inQuery = start()
  inQuery.abort.abort()
  await inQuery.ended
  assert.deepEqual(inQuery.errors, [])
  const inPause = start()
  await inPause.script.fail()
  inPause.abort.abort()
  await inPause.ended
})
