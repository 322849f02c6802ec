// The chunk reader alone: ends, data, trailers, counts, limits.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChunkReader } from '../../src/wire/chunk.ts'
import { faultName } from '../../src/wire/fault.ts'

/** Where the message ends, -1: not in these bytes, or a fault; `body`: its data. */
function readAll(reader: ChunkReader, buf: Buffer, start: number): { end: number; body: string } {
  let body = ''
  let at = start
  while (at < buf.length) {
    at = reader.read(buf, at, buf.length)
    if (at < 0) return { end: at, body }
    body += buf.latin1Slice(reader.from, reader.to)
    if (reader.isDone) return { end: at, body }
  }
  return { end: -1, body }
}

const scan = (text: string): { end: number; body: string; reader: ChunkReader } => {
  const reader = new ChunkReader()
  const { end, body } = readAll(reader, Buffer.from(`##${text}`, 'latin1'), 2)
  return { end: end > 0 ? end - 2 : end, body, reader }
}

test('the end is just behind the final empty line, what follows is not touched', () => {
  assert.equal(scan('0\r\n\r\nGET').end, 5)
  assert.equal(scan('3\r\nabc\r\n0\r\nA: b\r\n\r\nGET').end, 19)
  assert.equal(scan('3\r\nabc\r\n0\r\n\r').end, -1)
})

test('a reader is ready again after reset, whatever it met', () => {
  const reader = new ChunkReader()
  assert.ok(reader.read(Buffer.from('z'), 0, 1) < -1)
  reader.reset()
  const good = Buffer.from('2\r\nok\r\n0\r\n\r\n')
  assert.deepEqual(readAll(reader, good, 0), { end: good.length, body: 'ok' })
  assert.equal(reader.data, 2)
  assert.equal(reader.trailers, null)
})

test('data and trailer section come out whole, however the message is split', () => {
  const text = '3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nX-Sum: 1\r\n\r\n'
  for (let cut = 1; cut < text.length; cut++) {
    for (let second = cut; second < text.length; second++) {
      const reader = new ChunkReader()
      let body = ''
      for (const part of [text.slice(0, cut), text.slice(cut, second), text.slice(second)]) {
        const read = readAll(reader, Buffer.from(part), 0)
        assert.ok(read.end >= -1)
        body += read.body
      }
      assert.equal(body, 'abcdefg')
      assert.equal(reader.trailers?.toString('latin1'), 'X-Sum: 1\r\n\r\n', `cut at ${cut} and ${second}`)
      assert.ok(reader.isDone)
    }
  }
})

test('chunks of one byte are allowed while their framing stays within bounds of Go and nginx', () => {
  const { end, reader } = scan(`${'1\r\nx\r\n'.repeat(20000)}0\r\n\r\n`)
  assert.ok(end > 0)
  assert.equal(reader.data, 20000)
})

test('a size of 13 digits is counted exactly, one more is refused', () => {
  assert.equal(scan('fffffffffffff\r\nabc').end, -1)
  assert.equal(faultName(scan('10000000000000\r\n').end), 'chunk_overflow')
  assert.equal(faultName(scan('00000000000001\r\n').end), 'chunk_overflow')
})

test('sizes that together pass 2^53 are refused before their data', () => {
  const reader = new ChunkReader()
  reader.data = Number.MAX_SAFE_INTEGER - 2
  const buf = Buffer.from('5\r\n')
  assert.equal(faultName(reader.read(buf, 0, 3)), 'chunk_overflow')
})
