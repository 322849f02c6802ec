// However the bytes of a connection are cut, the same is told and the same is answered; and whatever bytes come, nothing breaks.
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { Code } from '../../../src/wire/h2/frame.ts'
import { Peer, pass, settle } from './pair.ts'

const seed = 20261123

/** What a server's session tells and says when these bytes come in these pieces. */
function play(role: 'client' | 'server', bytes: Buffer, cuts: readonly number[]): string {
  const peer = new Peer(role, { streamWindow: 3000, maxListBytes: 4000 })
  peer.onHeaders = (stream, isEnd) => {
    if (role === 'server' && isEnd) peer.respond(stream, 200)
  }
  peer.onData = (stream, _, isEnd) => {
    if (role === 'server' && isEnd) peer.respond(stream, 200)
  }
  if (role === 'client') for (let i = 0; i < 4; i++) peer.request()
  let start = 0
  for (const cut of [...cuts, bytes.length]) {
    // A copy that is overwritten afterwards: what was lent is not looked at again.
    const piece = Buffer.from(bytes.subarray(start, cut))
    peer.session.receive(piece, 0, piece.length, 0)
    piece.fill(0xff)
    start = cut
  }
  const bodies = [...peer.bodies].map(([id, parts]) => `${id}:${Buffer.concat(parts).toString('hex')}`)
  return [...peer.events, ...bodies, peer.session.take().toString('hex')].join('\n')
}

/** What both sides of a connection with a bit of everything say. */
function talk(): { client: Buffer; server: Buffer } {
  const client = new Peer('client')
  const server = new Peer('server')
  const said: { client: Buffer[]; server: Buffer[] } = { client: [], server: [] }
  server.onHeaders = (stream, isEnd) => {
    if (!isEnd) return
    server.respond(stream, 103, [['link', '</a>']], false)
    server.respond(stream, 200, [['x-a', 'b'.repeat(20_000)]], false)
    server.write(stream, 'answer', true)
  }
  server.onTrailers = (stream) => {
    server.respond(stream, 200, [], false)
    server.session.trailers(stream, server.fields([['grpc-status', '0']]), 1)
  }
  client.request([['x-a', 'b']])
  client.request([['x-a', 'b']])
  const third = client.request([['x-long', 'l'.repeat(3000)]], false, 'POST')
  client.write(third, Buffer.alloc(2000, 'x'))
  client.session.trailers(third, client.fields([['x-sum', '1']]), 1)
  client.session.reset(client.request([], false, 'POST'), Code.cancel)
  client.session.ping()
  const steps = (): void => {
    while (client.session.outEnd > 0 || server.session.outEnd > 0) {
      for (const [name, from, to] of [
        ['client', client, server],
        ['server', server, client],
      ] as const) {
        const bytes = from.session.take()
        from.session.written(false)
        said[name].push(bytes)
        to.session.receive(bytes, 0, bytes.length, 0)
      }
    }
  }
  steps()
  server.session.goaway(Code.noError)
  steps()
  return { client: Buffer.concat(said.client), server: Buffer.concat(said.server) }
}

suite('splits', () => {
  const said = talk()

  test('one byte at a time', () => {
    for (const [role, bytes] of [
      ['server', said.client],
      ['client', said.server],
    ] as const) {
      const whole = play(role, bytes, [])
      assert.match(whole, /headers/)
      assert.doesNotMatch(whole, /failed/)
      const every = Array.from({ length: bytes.length - 1 }, (_, i) => i + 1)
      assert.equal(play(role, bytes, every), whole)
    }
  })

  test('at any place, once', () => {
    const whole = play('server', said.client, [])
    for (let cut = 1; cut < said.client.length; cut++) {
      assert.equal(play('server', said.client, [cut]), whole, `cut at ${cut}`)
    }
  })

  test('at any places', () => {
    for (const [role, bytes] of [
      ['server', said.client],
      ['client', said.server],
    ] as const) {
      const whole = play(role, bytes, [])
      const places = fc.uniqueArray(fc.integer({ min: 1, max: bytes.length - 1 }), { maxLength: 12 })
      fc.assert(
        fc.property(places, (cuts) => {
          assert.equal(
            play(
              role,
              bytes,
              cuts.toSorted((a, b) => a - b),
            ),
            whole,
          )
        }),
        { seed, numRuns: 200 },
      )
    }
  })
})

