import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { constant, Scratch, sizeOf } from '../../src/proxy/codec/scratch.ts'

/** Text of one character a byte. */
const text = fc.string({
  unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)),
  maxLength: 50,
})

/** What `write` has written from `at` on, and nothing before it. */
function written(scratch: Scratch, at: number, write: (at: number) => number): string {
  scratch.bytes.fill(0xee, 0, at)
  const end = write(at)
  assert.ok(scratch.bytes.subarray(0, at).every((byte) => byte === 0xee))
  return scratch.bytes.latin1Slice(at, end)
}

test('text, constants and fields are written as they are, wherever they begin', () => {
  fc.assert(
    fc.property(text, text, fc.nat(9), (first, second, at) => {
      const scratch = new Scratch()
      assert.equal(
        written(scratch, at, (from) => scratch.put(first, from)),
        first,
      )
      assert.equal(
        written(scratch, at, (from) => scratch.constant(constant(first), from)),
        first,
      )
      assert.equal(
        written(scratch, at, (from) => scratch.field(first, second, from)),
        `${first}: ${second}\r\n`,
      )
    }),
  )
})

test('a host and pairs are the same the first, second and third time, and after others', () => {
  fc.assert(
    fc.property(fc.array(text, { maxLength: 6 }), fc.array(fc.nat(2), { maxLength: 12 }), (texts, turns) => {
      const scratch = new Scratch()
      // Three arrays of pairs and three hosts, in any order.
      const sets = [texts.slice(0, texts.length & ~1), ['a', 'b'], []]
      const hosts = [texts[0] ?? 'web', 'web', 'shop:8080']
      for (const turn of turns) {
        const pairs = sets[turn]!
        let lines = ''
        for (let i = 0; i < pairs.length; i += 2) lines += `${pairs[i]}: ${pairs[i + 1]}\r\n`
        const found = written(scratch, 3, (at) => scratch.fields(pairs, at))
        assert.equal(found, lines)
        assert.ok(found.length <= sizeOf(pairs))
        assert.equal(
          written(scratch, 3, (at) => scratch.host(hosts[turn]!, at)),
          `host: ${hosts[turn]!}\r\n`,
        )
      }
    }),
  )
})

test('a beginning is of the buffer that is there, of its length', () => {
  const scratch = new Scratch()
  scratch.put('first', 0)
  const five = scratch.upTo(5)
  assert.equal(five.latin1Slice(), 'first')
  assert.equal(scratch.upTo(5), five)
  // The same place in the list.
  assert.equal(scratch.upTo(69).length, 69)
  assert.equal(scratch.upTo(5).length, 5)
  scratch.renew(scratch.bytes.length)
  scratch.put('other', 0)
  assert.equal(scratch.upTo(5).latin1Slice(), 'other')
  assert.equal(five.latin1Slice(), 'first')
})

test('there is always room for what was asked for and the lines that we add', () => {
  const scratch = new Scratch()
  const before = scratch.bytes
  scratch.room(100)
  assert.equal(scratch.bytes, before)
  scratch.room(100_000)
  assert.ok(scratch.bytes.length >= 104_096)
})
