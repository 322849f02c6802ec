// HPACK decoding: the examples of RFC 7541 appendix C, blocks that end the connection, and bombs.
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { faultName } from '../../../src/wire/fault.ts'
import { HpackDecoder } from '../../../src/wire/h2/decoder.ts'
import { Fields } from '../../../src/wire/h2/fields.ts'
import { huffmanBits, listOf, literal, pack, prefixed, ReferenceDecoder } from './reference.ts'

const limits = { maxFields: 100, maxListBytes: 65536, maxTableBytes: 4096 }

function decode(decoder: HpackDecoder, block: Buffer): { fault: string; fields: Fields } {
  const fields = new Fields()
  // The block stands in the middle of other bytes, which must not matter.
  const buf = Buffer.concat([Buffer.from([0x82, 0xff]), block, Buffer.from([0x84, 0x0f])])
  const fault = decoder.decode(buf, 2, 2 + block.length, fields)
  buf.fill(0xaa)
  return { fault: fault === 0 ? '' : faultName(fault), fields }
}

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex')

suite('examples of RFC 7541', () => {
  const get = (scheme: string, path: string, ...more: [string, string][]): [string, string][] => [
    [':method', 'GET'],
    [':scheme', scheme],
    [':authority', 'www.example.com'],
    [':path', path],
    ...more,
  ]
  const requests = [
    get('http', '/'),
    get('http', '/', ['cache-control', 'no-cache']),
    get('https', '/index.html', ['custom-key', 'custom-value']),
  ]
  const response = (status: string, second: string, ...more: [string, string][]): [string, string][] => [
    [':status', status],
    ['cache-control', 'private'],
    ['date', `Mon, 21 Oct 2013 20:13:${second} GMT`],
    ['location', 'https://www.example.com'],
    ...more,
  ]
  const cookie = 'foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1'
  const responses = [
    response('302', '21'),
    response('307', '21'),
    response('200', '22', ['content-encoding', 'gzip'], ['set-cookie', cookie]),
  ]
  const examples: [string, string[], [string, string][][]][] = [
    [
      'C.2.1 literal with indexing',
      ['400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572'],
      [[['custom-key', 'custom-header']]],
    ],
    ['C.2.2 literal without indexing', ['040c 2f73 616d 706c 652f 7061 7468'], [[[':path', '/sample/path']]]],
    [
      'C.2.3 literal never indexed',
      ['1008 7061 7373 776f 7264 0673 6563 7265 74'],
      [[['password', 'secret']]],
    ],
    ['C.2.4 indexed', ['82'], [[[':method', 'GET']]]],
    [
      'C.3 requests without Huffman',
      [
        '8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d',
        '8286 84be 5808 6e6f 2d63 6163 6865',
        '8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65',
      ],
      requests,
    ],
    [
      'C.4 requests with Huffman',
      [
        '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff',
        '8286 84be 5886 a8eb 1064 9cbf',
        '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf',
      ],
      requests,
    ],
    [
      'C.5 responses without Huffman, a table of 256 bytes',
      [
        '3fe1 01 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 ' +
          '3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d',
        '4803 3330 37c1 c0bf',
        '88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 ' +
          '7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 ' +
          '6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31',
      ],
      responses,
    ],
    [
      'C.6 responses with Huffman, a table of 256 bytes',
      [
        '3fe1 01 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d ' +
          '29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3',
        '4883 640e ffc1 c0bf',
        '88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 ' +
          'e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07',
      ],
      responses,
    ],
  ]
  for (const [name, blocks, lists] of examples) {
    test(name, () => {
      const decoder = new HpackDecoder(limits)
      for (const [i, block] of blocks.entries()) {
        const { fault, fields } = decode(decoder, hex(block))
        assert.equal(fault, '')
        assert.equal(fields.fault, 0)
        assert.deepEqual(listOf(fields), lists[i])
      }
    })
  }

  test('a field that came as never indexed stays so', () => {
    const { fields } = decode(new HpackDecoder(limits), hex('1008 7061 7373 776f 7264 0673 6563 7265 74'))
    assert.equal(fields.items[0]!.isSensitive, true)
  })
})

