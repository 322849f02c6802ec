// The chunk scanner alone: ends, trailers, counts, limits.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChunkScanner } from '../../src/wire/chunk.ts'
import { faultName } from '../../src/wire/fault.ts'

const scan = (text: string): { end: number; scanner: ChunkScanner } => {
  const scanner = new ChunkScanner()
  const buf = Buffer.from(`##${text}`, 'latin1')
  const end = scanner.feed(buf, 2, buf.length)
  return { end: end > 0 ? end - 2 : end, scanner }
}

test('the end is just behind the final empty line, what follows is not touched', () => {
  assert.equal(scan('0\r\n\r\nGET').end, 5)
  assert.equal(scan('3\r\nabc\r\n0\r\nA: b\r\n\r\nGET').end, 19)
  assert.equal(scan('3\r\nabc\r\n0\r\n\r').end, -1)
})

test('a scanner is ready again after reset, whatever it met', () => {
  const scanner = new ChunkScanner()
  const bad = Buffer.from('z')
  assert.ok(scanner.feed(bad, 0, 1) < -1)
  scanner.reset()
  const good = Buffer.from('2\r\nok\r\n0\r\n\r\n')
  assert.equal(scanner.feed(good, 0, good.length), good.length)
  assert.equal(scanner.data, 2)
  assert.equal(scanner.hasTrailer, false)
})

test('the trailer section is shown to callers that cut it off, however it is split', () => {
  const text = '3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n'
  const first = text.indexOf('X-Sum')
  const whole = scan(text)
  assert.equal(whole.scanner.trailer, first + 2)
  assert.equal(whole.scanner.hasTrailer, true)
  for (let cut = 1; cut < text.length; cut++) {
    const scanner = new ChunkScanner()
    let kept = ''
    for (const part of [text.slice(0, cut), text.slice(cut)]) {
      const buf = Buffer.from(part)
      const end = scanner.feed(buf, 0, buf.length)
      assert.ok(end >= -1)
      kept += part.slice(0, scanner.trailer >= 0 ? scanner.trailer : part.length)
    }
    assert.equal(kept, '3\r\nabc\r\n0\r\n', `cut at ${cut}`)
  }
})

test('chunks of one byte are allowed while their framing stays within bounds of Go and nginx', () => {
  const { end, scanner } = scan(`${'1\r\nx\r\n'.repeat(20000)}0\r\n\r\n`)
  assert.ok(end > 0)
  assert.equal(scanner.data, 20000)
})

test('a size of 13 digits is counted exactly, one more is refused', () => {
  assert.equal(scan('fffffffffffff\r\nabc').end, -1)
  assert.equal(faultName(scan('10000000000000\r\n').end), 'chunk_overflow')
  assert.equal(faultName(scan('00000000000001\r\n').end), 'chunk_overflow')
})

test('sizes that together pass 2^53 are refused before their data', () => {
  const scanner = new ChunkScanner()
  scanner.data = Number.MAX_SAFE_INTEGER - 2
  const buf = Buffer.from('5\r\n')
  assert.equal(faultName(scanner.feed(buf, 0, 3)), 'chunk_overflow')
})
