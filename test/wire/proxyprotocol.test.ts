// PROXY headers of both versions in every cut, written and read again, and hostile ones.
import assert from 'node:assert/strict'
import { isIPv4, isIPv6 } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { plainAddress } from '../../src/net/addr.ts'
import { crc32c } from '../../src/wire/crc32c.ts'
import { ipBytes, ipText } from '../../src/wire/ip.ts'
import { proxyHeader, readProxyHeader, tlvTypes } from '../../src/wire/proxyprotocol.ts'
import type { ProxyHeader } from '../../src/wire/proxyprotocol.ts'

const read = (bytes: Buffer): ReturnType<typeof readProxyHeader> => {
  const buf = Buffer.concat([Buffer.from('##'), bytes, Buffer.from('##')])
  return readProxyHeader(buf, 2, 2 + bytes.length)
}
const line = (text: string): ReturnType<typeof readProxyHeader> => read(Buffer.from(text, 'latin1'))
const signature = '0d0a0d0a000d0a515549540a'
const hex = (text: string): Buffer => Buffer.from((signature + text).replaceAll(' ', ''), 'hex')

function everySplit(bytes: Buffer, expected: ProxyHeader): void {
  for (let length = 0; length < expected.length; length++)
    assert.equal(read(bytes.subarray(0, length)), 'more', `${length}`)
  for (const tail of ['', 'GET / HTTP/1.1', '\r\n\r\n\0']) {
    assert.deepEqual(read(Buffer.concat([bytes, Buffer.from(tail, 'latin1')])), expected)
  }
}

const four = {
  source: { address: '192.0.2.1', port: 56_324 },
  destination: { address: '198.51.100.2', port: 443 },
}

test('version 2 is read as the specification draws it', () => {
  // Addresses, ports, then one TLV of the balancer's (AWS: 0xea).
  const bytes = hex('21 11 0012 c0000201 c6336402 dc04 01bb ea0003 017061')
  everySplit(bytes, { ...four, tlvs: [{ type: 0xea, value: Buffer.from('\x01pa') }], length: 34 })
  const six = hex(`21 21 0024 ${'20010db8'.padEnd(32, '0')} ${'1'.padStart(32, '0')} 0001 ffff`)
  everySplit(six, {
    source: { address: '2001:db8:0:0:0:0:0:0', port: 1 },
    destination: { address: '0:0:0:0:0:0:0:1', port: 65_535 },
    tlvs: [],
    length: 52,
  })
})

test('LOCAL, AF_UNSPEC and UNIX name nobody', () => {
  const nobody = { source: null, destination: null, tlvs: [] }
  everySplit(hex('20 00 0000'), { ...nobody, length: 16 })
  // Of LOCAL even nonsense is passed over.
  everySplit(hex('20 ff 0005 ffffffffff'), { ...nobody, length: 21 })
  everySplit(hex('21 00 0003 040000'), { ...nobody, length: 19 })
  everySplit(hex(`21 31 00d8 ${'00'.repeat(216)}`), { ...nobody, length: 232 })
})

test('version 1 is read', () => {
  everySplit(Buffer.from('PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n'), {
    ...four,
    tlvs: [],
    length: 45,
  })
  everySplit(Buffer.from('PROXY TCP6 2001:db8::1 ::1 0 65535\r\n'), {
    source: { address: '2001:db8::1', port: 0 },
    destination: { address: '::1', port: 65_535 },
    tlvs: [],
    length: 36,
  })
  const unknown = { source: null, destination: null, tlvs: [] }
  everySplit(Buffer.from('PROXY UNKNOWN\r\n'), { ...unknown, length: 15 })
  everySplit(Buffer.from('PROXY UNKNOWN ffff:f...f:ffff 65535 65535\r\n'), { ...unknown, length: 43 })
})

test('what is written is read again', () => {
  const principal = { type: tlvTypes.principal, value: Buffer.from('spiffe://mesh.test/ns/default/sa/shop') }
  const header = proxyHeader(four.source, four.destination, [principal])
  assert.equal(header.subarray(0, 16).toString('hex'), `${signature}21110034`)
  everySplit(header, { ...four, tlvs: [principal], length: header.length })
  const mixed = proxyHeader({ address: 'fe80::1', port: 1 }, { address: '127.0.0.1', port: 2 })
  const found = read(mixed) as ProxyHeader
  assert.equal(found.source?.address, 'fe80:0:0:0:0:0:0:1')
  assert.equal(found.destination?.address, '0:0:0:0:0:ffff:7f00:1')
  everySplit(proxyHeader(null, four.destination, [principal]), {
    source: null,
    destination: null,
    tlvs: [principal],
    length: 16 + 3 + principal.value.length,
  })
  // Never more than others read.
  const large = { type: 0xe0, value: Buffer.alloc(3000) }
  assert.deepEqual((read(proxyHeader(null, null, [large, large])) as ProxyHeader).tlvs, [large])
})

