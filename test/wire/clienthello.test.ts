// ClientHellos of real clients in every cut, and hostile ones.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { readClientHello } from '../../src/wire/clienthello.ts'
import { sniff } from '../../src/wire/sniff.ts'
import { cut, helloOf, nameBody, nodeHello, opensslHello, recordOf } from './hellos.ts'

const read = (bytes: Buffer): ReturnType<typeof readClientHello> => {
  // Not at the start of its buffer, as connections read.
  const buf = Buffer.concat([Buffer.from('##'), bytes, Buffer.from('##')])
  return readClientHello(buf, 2, 2 + bytes.length)
}

const name = (text: string, kind: number = 0): { type: number; body: Buffer } => ({
  type: 0,
  body: nameBody(text, kind),
})
const alpn = (body: string): { type: number; body: Buffer } => ({
  type: 16,
  body: Buffer.from(body, 'latin1'),
})

/** Every beginning of it is undecided, and the whole of it says this. */
function everySplit(bytes: Buffer, expected: { serverName: string; alpn: string[] }): void {
  for (let length = 0; length < bytes.length; length++) {
    assert.equal(read(bytes.subarray(0, length)), 'more', `${length} of ${bytes.length}`)
    assert.equal(sniff(bytes, 0, length), length < 3 ? 'more' : 'tls')
  }
  assert.deepEqual(read(bytes), expected)
  assert.deepEqual(read(Buffer.concat([bytes, Buffer.from('\x14\x03\x03\0\x01\x01', 'latin1')])), expected)
  assert.equal(sniff(bytes, 0, bytes.length), 'tls')
}

test('hellos of node:tls, at every split point and in records of any size', async () => {
  const cases: [Parameters<typeof nodeHello>[0], { serverName: string; alpn: string[] }][] = [
    [{ servername: 'DB.Example.com', ALPNProtocols: ['h2', 'http/1.1'] }, { serverName: 'db.example.com', alpn: ['h2', 'http/1.1'] }],
    [{ servername: '' }, { serverName: '', alpn: [] }],
    [{ servername: 'a', maxVersion: 'TLSv1.2' }, { serverName: 'a', alpn: [] }],
    [{ servername: 'outbound_.8080_._.web.default.mesh', ALPNProtocols: ['x'.repeat(255)] }, { serverName: 'outbound_.8080_._.web.default.mesh', alpn: ['x'.repeat(255)] }],
  ] // prettier-ignore
  for (const [options, expected] of cases) {
    const hello = await nodeHello(options)
    everySplit(hello, expected)
    const size = hello.length - 5
    for (const records of [2, 3, 64]) everySplit(cut(hello, Math.ceil(size / records)), expected)
  }
})

test('hellos of openssl s_client', async (t) => {
  const flags = ['-servername', 'mail.example.org', '-alpn', 'h2,http/1.1']
  const hello = await opensslHello(...flags).catch(() => null)
  if (hello === null) return t.skip('there is no openssl')
  const expected = { serverName: 'mail.example.org', alpn: ['h2', 'http/1.1'] }
  everySplit(hello, expected)
  everySplit(cut(hello, 100), expected)
  everySplit(await opensslHello('-noservername', '-tls1_2'), { serverName: '', alpn: [] })
})

test('a hello may have no extensions, or none that matters', () => {
  const old = recordOf(Buffer.from('0301' + '00'.repeat(32) + '00' + '0002002f' + '0100', 'hex'))
  everySplit(old, { serverName: '', alpn: [] })
  everySplit(cut(old, 1), { serverName: '', alpn: [] })
  assert.equal(read(cut(helloOf([name('a'.repeat(40))]), 1)), 'opaque', 'more records than anybody makes')
  everySplit(helloOf([{ type: 0xffff, body: Buffer.alloc(9) }]), { serverName: '', alpn: [] })
})