suite('blocks that end the connection', () => {
  const bad: [string, string, Buffer][] = [
    ['index 0', 'hpack_index', hex('80')],
    ['an index behind the table', 'hpack_index', hex('be')],
    ['an index far behind the table', 'hpack_index', hex('ffff7f')],
    ['a literal whose name has such an index', 'hpack_index', hex('7f00 0161')],
    ['an index without its end', 'hpack_truncated', hex('ff')],
    ['an index without its end, continued', 'hpack_truncated', hex('ff80')],
    ['an integer that never ends', 'hpack_integer', hex('ff808080808080808001')],
    ['an integer padded by zeros', 'hpack_integer', hex('ff808080808000')],
    ['an integer above 2^32', 'hpack_integer', hex('ffffffffffff0f')],
    ['a length above 2^32', 'hpack_integer', hex('007fffffffff7f')],
    ['a literal without a name', 'hpack_truncated', hex('40')],
    ['a name longer than the block', 'hpack_truncated', hex('400561')],
    ['a literal without a value', 'hpack_truncated', hex('400161')],
    ['a value longer than the block', 'hpack_truncated', hex('4001610562')],
    ['a value of Huffman longer than the block', 'hpack_truncated', hex('400161a062')],
    ['a length without its end', 'hpack_truncated', hex('4001617f')],
    ['Huffman padding by zeros', 'hpack_huffman', hex('4001618100')],
    ['Huffman padding of eight bits', 'hpack_huffman', hex('40016182 1fff')],
    ['Huffman of padding only', 'hpack_huffman', hex('400161 81ff')],
    ['Huffman with EOS', 'hpack_huffman', hex('40016184 ffffffff')],
    ['Huffman with EOS in the middle', 'hpack_huffman', hex('40016185 fffffffc1f')],
    ['a table size above the announced', 'hpack_table_size', hex('3fe21f')],
    ['a table size update behind a field', 'hpack_table_size', hex('8220')],
    ['a table size without its end', 'hpack_truncated', hex('3f')],
  ]
  for (const [name, code, block] of bad) {
    test(name, () => {
      assert.equal(decode(new HpackDecoder(limits), block).fault, code)
      assert.throws(() => new ReferenceDecoder(4096).decode(block))
    })
  }

  test('every good block cut short is refused or a shorter block', () => {
    const block = hex('8287 85 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf 0401 2f ff00')
    for (let end = 0; end < block.length; end++) {
      let plain: unknown
      try {
        plain = new ReferenceDecoder(4096).decode(block.subarray(0, end)).length
      } catch {
        plain = 'fault'
      }
      const { fault, fields } = decode(new HpackDecoder(limits), block.subarray(0, end))
      assert.equal(fault === '' ? fields.total : 'fault', plain, `cut at ${end}`)
    }
  })
})

suite('table size', () => {
  const fill = Buffer.concat([literal(0x40, 'a', 'b'), literal(0x40, 'c', 'd')])

  test('an update to 0 empties the table', () => {
    const decoder = new HpackDecoder(limits)
    assert.equal(decode(decoder, fill).fault, '')
    assert.equal(decode(decoder, hex('be bf')).fields.count, 2)
    assert.equal(decode(decoder, hex('20 3fe11f')).fault, '')
    assert.equal(decode(decoder, hex('be')).fault, 'hpack_index')
  })

  test('an entry larger than the table empties it and is a field all the same', () => {
    const decoder = new HpackDecoder(limits)
    decode(decoder, Buffer.concat([prefixed(0x20, 5, 80), fill]))
    const { fields } = decode(decoder, literal(0x40, 'large', 'x'.repeat(44)))
    assert.deepEqual(listOf(fields), [['large', 'x'.repeat(44)]])
    assert.equal(decode(decoder, hex('be')).fault, 'hpack_index')
  })

  test('an entry may take its name from the one that it pushes out', () => {
    const decoder = new HpackDecoder(limits)
    decode(decoder, Buffer.concat([prefixed(0x20, 5, 40), literal(0x40, 'name', 'old')]))
    assert.deepEqual(listOf(decode(decoder, hex('7e 03 6e6577')).fields), [['name', 'new']])
    assert.deepEqual(listOf(decode(decoder, hex('be')).fields), [['name', 'new']])
  })

  test('a peer that was told of a smaller table must say that it has heard', () => {
    for (const [block, fault] of [
      [hex('82'), 'hpack_table_size'],
      [hex('0001610162'), 'hpack_table_size'],
      [hex('3fe11f'), 'hpack_table_size'],
      [hex('3f45 82'), ''],
      [hex('20 82'), ''],
    ] as const) {
      const decoder = new HpackDecoder({ ...limits, maxTableBytes: 100 })
      assert.equal(decode(decoder, hex('82')).fault, '', 'before it knows')
      decoder.acknowledged()
      assert.equal(decode(decoder, block).fault, fault)
    }
  })

  test('a table may be larger than the default, or none', () => {
    const large = new HpackDecoder({ ...limits, maxTableBytes: 65536 })
    const fields = Array.from({ length: 1500 }, (_, i) => literal(0x40, `n${i}`, 'v'))
    const block = Buffer.concat([prefixed(0x20, 5, 65536), ...fields])
    assert.equal(decode(large, block).fault, '')
    const last = decode(large, prefixed(0x80, 7, 62 + 1499)).fields
    assert.deepEqual(listOf(last), [['n0', 'v']])
    const none = new HpackDecoder({ ...limits, maxTableBytes: 0 })
    none.acknowledged()
    assert.equal(decode(none, Buffer.concat([hex('20'), fill, hex('be')])).fault, 'hpack_index')
  })
})