suite('chance', () => {
  const said = talk()

  test('damaged bytes end in order: an error of the protocol or none, alike however they are cut', () => {
    for (const [role, bytes] of [
      ['server', said.client],
      ['client', said.server],
    ] as const) {
      const damage = fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 })
      fc.assert(
        fc.property(damage, fc.integer({ min: 1, max: bytes.length - 1 }), (changes, cut) => {
          const damaged = Buffer.from(bytes)
          for (const [at, value] of changes) damaged[at] = value
          assert.equal(play(role, damaged, [cut]), play(role, damaged, []))
        }),
        { seed, numRuns: 500 },
      )
    }
  })

  test('frames of any kind at any time', () => {
    const frame = fc
      .tuple(
        fc.integer({ min: 0, max: 10 }),
        fc.constantFrom(0, 1, 4, 5, 8, 9, 0x20, 0x25, 0x2d),
        fc.constantFrom(0, 1, 1, 1, 2, 3, 3, 5, 7, 9),
        fc.oneof(
          fc.uint8Array({ maxLength: 40 }),
          // GET / of a host.
          fc.constant(Uint8Array.from([0x82, 0x84, 0x87, 0x41, 0x03, 0x77, 0x65, 0x62])),
          fc.constant(Uint8Array.from([0x88])),
          fc.constant(Uint8Array.from([0, 0, 0, 1])),
        ),
      )
      .map(([type, flags, id, payload]) =>
        Buffer.concat([Buffer.from([0, 0, payload.length, type, flags, 0, 0, 0, id]), payload]),
      )
    const settings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])
    for (const role of ['client', 'server'] as const) {
      const preface = role === 'server' ? Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n') : Buffer.alloc(0)
      fc.assert(
        fc.property(fc.array(frame, { maxLength: 30 }), (frames) => {
          const bytes = Buffer.concat([preface, settings, ...frames])
          const told = play(role, bytes, [])
          // Nobody is told anything behind an end.
          const over = new Set<string>()
          for (const line of told
            .split('\n')
            .filter((event) => /^\d+ (headers|data|trailers|reset)/.test(event))) {
            const [id = ''] = line.split(' ')
            const isReset = line.includes(' reset ')
            assert.ok(!over.has(id) || isReset, told)
            if (isReset) assert.ok(!over.has(`${id} reset`), told)
            if (isReset || / end$| trailers/.test(line)) over.add(id)
            if (isReset) over.add(`${id} reset`)
          }
        }),
        { seed, numRuns: 2000 },
      )
    }
  })

  test('two sessions that do anything at all stay in step', () => {
    const act = fc.tuple(fc.nat(9), fc.nat(5), fc.nat(70_000))
    fc.assert(
      fc.property(fc.array(act, { maxLength: 60 }), (acts) => {
        const limits = { streamWindow: 30_000, connectionWindow: 70_000, maxConcurrentStreams: 5 }
        const client = new Peer('client', limits)
        const server = new Peer('server', limits)
        settle(client, server)
        const mine = new Map<number, number>()
        for (const [kind, which, bytes] of acts) {
          const own = client.session.streams.all()[which]
          const theirs = server.session.streams.all()[which]
          if (kind === 0 && client.session.canOpen) client.request([['x-n', String(bytes)]], bytes % 2 === 0)
          else if (kind === 1 && own !== undefined && !own.isEnded) {
            client.write(own, Buffer.alloc(bytes), bytes % 3 === 0)
            mine.set(own.id, (mine.get(own.id) ?? 0) + bytes)
          } else if (kind === 2 && own !== undefined) client.session.end(own)
          else if (kind === 3 && own !== undefined && bytes % 5 === 0) client.session.reset(own, Code.cancel)
          else if (kind === 4 && theirs !== undefined && !theirs.hasSentHead)
            server.respond(theirs, 200, [], false)
          else if (kind === 5 && theirs?.hasSentHead === true) server.write(theirs, Buffer.alloc(bytes))
          else if (kind === 6 && theirs?.hasSentHead === true) server.session.end(theirs)
          else if (kind === 7 && theirs !== undefined && bytes % 7 === 0)
            server.session.reset(theirs, Code.cancel)
          else if (kind === 8) pass(client, server)
          else pass(server, client)
        }
        settle(client, server)
        const events = [...client.events, ...server.events]
        assert.ok(!events.some((event) => event.startsWith('failed')), events.join('\n'))
        // Everything that was not reset has arrived.
        for (const stream of server.session.streams.all()) {
          assert.equal(stream.bytesIn, mine.get(stream.id) ?? 0)
        }
        assert.equal(client.session.openStreams, server.session.openStreams)
      }),
      { seed, numRuns: 300 },
    )
  })
})
