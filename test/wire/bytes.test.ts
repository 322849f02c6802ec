import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { LastText, text, textEnd, viewOf } from '../../src/wire/bytes.ts'

/** Bytes with the odd ones among them as often as the plain ones. */
const bytes = fc
  .array(fc.oneof(fc.integer({ min: 32, max: 126 }), fc.integer({ min: 0, max: 255 })), { maxLength: 40 })
  .map((values) => Buffer.from(values))

test('a view is of the buffer that is looked into, wherever it lies', () => {
  const whole = Buffer.from('0123456789')
  const part = whole.subarray(3, 7)
  assert.equal(viewOf(whole).getUint8(0), 0x30)
  assert.equal(viewOf(part).getUint8(0), 0x33)
  assert.equal(viewOf(part).byteLength, 4)
  assert.equal(viewOf(whole).getUint8(9), 0x39)
})

test('text ends where the first byte does that is none', () => {
  for (let byte = 0; byte < 256; byte++) {
    for (let at = 0; at < 9; at++) {
      const buf = Buffer.alloc(9, 'a')
      buf[at] = byte
      assert.equal(textEnd(buf, 0, 9), text[byte] === 0 ? at : 9, `byte ${byte} at ${at}`)
    }
  }
  fc.assert(
    fc.property(bytes, fc.nat(8), fc.nat(8), (buf, before, behind) => {
      const start = Math.min(before, buf.length)
      const end = Math.max(start, buf.length - behind)
      let at = start
      while (at < end && text[buf[at]!] !== 0) at++
      assert.equal(textEnd(buf, start, end), at)
    }),
  )
})

test('the last text is found by its bytes, all of them and no others', () => {
  fc.assert(
    fc.property(bytes, bytes, fc.nat(5), (first, second, shift) => {
      const last = new LastText()
      assert.equal(last.isAt(first, 0, first.length), false)
      const a = Buffer.concat([Buffer.alloc(shift), first, Buffer.from('  ')])
      const b = Buffer.concat([second, Buffer.from(' x')])
      assert.equal(last.keep(a, shift, shift + first.length, 'made'), 'made')
      assert.equal(last.isAt(first, 0, first.length), true)
      assert.equal(last.isAt(second, 0, second.length), first.equals(second))
      assert.equal(last.text, 'made')
      assert.equal(
        last.behind(a, shift, a.length),
        first.length === 0 ? -1 : shift + first.length,
        'nothing has nothing behind it',
      )
      const begins = first.length > 0 && b.subarray(0, first.length).equals(first) && b[first.length] === 32
      assert.equal(last.behind(b, 0, b.length), begins ? first.length : -1)
    }),
  )
})

test('the last text is not looked for beyond the end, nor kept when it is long', () => {
  const last = new LastText()
  const buf = Buffer.from('/path rest')
  last.keep(buf, 0, 5, '/path')
  assert.equal(last.behind(buf, 0, 10), 5)
  assert.equal(last.behind(buf, 0, 6), 5)
  // The space is not there yet.
  assert.equal(last.behind(buf, 0, 5), -1)
  assert.equal(last.behind(buf.subarray(0, 3), 0, 3), -1)
  const long = Buffer.alloc(257, 'a')
  last.keep(long, 0, 257, 'long')
  assert.equal(last.isAt(long, 0, 257), false)
  assert.equal(last.isAt(buf, 0, 5), false)
  last.keep(long, 0, 256, 'longest')
  assert.equal(last.isAt(long, 0, 256), true)
})