suite('bombs', () => {
  test('references to one large entry stop at the limit of size', () => {
    const decoder = new HpackDecoder({ ...limits, maxFields: 10_000 })
    decode(decoder, literal(0x40, 'x', 'y'.repeat(4000)))
    const { fault, fields } = decode(decoder, Buffer.alloc(16_000, 0xbe))
    assert.equal(fault, '')
    assert.equal(fields.isTooLarge, true)
    assert.equal(fields.count, 16)
  })

  test('references and cookie crumbs stop at the limit of count', () => {
    const decoder = new HpackDecoder(limits)
    decode(decoder, literal(0x40, 'cookie', ''))
    const { fields } = decode(decoder, Buffer.alloc(16_000, 0xbe))
    assert.equal(fields.isTooLarge, true)
    assert.equal(fields.count, 100)
    assert.equal(fields.items.length, 100)
  })

  test('behind the limit the table goes on, so that the next block reads right', () => {
    for (const isHuffman of [false, true]) {
      const decoder = new HpackDecoder({ ...limits, maxFields: 3 })
      const many = Array.from({ length: 40 }, (_, i) => literal(0x40, `n-${i}`, `v-${i}`, isHuffman))
      const thrown = Array.from({ length: 40 }, (_, i) => literal(0, `t-${i}`, `v-${i}`, isHuffman))
      assert.equal(decode(decoder, Buffer.concat([...many, ...thrown])).fields.isTooLarge, true)
      const { fields } = decode(decoder, hex('be bf c0'))
      assert.equal(fields.isTooLarge, false)
      assert.deepEqual(listOf(fields), [
        ['n-39', 'v-39'],
        ['n-38', 'v-38'],
        ['n-37', 'v-37'],
      ])
    }
  })

  test('a string that is larger than everything empties the table like any entry', () => {
    const small = { maxFields: 10, maxListBytes: 200, maxTableBytes: 4096 }
    for (const isHuffman of [false, true]) {
      for (const first of [0x40, 0x00]) {
        const decoder = new HpackDecoder(small)
        decode(decoder, literal(0x40, 'a', 'b'))
        const { fault, fields } = decode(decoder, literal(first, 'big', '0'.repeat(40_000), isHuffman))
        assert.equal(fault, '')
        assert.equal(fields.isTooLarge, true)
        assert.equal(decode(decoder, hex('be')).fault, first === 0x40 ? 'hpack_index' : '')
      }
    }
  })

  test('a megabyte of the worst bytes is dealt with in a moment', () => {
    const worst: Buffer[] = [
      Buffer.alloc(1 << 20, 0xbe),
      Buffer.concat(Array.from({ length: 1 << 18 }, () => hex('40 00 00'))).subarray(0, 1 << 20),
      Buffer.concat([hex('00 00'), prefixed(0x80, 7, (1 << 20) - 10), Buffer.alloc((1 << 20) - 10, 0)]),
      Buffer.alloc(1 << 20, 0x20),
    ]
    for (const block of worst) {
      const decoder = new HpackDecoder(limits)
      decode(decoder, literal(0x40, 'x', 'y'.repeat(4000)))
      const before = process.cpuUsage()
      const { fields } = decode(decoder, block)
      const { user, system } = process.cpuUsage(before)
      assert.ok(user + system < 500_000, `${user + system} us`)
      assert.ok(fields.count <= 100)
    }
  })
})

