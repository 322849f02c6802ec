// HPACK encoding: what repeats becomes an index, what does not stays out of the table, and any decoder reads it.
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { Head } from '../../../src/wire/head.ts'
import { hashOf } from '../../../src/wire/bytes.ts'
import { idOf } from '../../../src/wire/names.ts'
import { parseRequest } from '../../../src/wire/http1.ts'
import { HpackDecoder } from '../../../src/wire/h2/decoder.ts'
import { HpackEncoder } from '../../../src/wire/h2/encoder.ts'
import { Fields } from '../../../src/wire/h2/fields.ts'
import { literal, ReferenceDecoder } from './reference.ts'
import type { Plain } from './reference.ts'

const limits = { maxFields: 1000, maxListBytes: 1 << 20, maxTableBytes: 4096 }

type How = 'text' | 'secret' | 'bytes' | 'field'
type Sent = [name: string, value: string, how?: How]

/** An encoder with a plain decoder behind it. */
class Link {
  readonly encoder: HpackEncoder
  readonly plain: ReferenceDecoder
  readonly out = Buffer.alloc(65536)

  constructor(ours: number = 4096, theirs: number = 4096) {
    this.encoder = new HpackEncoder(ours)
    this.plain = new ReferenceDecoder(Math.max(theirs, 4096))
    if (theirs !== 4096) this.encoder.setPeerTableBytes(theirs)
  }

  send(...sent: Sent[]): Plain[] {
    const { encoder, out } = this
    let at = encoder.begin(out, 3)
    assert.ok(at <= 3 + 16)
    for (const [name, value, how = 'text'] of sent) {
      const from = at
      if (how === 'bytes') at = sendBytes(encoder, out, at, name, value)
      else if (how === 'field') at = encoder.field(out, at, fieldOf(name, value))
      else at = encoder.text(out, at, name, value, how === 'secret')
      assert.ok(at - from <= name.length + value.length + 16, 'no more than its bound')
    }
    const plain = this.plain.decode(Buffer.from(out.subarray(3, at)))
    assert.deepEqual(
      plain.map((field) => [field.name, field.value]),
      sent.map(([name, value]) => [name.toLowerCase(), value]),
    )
    return plain
  }

  kinds(...sent: Sent[]): string {
    return this.send(...sent)
      .map((field) => field.as)
      .join(' ')
  }
}

function sendBytes(encoder: HpackEncoder, out: Buffer, at: number, name: string, value: string): number {
  const buf = Buffer.from(`##${name}: ${value}\r\n`, 'latin1')
  const hash = hashOf(name.toLowerCase())
  const behind = 2 + name.length
  const id = idOf(hash, buf, 2, behind)
  return encoder.bytes(out, at, buf, 2, behind, behind + 2, buf.length - 2, hash, id)
}

function fieldOf(name: string, value: string): Fields['items'][number] {
  const block = literal(0, name, value)
  const fields = new Fields()
  assert.equal(new HpackDecoder(limits).decode(block, 0, block.length, fields), 0)
  return fields.items[0]!
}