test('what a TLS server would refuse is opaque', () => {
  const good = helloOf([name('a.b'), alpn('\0\x03\x02h2')])
  assert.deepEqual(read(good), { serverName: 'a.b', alpn: ['h2'] })
  const refused: [string, Buffer][] = [
    ['two server names', helloOf([name('a'), name('a')])],
    ['any extension twice', helloOf([{ type: 7, body: Buffer.alloc(0) }, { type: 7, body: Buffer.alloc(0) }])],
    ['no name', helloOf([name('')])],
    ['an empty list', helloOf([{ type: 0, body: Buffer.alloc(0) }])],
    ['another kind of name', helloOf([name('a', 1)])],
    ['a name too long', helloOf([name('a'.repeat(256))])],
    ['NUL in the name', helloOf([name('a.b\0.c')])],
    ['a line in the name', helloOf([name('a\r\nb')])],
    ['a second name behind', helloOf([{ type: 0, body: Buffer.concat([nameBody('a'), Buffer.from('\0\0\x01b')]) }])],
    ['an empty protocol', helloOf([alpn('\0\x01\0')])],
    ['no protocol', helloOf([alpn('\0\0')])],
    ['a protocol that runs over', helloOf([alpn('\0\x03\x05h2')])],
    ['a list shorter than it says', helloOf([alpn('\0\x04\x02h2')])],
    ['a list longer than it says', helloOf([alpn('\0\x02\x01h2')])],
    ['a session id of 33 bytes', recordOf(Buffer.from('0303' + '00'.repeat(32) + '21' + '00'.repeat(33) + '00021301' + '0100', 'hex'))],
    ['no cipher suites', recordOf(Buffer.from('0303' + '00'.repeat(32) + '00' + '0000' + '0100' + '0000', 'hex'))],
    ['half a cipher suite', recordOf(Buffer.from('0303' + '00'.repeat(32) + '00' + '0003130113' + '0100', 'hex'))],
    ['no compression method', recordOf(Buffer.from('0303' + '00'.repeat(32) + '00' + '00041301130200' + '0000', 'hex'))],
    ['version 2', recordOf(Buffer.from('0200' + '00'.repeat(32) + '00' + '00021301' + '0100', 'hex'))],
    ['extensions cut short', recordOf(Buffer.from('0303' + '00'.repeat(32) + '00' + '00021301' + '0100' + '000500', 'hex'))],
  ] // prettier-ignore
  for (const [what, bytes] of refused) assert.equal(read(bytes), 'opaque', what)
})

test('it is opaque at the first byte that shows it', () => {
  const table: [string, string][] = [
    ['15', 'an alert'],
    ['1602', 'no TLS'],
    ['160305', 'version 3.5'],
    ['1603010000', 'an empty record'],
    ['1603014001', 'a record too long'],
    ['160301000102', 'a ServerHello'],
    ['160301000401004001', 'a message too long'],
    ['160301000401000010', 'a message too short'],
    ['16030101000100002b', 'more in the record than the message'],
  ]
  for (const [hex, what] of table) {
    const bytes = Buffer.from(hex, 'hex')
    assert.equal(read(bytes), 'opaque', what)
    assert.equal(read(bytes.subarray(0, -1)), 'more', what)
  }
})

test('any bytes and any damage end in an answer that further bytes do not change', () => {
  const hello = helloOf([
    { type: 0x0a0a, body: Buffer.alloc(3) },
    name('web.default.mesh'),
    alpn('\0\x03\x02h2'),
  ])
  const change = fc.record({
    at: fc.nat(hello.length * 2),
    byte: fc.nat(255),
    size: fc.integer({ min: 1, max: 60 }),
  })
  fc.assert(
    fc.property(fc.array(change, { maxLength: 4 }), fc.uint8Array({ maxLength: 40 }), (changes, tail) => {
      const bytes = Buffer.concat([cut(hello, changes[0]?.size ?? 1000), tail])
      for (const { at, byte } of changes) if (at < bytes.length) bytes[at] = byte
      let last: ReturnType<typeof read> = 'more'
      for (let length = 0; length <= bytes.length; length++) {
        const found = read(bytes.subarray(0, length))
        if (last !== 'more') assert.deepEqual(found, last)
        last = found
      }
    }),
    { numRuns: 500 },
  )
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void read(Buffer.from(bytes))))
})
