// HPACK: the examples of RFC 7541, and what goes out comes in.
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { requestFault } from '../../../src/wire/h2/check.ts'
import { HpackDecoder } from '../../../src/wire/h2/decoder.ts'
import { HpackEncoder } from '../../../src/wire/h2/encoder.ts'
import { Fields } from '../../../src/wire/h2/fields.ts'

const limits = { maxFields: 100, maxListBytes: 65536, maxTableBytes: 4096 }

suite('what the encoder writes', () => {
  test('a repeated head shrinks to one byte a field, credentials aside', () => {
    const encoder = new HpackEncoder(4096)
    const decoder = new HpackDecoder(limits)
    const fields = new Fields()
    const out = Buffer.alloc(1024)
    const sizes: number[] = []
    for (let i = 0; i < 3; i++) {
      let at = encoder.begin(out, 0)
      at = encoder.text(out, at, ':method', 'GET', false)
      at = encoder.text(out, at, ':scheme', 'https', false)
      at = encoder.text(out, at, ':path', '/a?b', false)
      at = encoder.text(out, at, ':authority', 'Web:80', false)
      at = encoder.text(out, at, 'x-a', 'b', false)
      sizes.push(at)
      assert.equal(decoder.decode(out, 0, at, fields), 0)
      assert.equal(requestFault(fields), 0)
      assert.deepEqual([fields.method, fields.path, fields.host], ['GET', '/a?b', 'web'])
      assert.equal(fields.items[0]!.line, 'x-a: b\r\n')
    }
    assert.equal(sizes[2], 5)
  })
})