suite('what a table keeps', () => {
  test('one entry is one object in every head', () => {
    const decoder = new HpackDecoder(limits)
    const first = decode(decoder, literal(0x40, 'user-agent', 'curl')).fields.items[0]!
    assert.equal(decode(decoder, hex('be')).fields.items[0], first)
    assert.equal(first.line, 'user-agent: curl\r\n')
    assert.equal(first.line, first.line)
  })

  test('a malformed field spoils its message and not the connection', () => {
    const decoder = new HpackDecoder(limits)
    for (const block of [literal(0x40, 'Upper', 'x'), hex('be'), literal(0x40, 'a', 'x\ny'), hex('be')]) {
      const { fault, fields } = decode(decoder, block)
      assert.equal(fault, '')
      assert.notEqual(fields.fault, 0)
    }
    assert.equal(decode(decoder, hex('82')).fields.fault, 0)
  })
})

test('Huffman: every symbol, and every string as the plain decoder reads it', () => {
  const every = String.fromCharCode(...Array.from({ length: 256 }, (_, i) => i))
  const { fields } = decode(new HpackDecoder(limits), literal(0, 'a', every, true))
  assert.equal(fields.value(0), every)
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 12 }), fc.boolean(), (bytes, isText) => {
      const coded = isText ? pack(huffmanBits(Buffer.from(bytes).toString('latin1'))) : Buffer.from(bytes)
      const block = Buffer.concat([hex('000161'), prefixed(0x80, 7, coded.length), coded])
      let plain: string | undefined
      try {
        plain = new ReferenceDecoder(4096).decode(block)[0]!.value
      } catch {
        plain = undefined
      }
      const ours = decode(new HpackDecoder(limits), block)
      assert.equal(ours.fault === '' ? ours.fields.value(0) : undefined, plain)
    }),
    { numRuns: 2000 },
  )
})

test('blocks by chance: the same fields, the same table, the same refusals as the plain decoder', () => {
  const name = fc.constantFrom('a', 'x-b', 'cookie', 'user-agent', 'accept')
  const value = fc.string({ unit: 'grapheme-ascii', maxLength: 60 }).map((text) => `<${text}>`)
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.tuple(fc.constantFrom(0x40, 0x40, 0, 0x10), name, value, fc.boolean()) },
    { weight: 8, arbitrary: fc.nat(1000) },
    { weight: 1, arbitrary: fc.nat(20).map((n) => Buffer.from(n === 0 ? [0x40] : [0x82, 0x86])) },
  )
  const block = fc.tuple(
    fc.option(fc.constantFrom(0, 33, 100, 256, 4096), { freq: 4 }),
    fc.array(step, { maxLength: 20, size: 'max' }),
  )
  fc.assert(
    fc.property(fc.array(block, { maxLength: 12, size: 'max' }), (blocks) => {
      const ours = new HpackDecoder(limits)
      const plain = new ReferenceDecoder(4096)
      for (const [size, steps] of blocks) {
        const bytes = Buffer.concat([
          size === null ? Buffer.alloc(0) : prefixed(0x20, 5, size),
          ...steps.map((one) => {
            // Mostly an index that there is.
            if (typeof one === 'number') {
              return prefixed(0x80, 7, one > 990 ? one % 128 : 1 + (one % (61 + plain.table.length)))
            }
            return one instanceof Uint8Array ? Buffer.from(one) : literal(...one)
          }),
        ])
        let expected: [string, string][] | undefined
        try {
          expected = plain.decode(bytes).map((field) => [field.name, field.value])
        } catch {
          expected = undefined
        }
        const { fault, fields } = decode(ours, bytes)
        assert.equal(fault === '', expected !== undefined)
        if (expected === undefined) return
        assert.equal(fields.total, expected.length)
        assert.deepEqual(
          listOf(fields).filter(([key]) => !key.startsWith(':')),
          expected.filter(([key]) => !key.startsWith(':')),
        )
      }
    }),
    { numRuns: 600 },
  )
})
