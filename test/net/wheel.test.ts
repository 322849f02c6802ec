import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeClock } from '../../src/clock.ts'
import { backoff } from '../../src/net/backoff.ts'
import { Deadline, Wheel } from '../../src/net/wheel.ts'

class Owner {
  readonly fired: [number, number][] = []
  readonly #clock: FakeClock

  constructor(clock: FakeClock) {
    this.#clock = clock
  }

  expire(tag: number): void {
    this.fired.push([tag, this.#clock.monotonic()])
  }
}

test('deadlines fire once, never early, at most a tick late, also beyond one turn of the wheel', () => {
  const clock = new FakeClock()
  const wheel = new Wheel(clock)
  const owner = new Owner(clock)
  const times = [0, 1, 19, 20, 21, 500, 10_239, 10_240, 10_241, 25_000, 100_003]
  times.forEach((ms, tag) => wheel.arm(new Deadline(owner, tag), ms))
  clock.advance(200_000)
  assert.equal(owner.fired.length, times.length)
  for (const [tag, at] of owner.fired) {
    assert.ok(at >= times[tag]! && at <= times[tag]! + 40, `${times[tag]} fired at ${at}`)
  }
})

test('a cancelled deadline stays silent, an armed one can be moved', () => {
  const clock = new FakeClock()
  const wheel = new Wheel(clock)
  const owner = new Owner(clock)
  const cancelled = new Deadline(owner, 1)
  const moved = new Deadline(owner, 2)
  wheel.arm(cancelled, 100)
  wheel.arm(moved, 100)
  wheel.arm(moved, 300)
  wheel.cancel(cancelled)
  wheel.cancel(cancelled)
  clock.advance(250)
  assert.equal(owner.fired.length, 0)
  clock.advance(100)
  assert.deepEqual(
    owner.fired.map(([tag]) => tag),
    [2],
  )
  assert.equal(moved.armed, false)
})

test('a deadline may arm itself and others while it fires', () => {
  const clock = new FakeClock()
  const wheel = new Wheel(clock)
  let count = 0
  const deadline: Deadline = new Deadline(
    {
      expire: () => {
        count++
        if (count < 5) wheel.arm(deadline, 10)
      },
    },
    0,
  )
  wheel.arm(deadline, 10)
  clock.advance(1000)
  assert.equal(count, 5)
})

test('the timer sleeps while the next deadline is far, and wakes for one that is armed meanwhile', () => {
  const clock = new FakeClock()
  let timers = 0
  const wheel = new Wheel({
    now: () => clock.now(),
    monotonic: () => clock.monotonic(),
    after: (ms, run) => {
      timers++
      return clock.after(ms, run)
    },
    every: (ms, run) => clock.every(ms, run),
  })
  const owner = new Owner(clock)
  wheel.arm(new Deadline(owner, 1), 60_000)
  clock.advance(10_005)
  assert.ok(timers <= 101, `${timers} timers in ten seconds`)
  assert.ok(clock.monotonic() - wheel.now <= 101)
  wheel.arm(new Deadline(owner, 2), 30)
  clock.advance(71)
  assert.deepEqual(
    owner.fired.map(([tag]) => tag),
    [2],
  )
  clock.advance(60_000)
  assert.equal(owner.fired.length, 2)
  // Nothing is armed: it rests.
  const before = timers
  clock.advance(60_000)
  assert.equal(timers, before)
})

test('a wheel that is closed by a deadline stays still', () => {
  const clock = new FakeClock()
  const wheel = new Wheel(clock)
  const owner = new Owner(clock)
  wheel.arm(new Deadline({ expire: () => wheel.close() }, 0), 10)
  wheel.arm(new Deadline(owner, 1), 500)
  clock.advance(1000)
  assert.equal(owner.fired.length, 0)
  wheel.arm(new Deadline(owner, 2), 10)
  clock.advance(1000)
  assert.equal(owner.fired.length, 0, 'not even what comes late')
})

test('backoff grows to its limit and is never below half of it', () => {
  const options = { base: 100, max: 1000 }
  assert.deepEqual(
    [0, 1, 2, 3, 4, 100].map((attempt) => backoff(options, attempt, 0)),
    [50, 100, 200, 400, 500, 500],
  )
  assert.deepEqual(
    [0, 1, 2, 3, 4, 100].map((attempt) => backoff(options, attempt, 1)),
    [100, 200, 400, 800, 1000, 1000],
  )
})
