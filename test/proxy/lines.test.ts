import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeClock } from '../../src/clock.ts'
import { Wheel } from '../../src/net/wheel.ts'
import { Lines } from '../../src/proxy/lines.ts'

function make(): { lines: Lines; out: string[]; clock: FakeClock } {
  const out: string[] = []
  const clock = new FakeClock()
  const sink = (text: Buffer, count: number): void => {
    const found = text.toString('latin1').split('\n')
    assert.equal(found.pop(), '')
    assert.equal(found.length, count)
    out.push(...found)
  }
  return { lines: new Lines(new Wheel(clock), sink), out, clock }
}

test('numbers, times and texts are written as JSON has them', () => {
  const { lines, out } = make()
  for (const value of [0, 9, 10, 1023, 999_999_999, 1_000_000_000, 2 ** 53 - 1]) {
    lines.int(value)
    lines.raw(' ')
  }
  lines.end()
  for (const value of [0, 0.0004, 0.0005, 1.5, 12.3456, 86_400_000.001]) {
    lines.milliseconds(value)
    lines.raw(' ')
  }
  lines.end()
  lines.time(Date.UTC(2026, 0, 2, 3, 4, 5, 6))
  lines.raw(' ')
  lines.time(Date.UTC(2026, 0, 2, 3, 4, 5, 987))
  lines.end()
  lines.flush()
  assert.deepEqual(out, [
    '0 9 10 1023 999999999 1000000000 9007199254740991 ',
    '0.000 0.000 0.001 1.500 12.346 86400000.001 ',
    '2026-01-02T03:04:05.006Z 2026-01-02T03:04:05.987Z',
  ])
})

test('what peers send stays one line of ASCII', () => {
  const { lines, out } = make()
  const texts = ['', 'plain', 'a"b\\c', 'line\nfeed\r\u001b[31m', '\u0085\u00e9', '\u0000', 'x'.repeat(500)]
  for (const text of texts) {
    lines.json(text)
    lines.end()
  }
  lines.flush()
  assert.deepEqual(
    out.map((line) => JSON.parse(line) as string),
    texts,
  )
  for (const line of out) assert.match(line, /^[\x20-\x7e]*$/)
})

test('lines are gathered for a moment, and go earlier where the room ends', () => {
  const { lines, out, clock } = make()
  lines.raw('one')
  lines.end()
  lines.raw('two')
  lines.end()
  assert.deepEqual(out, [])
  clock.advance(100)
  assert.deepEqual(out, ['one', 'two'])
  out.length = 0
  const wanted: string[] = []
  for (let i = 0; i < 300; i++) {
    wanted.push(`${i} ${'y'.repeat(i * 5)}`)
    lines.int(i)
    lines.raw(' ')
    lines.raw('y'.repeat(i * 5))
    lines.end()
  }
  assert.ok(out.length > 0)
  lines.flush()
  assert.deepEqual(out, wanted)
})

test('a line larger than all room goes whole, and the one before it too', () => {
  const { lines, out } = make()
  lines.raw('small')
  lines.end()
  const long = '/\u00ff'.repeat(60_000)
  lines.json(long)
  lines.end()
  lines.raw('after')
  lines.end()
  lines.flush()
  assert.equal(out[0], 'small')
  assert.equal(JSON.parse(out[1]!), long)
  assert.equal(out[2], 'after')
})