suite('policy', () => {
  for (const how of ['text', 'bytes', 'field'] as const) {
    test(`a field is stored the second time and an index from the third on, as ${how}`, () => {
      const link = new Link()
      const kinds = [1, 2, 3, 4].map(() => link.kinds(['user-agent', 'curl/8.1', how]))
      assert.deepEqual(kinds, ['plain', 'indexing', 'indexed', 'indexed'])
    })

    test(`values that never repeat leave the table alone, as ${how}`, () => {
      const link = new Link()
      for (let i = 0; i < 3; i++) link.send(['user-agent', 'curl/8.1', how])
      for (let i = 0; i < 500; i++) link.send(['x-request-id', `7d7d1c${i * 7919}${i}`, how])
      assert.equal(link.kinds(['user-agent', 'curl/8.1', how]), 'indexed')
      // One entry holds the name, so that it is not sent again and again.
      assert.equal(link.plain.table.filter(([name]) => name === 'x-request-id').length, 1)
    })

    test(`credentials are never stored, as ${how}`, () => {
      const link = new Link()
      for (const name of ['authorization', 'cookie', 'set-cookie', 'proxy-authorization']) {
        const sent: Sent = [name, 'secret', how === 'text' ? 'secret' : how]
        for (let i = 0; i < 3; i++) assert.equal(link.kinds(sent), 'never')
      }
      assert.equal(link.plain.table.length, 0)
    })
  }

  test('the three ways find each other, names in any case', () => {
    const link = new Link()
    link.send(['x-tenant', 'blue', 'text'])
    link.send(['X-Tenant', 'blue', 'bytes'])
    assert.equal(
      link.kinds(['X-TENANT', 'blue', 'bytes'], ['x-tenant', 'blue', 'field'], ['x-tenant', 'blue', 'text']),
      'indexed indexed indexed',
    )
  })

  test('what the static table has is an index at once', () => {
    const link = new Link()
    const kinds = link.kinds(
      [':method', 'GET'],
      [':method', 'POST'],
      [':scheme', 'https'],
      [':path', '/'],
      ['accept-encoding', 'gzip, deflate'],
      ['Accept-Encoding', 'gzip, deflate', 'bytes'],
      ['accept-encoding', 'gzip, deflate', 'field'],
      ['Accept-Charset', '', 'bytes'],
    )
    assert.equal(kinds, 'indexed indexed indexed indexed indexed indexed indexed indexed')
    const out = Buffer.alloc(64)
    for (const status of [200, 204, 206, 304, 400, 404, 500]) {
      assert.equal(link.encoder.status(out, 0, status), 1)
      assert.deepEqual(link.plain.decode(out.subarray(0, 1)), [
        { name: ':status', value: String(status), as: 'indexed' },
      ])
    }
  })

  test('pseudo fields: the last value by memory, others by search, gone ones anew', () => {
    const link = new Link()
    for (let i = 0; i < 3; i++) link.send([':path', '/a'], [':path', '/b'], [':status', '201'])
    assert.equal(
      link.kinds([':path', '/b'], [':path', '/b'], [':path', '/a'], [':status', '201']),
      'indexed indexed indexed indexed',
    )
    link.encoder.setPeerTableBytes(0)
    assert.equal(link.kinds([':path', '/a'], [':status', '201']), 'plain plain')
    link.encoder.setPeerTableBytes(4096)
    assert.equal(link.kinds([':path', '/a']), 'indexing')
    assert.equal(link.kinds([':path', '/a']), 'indexed')
  })

  test('a field that was never indexed for the peer before us stays so', () => {
    const link = new Link()
    const block = literal(0x10, 'x-pin', '1234')
    const fields = new Fields()
    new HpackDecoder(limits).decode(block, 0, block.length, fields)
    for (let i = 0; i < 3; i++) {
      const at = link.encoder.field(link.out, 0, fields.items[0]!)
      assert.equal(link.plain.decode(link.out.subarray(0, at))[0]!.as, 'never')
    }
  })

  test('what would take a quarter of the table is not stored', () => {
    const link = new Link()
    for (let i = 0; i < 3; i++) assert.equal(link.kinds(['x-large', 'y'.repeat(1200)]), 'plain')
  })

  test('the head of an HTTP/1.1 request as the parser leaves it', () => {
    const bytes = Buffer.from('GET / HTTP/1.1\r\nHost: a\r\nX-A:  b \r\nUSER-AGENT: \xe9\r\n\r\n', 'latin1')
    const head = new Head()
    const used = parseRequest(bytes, 0, bytes.length, head, { maxHeadBytes: 1000, maxHeaders: 10 })
    assert.equal(used, bytes.length)
    const link = new Link()
    for (let i = 0; i < 3; i++) {
      link.send(['host', 'a', 'bytes'], ['X-A', 'b', 'bytes'], ['USER-AGENT', '\xe9', 'bytes'])
    }
  })
})

