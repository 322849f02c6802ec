import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeClock } from '../../src/clock.ts'
import { Pace } from '../../src/proxy/pace.ts'

test('a crowd is spread, a steady stream is not held up', () => {
  const clock = new FakeClock()
  const pace = new Pace(clock)
  const taken = (times: number): number =>
    Array.from({ length: times }, () => pace.taken()).filter((napped) => napped).length
  assert.equal(taken(1000), 64)
  clock.advance(10)
  assert.equal(taken(10), 0)
  clock.advance(490)
  assert.equal(taken(1000), 32)
  clock.advance(60_000)
  assert.equal(taken(1000), 64)
})