test('a checksum that is there must be right', () => {
  assert.equal(crc32c(Buffer.from('123456789')), 0xe3069283)
  const header = hex('21 11 0013 c0000201 c6336402 dc04 01bb 030004 00000000')
  header.writeUInt32BE(crc32c(header), header.length - 4)
  everySplit(header, { ...four, tlvs: [], length: header.length })
  header[16] = 193
  assert.equal(read(header), 'broken')
})

test('what is wrong is refused at the first byte that shows it', () => {
  const table: [string, Buffer][] = [
    ['another signature', Buffer.from('0d0a0d0b', 'hex')],
    ['no signature', Buffer.from('G')],
    ['version 1 in binary', hex('11')],
    ['an unknown command', hex('22')],
    ['an unknown family', hex('2141')],
    ['datagrams', hex('2112')],
    ['too short for its addresses', hex('2111000b')],
    ['too long', hex('21111001')],
  ]
  for (const [what, bytes] of table) {
    assert.equal(read(bytes), 'broken', what)
    assert.equal(read(bytes.subarray(0, -1)), 'more', what)
  }
  const lengths: [string, string][] = [
    ['half a TLV', '21 00 0002 ea00'],
    ['a TLV that runs over', '21 00 0004 ea000201'],
    ['a checksum of two bytes', '21 00 0005 0300020000'],
  ]
  for (const [what, text] of lengths) assert.equal(read(hex(text)), 'broken', what)
})

test('version 1 is taken to the letter', () => {
  for (const text of [
    'proxy TCP4',
    'PROXY\t',
    'PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 \r\n',
    'PROXY TCP4  192.0.2.1 198.51.100.2 56324 443\r\n',
    'PROXY TCP4 192.0.2.01 198.51.100.2 56324 443\r\n',
    'PROXY TCP4 192.0.2.256 198.51.100.2 56324 443\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 056324 443\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n',
    'PROXY TCP4 ::1 ::1 1 1\r\n',
    'PROXY TCP6 fe80::1%a\rX-Y:z ::1 1 1\r\n',
    'PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n',
    'PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n',
    'PROXY UNKNOWNS\r\n',
    'PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n',
    `PROXY UNKNOWN ${'x'.repeat(100)}\r\n`,
  ]) {
    assert.equal(line(text), 'broken', JSON.stringify(text))
  }
})

test('any bytes end in an answer that further bytes do not change', () => {
  const good = proxyHeader(four.source, four.destination, [{ type: 1, value: Buffer.from('h2') }])
  const v1 = Buffer.from('PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n')
  const change = fc.record({ at: fc.nat(60), byte: fc.nat(255) })
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.array(change, { maxLength: 3 }),
      fc.uint8Array(),
      (binary, changes, tail) => {
        const bytes = Buffer.concat([binary ? good : v1, tail])
        for (const { at, byte } of changes) if (at < bytes.length) bytes[at] = byte
        let last: ReturnType<typeof read> = 'more'
        for (let length = 0; length <= bytes.length; length++) {
          const found = read(bytes.subarray(0, length))
          if (last !== 'more') assert.deepEqual(found, last)
          if (typeof found === 'object') assert.ok(found.length <= length)
          last = found
        }
      },
    ),
    { numRuns: 500 },
  )
})

test('addresses: text to bytes and back, as Node judges them', () => {
  for (const text of ['::', '::1', '1::', '2001:db8::8:800:200c:417a', '::ffff:1.2.3.4', '1:2:3:4:5:6:7:8']) {
    const bytes = ipBytes(text)
    assert.ok(bytes !== null, text)
    assert.equal(plainAddress(ipText(bytes, 0, 16)), plainAddress(text.startsWith('::ffff') ? '::ffff:102:304' : text))
  } // prettier-ignore
  const piece = fc.constantFrom(':', '::', '1', '12345', 'ffff', 'g', '1.2.3.4', '.', '0', '255', '256')
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 18 }), (pieces) => {
      const text = pieces.join('')
      assert.equal(ipBytes(text) !== null, isIPv4(text) || isIPv6(text), text)
    }),
    { numRuns: 3000 },
  )
})
