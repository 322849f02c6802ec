// Real packets over UDP and TCP on loopback, with a real upstream server beside it.
import assert from 'node:assert/strict'
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { connect } from 'node:net'
import { after, afterEach, before, describe, test } from 'node:test'
import { decode, encode, type DecodedPacket } from 'dns-packet'
import pino from 'pino'
import { FakeClock } from '../../../src/clock.ts'
import { DnsServer } from '../../../src/agent/dns/server.ts'

const silent = pino({ level: 'silent' })
const rcode = (packet: DecodedPacket): string => (packet as unknown as { rcode: string }).rcode
const query = (name: string, id: number = 5): Buffer =>
  encode({ type: 'query', id, flags: 0x0100, questions: [{ name, type: 'A', class: 'IN' }] })
const framedQuery = (name: string, id: number): Buffer =>
  Buffer.concat([Buffer.from([0, query(name, id).length]), query(name, id)])

function udp(port: number, packet: Buffer): Promise<DecodedPacket> {
  return new Promise((resolve, reject) => {
    const socket = createSocket('udp4')
    socket.on('error', reject)
    socket.on('message', (reply) => {
      socket.close()
      resolve(decode(reply))
    })
    socket.send(packet, port, '127.0.0.1')
  })
}

function tcp(port: number, names: string[]): Promise<DecodedPacket[]> {
  return new Promise((resolve, reject) => {
    const replies: DecodedPacket[] = []
    let read = Buffer.alloc(0)
    const socket = connect(port, '127.0.0.1', () => {
      const packets = names.map(framedQuery)
      // Split in the middle of a message: the server must put it together.
      const bytes = Buffer.concat(packets)
      socket.write(bytes.subarray(0, 7))
      setImmediate(() => socket.write(bytes.subarray(7)))
    })
    socket.on('error', reject)
    socket.on('data', (bytes: Buffer) => {
      read = Buffer.concat([read, bytes])
      while (read.length >= 2 && read.length >= 2 + read.readUInt16BE(0)) {
        const end = 2 + read.readUInt16BE(0)
        replies.push(decode(read.subarray(2, end)))
        read = read.subarray(end)
      }
      if (replies.length < names.length) return
      socket.destroy()
      resolve(replies)
    })
  })
}

/** An upstream whose behaviour each test sets. */
class Upstream {
  readonly socket: UdpSocket = createSocket('udp4')
  port = 0
  seen: Buffer[] = []
  answer: (packet: DecodedPacket, raw: Buffer) => Buffer[] = () => []

  async listen(): Promise<void> {
    await new Promise<void>((done) => this.socket.bind(0, '127.0.0.1', done))
    this.port = this.socket.address().port
    this.socket.on('message', (raw, peer) => {
      this.seen.push(raw)
      for (const reply of this.answer(decode(raw), raw)) this.socket.send(reply, peer.port, peer.address)
    })
  }
}

const says =
  (data: string, extra: object = {}): ((packet: DecodedPacket) => Buffer[]) =>
  (packet) => [
    encode({
      type: 'response',
      id: packet.id ?? 0,
      questions: packet.questions ?? [],
      answers: [{ type: 'A', name: packet.questions?.[0]?.name ?? '', ttl: 1, data }],
      ...extra,
    }),
  ]