suite('table size', () => {
  test('changes are told before the next block, the smallest in between too', () => {
    const encoder = new HpackEncoder(4096)
    const out = Buffer.alloc(32)
    const begun = (): string => out.toString('hex', 0, encoder.begin(out, 0))
    assert.equal(begun(), '')
    encoder.setPeerTableBytes(65536)
    assert.equal(begun(), '', 'we do not use more than we want')
    encoder.setPeerTableBytes(100)
    assert.equal(begun(), '3f45')
    assert.equal(begun(), '')
    encoder.setPeerTableBytes(0)
    encoder.setPeerTableBytes(4096)
    assert.equal(begun(), '203fe11f')
    encoder.setPeerTableBytes(50)
    encoder.setPeerTableBytes(20)
    assert.equal(begun(), '34')
  })

  test('our own wish for less than the default is told at once, for more only when the peer allows', () => {
    const out = Buffer.alloc(32)
    assert.equal(out.toString('hex', 0, new HpackEncoder(0).begin(out, 0)), '20')
    const large = new HpackEncoder(16384)
    assert.equal(large.begin(out, 0), 0)
    large.setPeerTableBytes(1 << 30)
    assert.equal(out.toString('hex', 0, large.begin(out, 0)), '3fe17f')
  })

  test('a table raised and lowered between two blocks is empty on both sides', () => {
    const link = new Link()
    for (let i = 0; i < 3; i++) link.send(['a', 'b'])
    link.encoder.setPeerTableBytes(0)
    link.encoder.setPeerTableBytes(4096)
    assert.equal(link.kinds(['a', 'b']), 'indexing')
    assert.equal(link.plain.table.length, 1)
  })
})

test('eviction torture: tables of every small size, entries of every size', () => {
  const how = fc.constantFrom<How[]>('text', 'bytes', 'field', 'secret')
  // Few names and values, so that they repeat; some alike but for one byte.
  const name = fc.constantFrom('a', 'b-c', 'X-Abc', 'user-agent', 'x-abd')
  const value = fc.oneof(
    fc.constantFrom('', '1', '12', 'v'.repeat(20), `${'v'.repeat(10)}w${'v'.repeat(9)}`, 'z'.repeat(70)),
    fc.integer({ min: 0, max: 30 }).map((n) => `/${'p'.repeat(n)}`),
  )
  const sent = fc.tuple(name, value, how).map(([key, text, way]): Sent => {
    return [way === 'bytes' ? key : key.toLowerCase(), text, way]
  })
  const block = fc.tuple(
    fc.option(fc.constantFrom(0, 64, 150, 300, 1000, 4096), { freq: 8 }),
    fc.array(sent, { maxLength: 12, size: 'max' }),
  )
  fc.assert(
    fc.property(
      fc.constantFrom(0, 33, 200, 512, 4096, 10_000),
      fc.array(block, { minLength: 1, maxLength: 60, size: 'max' }),
      (ours, blocks) => {
        const link = new Link(ours)
        for (const [size, list] of blocks) {
          if (size !== null) link.encoder.setPeerTableBytes(size)
          link.send(...list)
        }
      },
    ),
    { numRuns: 300 },
  )
})

test('a hundred thousand fields through a small table: places are used again, numbers wrap', () => {
  const link = new Link(300)
  let state = 1
  for (let i = 0; i < 25_000; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    const pick = state >>> 27
    link.send(
      [`n-${pick & 3}`, `v${pick}`, 'bytes'],
      [`n-${pick & 7}`, `v${pick >> 1}`, 'text'],
      [':path', `/${pick & 1}`],
      [`n-${pick & 3}`, `v${pick}`],
    )
  }
})

test('our decoder reads our encoder, heads of a day', () => {
  const encoder = new HpackEncoder(4096)
  const decoder = new HpackDecoder(limits)
  const fields = new Fields()
  const out = Buffer.alloc(4096)
  const sizes: number[] = []
  for (let i = 0; i < 100; i++) {
    let at = encoder.begin(out, 0)
    at = encoder.text(out, at, ':method', 'GET', false)
    at = encoder.text(out, at, ':scheme', 'http', false)
    at = encoder.text(out, at, ':path', '/api/items?page=1', false)
    at = encoder.text(out, at, ':authority', 'web.default.mesh:8080', false)
    at = sendBytes(encoder, out, at, 'User-Agent', 'Mozilla/5.0 (X11; Linux x86_64)')
    at = sendBytes(encoder, out, at, 'Accept', '*/*')
    at = sendBytes(encoder, out, at, 'X-Request-Id', `0b1c2d3e-${i}`)
    sizes.push(at)
    assert.equal(decoder.decode(out, 0, at, fields), 0)
    assert.equal(fields.fault, 0)
    assert.equal(fields.path, '/api/items?page=1')
    assert.equal(fields.host, 'web.default.mesh:8080')
    assert.equal(fields.get('x-request-id'), `0b1c2d3e-${i}`)
  }
  assert.ok(sizes[99]! === 6 + 3 + 11, `${sizes[99]} bytes`)
})
