import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { decode, encode, type DecodedPacket } from 'dns-packet'
import fc from 'fast-check'
import { answer, type NameTable } from '../../../src/agent/dns/answer.ts'

const table = new Map([
  ['web.default.mesh', '240.240.1.2'],
  ['api.shop.mesh', '240.240.9.9'],
])

function ask(name: string, type: string = 'A', known: NameTable = table): DecodedPacket | string {
  const query = encode({
    type: 'query',
    id: 77,
    flags: 0x0100,
    questions: [{ name, type: type as 'A', class: 'IN' }],
  })
  const verdict = answer(query, known)
  return verdict.kind === 'reply' ? decode(verdict.packet) : verdict.kind
}

function reply(name: string, type: string = 'A', known: NameTable = table): DecodedPacket {
  const found = ask(name, type, known)
  assert.ok(typeof found !== 'string', `${name} ${type}: not answered`)
  return found
}

/** dns-packet's types lack it. */
const rcode = (packet: DecodedPacket): string => (packet as unknown as { rcode: string }).rcode

describe('names of the mesh', () => {
  test('a service has its virtual address, by its full and its short name, in any case', () => {
    for (const name of ['web.default.mesh', 'web.mesh', 'WEB.Default.MESH']) {
      const packet = reply(name)
      assert.deepEqual(
        [rcode(packet), packet.id, packet.flag_aa, packet.flag_rd],
        ['NOERROR', 77, true, true],
      )
      assert.deepEqual(
        packet.answers?.map((each) => 'data' in each && each.data),
        ['240.240.1.2'],
      )
      assert.equal(packet.questions?.[0]?.name, name)
    }
    assert.equal(rcode(reply('api.mesh')), 'NXDOMAIN')
    assert.equal(reply('api.shop.mesh').answers?.length, 1)
  })

  test('other types of an existing name: no data, with the SOA that bounds how long that is believed', () => {
    for (const type of ['AAAA', 'TXT', 'SRV', 'MX']) {
      const packet = reply('web.default.mesh', type)
      assert.equal(rcode(packet), 'NOERROR', type)
      assert.equal(packet.answers?.length, 0)
      const [soa] = packet.authorities ?? []
      assert.ok(soa?.type === 'SOA' && soa.name === 'mesh' && soa.data.minimum === 5 && soa.ttl === 5)
    }
  })

  test('unknown names do not exist; names above existing ones do', () => {
    for (const name of ['ghost.default.mesh', 'x.web.default.mesh', 'web.shop.mesh', 'ghost.mesh']) {
      const packet = reply(name)
      assert.equal(rcode(packet), 'NXDOMAIN', name)
      assert.equal(packet.authorities?.[0]?.type, 'SOA')
    }
    for (const name of ['mesh', 'shop.mesh', 'default.mesh'])
      assert.equal(rcode(reply(name)), 'NOERROR', name)
  })

  test('a virtual address leads back to its name', () => {
    const [ptr] = reply('2.1.240.240.in-addr.arpa', 'PTR').answers ?? []
    assert.ok(ptr?.type === 'PTR' && ptr.data === 'web.default.mesh')
    assert.equal(rcode(reply('3.1.240.240.in-addr.arpa', 'PTR')), 'NXDOMAIN')
    assert.equal(ask('1.0.0.10.in-addr.arpa', 'PTR'), 'forward')
  })

  test('before anything is known: a failure to try again, never "no such name"; the rest goes on', () => {
    const questions = [{ name: 'web.mesh', type: 'A', class: 'IN' }] as const
    const verdict = answer(encode({ type: 'query', id: 1, questions: [...questions] }), null)
    assert.ok(verdict.kind === 'early')
    assert.equal(rcode(decode(verdict.packet)), 'SERVFAIL')
    assert.equal(ask('deb.debian.org', 'A', null), 'forward')
  })
})

test('names outside go to the resolver that was there', () => {
  for (const name of ['deb.debian.org', 'mesh.example.com', 'web.service.consul', 'web.default.mesh2', '']) {
    assert.equal(ask(name), 'forward', name)
  }
})

test('EDNS is answered with EDNS', () => {
  const opt = { type: 'OPT', name: '.', udpPayloadSize: 4096, flags: 0, options: [] }
  const query = encode({
    type: 'query',
    id: 1,
    questions: [{ name: 'web.mesh', type: 'A', class: 'IN' }],
    additionals: [opt as never],
  })
  const verdict = answer(query, table)
  assert.ok(verdict.kind === 'reply')
  assert.equal(decode(verdict.packet).additionals?.[0]?.type, 'OPT')
})

test('what is no query gets no answer, or an error that cannot start a loop', () => {
  const response = encode({
    type: 'response',
    id: 1,
    questions: [{ name: 'web.mesh', type: 'A', class: 'IN' }],
  })
  assert.equal(answer(response, table).kind, 'ignore')
  assert.equal(answer(Buffer.from('short'), table).kind, 'ignore')
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
      const packet = Buffer.from(bytes)
      const verdict = answer(packet, table)
      if (verdict.kind === 'reply') {
        assert.ok((verdict.packet.readUInt8(2) & 0x80) !== 0)
        assert.equal(verdict.packet.readUInt16BE(0), packet.readUInt16BE(0))
      }
    }),
    { numRuns: 500 },
  )
})