describe('the DNS server', () => {
  const upstream = new Upstream()
  let server: DnsServer
  let port = 0

  before(async () => {
    await upstream.listen()
  })
  after(() => upstream.socket.close())
  const start = async (timeoutMs: number = 2000, maxOutstanding: number = 64): Promise<void> => {
    server = new DnsServer(silent, { timeoutMs, maxOutstanding, earlyMs: 20 })
    port = await server.listen('127.0.0.1', 0)
    server.setUpstreams([{ address: '127.0.0.1', port: upstream.port }])
    upstream.seen = []
  }
  afterEach(() => server.close())

  test('answers the mesh over UDP and, pipelined, over TCP', async () => {
    await start()
    assert.equal(rcode(await udp(port, query('web.mesh'))), 'SERVFAIL')
    server.setTable(new Map([['web.default.mesh', '240.240.0.7']]))
    const packet = await udp(port, query('web.mesh'))
    assert.ok(packet.answers?.[0]?.type === 'A' && packet.answers[0].data === '240.240.0.7')
    const replies = await tcp(port, ['web.default.mesh', 'ghost.mesh', 'web.mesh'])
    assert.deepEqual(
      replies.map((each) => [each.id, rcode(each)]),
      [
        [0, 'NOERROR'],
        [1, 'NXDOMAIN'],
        [2, 'NOERROR'],
      ],
    )
    assert.equal(upstream.seen.length, 0)
  })

  test('a question before the first table waits for it, and is answered from it', async () => {
    const clock = new FakeClock()
    server = new DnsServer(silent, { clock })
    port = await server.listen('127.0.0.1', 0)
    const asked = [udp(port, query('web.mesh', 1)), udp(port, query('ghost.mesh', 2))]
    // What is not of the mesh is answered meanwhile: by then the two have been read.
    server.setUpstreams([])
    assert.equal(rcode(await udp(port, query('deb.debian.org'))), 'SERVFAIL')
    server.setTable(new Map([['web.default.mesh', '240.240.0.7']]))
    assert.deepEqual((await Promise.all(asked)).map(rcode), ['NOERROR', 'NXDOMAIN'])
  })

  test('forwards the rest as it came, under an id of its own, also before anything is known', async () => {
    await start()
    upstream.answer = says('192.0.2.1')
    const packet = await udp(port, query('deb.debian.org', 4711))
    assert.equal(packet.id, 4711)
    assert.ok(packet.answers?.[0]?.type === 'A' && packet.answers[0].data === '192.0.2.1')
    const [seen] = upstream.seen
    assert.deepEqual(seen?.subarray(2), query('deb.debian.org').subarray(2))
  })

  test('a truncated answer goes back as it is', async () => {
    await start()
    upstream.answer = says('192.0.2.1', { flags: 0x0200 })
    assert.equal((await udp(port, query('big.example'))).flag_tc, true)
  })

  test('answers that were not asked for are not believed', async () => {
    await start()
    upstream.answer = (packet, raw) => {
      const wrongId = Buffer.from(raw)
      wrongId.writeUInt16BE(((packet.id ?? 0) + 1) & 0xffff, 0)
      const other = {
        ...packet,
        questions: [{ name: 'other.example', type: 'A' as const, class: 'IN' as const }],
      }
      return [
        Buffer.from('junk'),
        ...says('6.6.6.6')(decode(wrongId)),
        ...says('6.6.6.7')(other),
        ...says('192.0.2.9')(packet),
      ]
    }
    const packet = await udp(port, query('deb.debian.org'))
    assert.ok(packet.answers?.[0]?.type === 'A' && packet.answers[0].data === '192.0.2.9')
  })

  test('a refused server is passed over at once, a silent one after its time', async () => {
    await start(50)
    const closed = new Upstream()
    await closed.listen()
    await new Promise<void>((done) => void closed.socket.close(() => done()))
    const silentOne = new Upstream()
    await silentOne.listen()
    server.setUpstreams(
      [closed, silentOne, upstream].map((each) => ({ address: '127.0.0.1', port: each.port })),
    )
    upstream.answer = says('192.0.2.3')
    const packet = await udp(port, query('deb.debian.org'))
    assert.ok(packet.answers?.[0]?.type === 'A' && packet.answers[0].data === '192.0.2.3')
    assert.equal(silentOne.seen.length, 1)
    silentOne.socket.close()
  })

  test('nobody answers: SERVFAIL; too many at once: SERVFAIL at once', async () => {
    await start(40, 2)
    upstream.answer = () => []
    const codes = await Promise.all(
      Array.from({ length: 6 }, (_, at) => udp(port, query(`n${at}.example`, at)).then(rcode)),
    )
    assert.deepEqual(new Set(codes), new Set(['SERVFAIL']))
    assert.equal(upstream.seen.length, 2)
    server.setUpstreams([])
    assert.equal(rcode(await udp(port, query('deb.debian.org'))), 'SERVFAIL')
  })

  test('garbage is survived', async () => {
    await start()
    server.setTable(new Map([['web.default.mesh', '240.240.0.7']]))
    const socket = createSocket('udp4')
    for (const bytes of [Buffer.alloc(0), Buffer.from('x'), Buffer.alloc(512, 0xff), Buffer.alloc(12)])
      socket.send(bytes, port, '127.0.0.1')
    assert.equal((await udp(port, query('web.mesh'))).answers?.length, 1)
    socket.close()
  })

  test('a port that is taken is an error that says which', async () => {
    await start()
    const second = new DnsServer(silent)
    await assert.rejects(second.listen('127.0.0.1', port), { code: 'MSH0602' })
    await second.close()
  })
})
