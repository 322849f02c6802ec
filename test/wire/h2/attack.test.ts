// Peers that mean harm: each attack ends within a bounded number of frames, streams and bytes of ours.
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { Code, Flag, Type } from '../../../src/wire/h2/frame.ts'
import { defaultLimits } from '../../../src/wire/h2/limits.ts'
import { pair, pass, settle } from './pair.ts'
import { Victim, field, frame, get, idOf, post, whole, word } from './victim.ts'

const calm = /^failed enhance_your_calm/

suite('streams that are opened and thrown away', () => {
  test('rapid reset ends within the burst', () => {
    const victim = new Victim()
    const count = victim.flood((i) =>
      Buffer.concat([frame(1, whole, idOf(i), get), frame(Type.rstStream, 0, idOf(i), word(Code.cancel))]),
    )
    assert.equal(count, defaultLimits.floods.resets.burst + 1)
    assert.match(victim.end, calm)
    assert.equal(victim.session.openStreams, 0)
  })

  test('who resets at the rate that is allowed, or finishes as much as he resets, goes on', () => {
    const slow = new Victim()
    const reset = (i: number): Buffer =>
      Buffer.concat([frame(1, whole, idOf(i), get), frame(Type.rstStream, 0, idOf(i), word(Code.cancel))])
    for (let i = 0; i < 5000; i++) {
      slow.now += 5
      slow.send(reset(i))
    }
    const fair = new Victim()
    fair.onHeaders = (stream) => {
      if (stream.id % 4 === 1) fair.respond(stream, 200)
    }
    for (let i = 0; i < 5000; i++) fair.send(i % 2 === 0 ? frame(1, whole, idOf(i), get) : reset(i))
    assert.deepEqual([slow.end, fair.end], ['alive', 'alive'])
  })

  const provocations: Record<string, (id: number) => Buffer> = {
    'WINDOW_UPDATE of 0': (id) =>
      Buffer.concat([frame(1, 4, id, post), frame(Type.windowUpdate, 0, id, word(0))]),
    'a window that overflows': (id) =>
      Buffer.concat([frame(1, 4, id, post), frame(Type.windowUpdate, 0, id, word(0x7fffffff))]),
    'more data than Content-Length': (id) =>
      Buffer.concat([
        frame(1, 4, id, Buffer.concat([post, field('content-length', '1')])),
        frame(Type.data, 1, id, [1, 2]),
      ]),
    'less data than Content-Length': (id) =>
      Buffer.concat([
        frame(1, 4, id, Buffer.concat([post, field('content-length', '3')])),
        frame(Type.data, 1, id, [1, 2]),
      ]),
    'no data for Content-Length': (id) =>
      frame(1, whole, id, Buffer.concat([post, field('content-length', '3')])),
    'data behind the end': (id) => Buffer.concat([frame(1, whole, id, get), frame(Type.data, 0, id, [1])]),
    'a second head': (id) => Buffer.concat([frame(1, 4, id, post), frame(1, 4, id, post)]),
    'trailers with pseudo fields': (id) => Buffer.concat([frame(1, 4, id, post), frame(1, whole, id, post)]),
    'a malformed head': (id) => frame(1, whole, id, Buffer.concat([get, field('Upper', 'x')])),
    'a dependency on itself': (id) =>
      frame(1, whole | Flag.priority, id, Buffer.concat([word(id), Buffer.from([0]), get])),
    'a PRIORITY that depends on itself': (id) =>
      Buffer.concat([
        frame(1, 4, id, post),
        frame(Type.priority, 0, id, Buffer.concat([word(id), Buffer.from([0])])),
      ]),
  }
  for (const [name, make] of Object.entries(provocations)) {
    test(`MadeYouReset by ${name}`, () => {
      const victim = new Victim()
      const count = victim.flood((i) => make(idOf(i)))
      assert.equal(count, defaultLimits.floods.faults.burst + 1)
      assert.match(victim.end, calm)
      assert.equal(victim.session.openStreams, 0)
    })
  }

  test('more streams than allowed are refused, and too many of them end the session', () => {
    const victim = new Victim({ maxConcurrentStreams: 10 })
    const count = victim.flood((i) => frame(1, 4, idOf(i), post))
    assert.equal(count, 10 + defaultLimits.floods.refusals.burst + 1)
    assert.equal(victim.accepted, 10)
  })

  test('requests that are answered, and nothing is read', () => {
    const victim = new Victim({ outputBytes: 100_000 })
    victim.isTaken = false
    victim.onHeaders = (stream) => victim.respond(stream, 404)
    const count = victim.flood((i) => frame(1, whole, idOf(i), get))
    assert.ok(count < 20_000, String(count))
    assert.ok(victim.mostOutput < 101_000, String(victim.mostOutput))
    assert.match(victim.end, /answers are not read/)
  })
})

suite('frames that cost the peer nothing', () => {
  const { floods } = defaultLimits
  const kinds: Record<string, [number, (i: number) => Buffer]> = {
    SETTINGS: [floods.settings.burst, () => frame(Type.settings, 0, 0)],
    'SETTINGS acknowledged': [floods.settings.burst, () => frame(Type.settings, Flag.ack, 0)],
    GOAWAY: [floods.settings.burst, () => frame(Type.goaway, 0, 0, Buffer.alloc(8))],
    PING: [floods.pings.burst, () => frame(Type.ping, 0, 0, Buffer.alloc(8))],
    'PING acknowledged': [floods.pings.burst, () => frame(Type.ping, Flag.ack, 0, Buffer.alloc(8))],
    PRIORITY: [floods.priorities.burst, (i) => frame(Type.priority, 0, idOf(i), [0, 0, 0, 0, 1])],
    'WINDOW_UPDATE of the connection': [
      floods.windowUpdates.burst,
      () => frame(Type.windowUpdate, 0, 0, word(1)),
    ],
    'unknown types': [floods.unknowns.burst, () => frame(0xbb, 0, 0, Buffer.alloc(100))],
  }
  for (const [name, [burst, make]] of Object.entries(kinds)) {
    test(name, () => {
      const victim = new Victim()
      const count = victim.flood(make)
      // The handshake has brought one of them already, or a stream.
      assert.ok(count >= burst && count <= burst + 10, String(count))
      assert.match(victim.end, calm)
    })
  }

  test('SETTINGS that move the windows of many streams over and over', () => {
    const victim = new Victim()
    for (let i = 0; i < 1000; i++) victim.send(frame(1, 4, idOf(i), post))
    const moves = (count: number): Buffer =>
      Buffer.concat(Array.from({ length: count }, (_, i) => Buffer.from([0, 4, 0, 0, 0, i & 1])))
    const start = process.cpuUsage()
    assert.equal(
      victim.flood(() => frame(Type.settings, 0, 0, moves(32))),
      floods.settings.burst,
    )
    const { user } = process.cpuUsage(start)
    assert.ok(user < 1_000_000, `${user} µs`)
    const other = new Victim()
    other.send(frame(Type.settings, 0, 0, moves(33)))
    assert.match(other.end, calm)
  })

  test('WINDOW_UPDATE of streams, open and closed', () => {
    for (const answers of [true, false]) {
      const victim = new Victim()
      victim.onHeaders = (stream) => {
        if (answers) victim.respond(stream, 200)
      }
      victim.send(frame(1, whole, 1, get))
      const count = victim.flood(() => frame(Type.windowUpdate, 0, 1, word(1)))
      assert.ok(count <= floods.windowUpdates.burst + 10, String(count))
    }
  })

  test('empty DATA', () => {
    const victim = new Victim()
    victim.send(frame(1, 4, 1, post))
    const count = victim.flood(() => frame(Type.data, 0, 1))
    assert.equal(count, floods.empties.burst + 1)
    const padded = new Victim()
    padded.send(frame(1, 4, 1, post))
    assert.equal(
      padded.flood(() => frame(Type.data, Flag.padded, 1, [3, 0, 0, 0])),
      floods.empties.burst + 1,
    )
  })

  test('answers that are not read do not pile up', () => {
    for (const make of [
      () => frame(Type.ping, 0, 0, Buffer.alloc(8)),
      () => frame(Type.settings, 0, 0),
      (i: number) => frame(1, whole, idOf(i), Buffer.concat([get, field('Upper', 'x')])),
    ]) {
      const victim = new Victim({ outputBytes: 50_000 })
      victim.isTaken = false
      // Slow enough for every rate.
      const count = victim.flood((i) => {
        victim.now += 1000
        return make(i)
      })
      assert.ok(count < 10_000)
      assert.ok(victim.mostOutput < 51_000)
      assert.match(victim.end, /answers are not read/)
    }
  })

  test('pings beside data are no flood', () => {
    const victim = new Victim()
    victim.send(frame(1, 4, 1, post))
    for (let i = 0; i < 20_000; i++) {
      victim.send(frame(Type.data, 0, 1, Buffer.alloc(100)), frame(Type.ping, 0, 0, Buffer.alloc(8)))
    }
    assert.equal(victim.end, 'alive')
  })
})

suite('header blocks', () => {
  test('CONTINUATIONs without end are cut off by count and by bytes', () => {
    for (const bytes of [1, 100, 16384]) {
      const victim = new Victim({ maxListBytes: 32768 })
      victim.send(frame(Type.headers, 0, 1, get))
      const count = victim.flood(() => frame(Type.continuation, 0, 1, Buffer.alloc(bytes, 0x82)))
      assert.ok(count <= 32 && count * bytes <= 32768 * 2 + 2 * 16384, `${count} of ${bytes}`)
      assert.match(victim.end, calm)
      assert.equal(victim.accepted, 0)
    }
  })

  test('empty ones too', () => {
    const victim = new Victim()
    victim.send(frame(Type.headers, 0, 1))
    assert.ok(victim.flood(() => frame(Type.continuation, 0, 1)) <= defaultLimits.floods.empties.burst + 1)
    const openers = new Victim()
    // Each block is opened empty and closed by one whole CONTINUATION.
    const count = openers.flood((i) =>
      Buffer.concat([
        frame(Type.headers, Flag.endStream, idOf(i)),
        frame(Type.continuation, 4, idOf(i), get),
      ]),
    )
    assert.equal(count, defaultLimits.floods.empties.burst + 1)
  })

  test('bombs of references are answered with 431, fast and without growing', () => {
    const victim = new Victim()
    // One entry of 4 KB, then references to it: 16 KB on the wire would be 64 MB of fields.
    const entry = Buffer.concat([
      Buffer.from([0x40, 1, 0x61, 0x7f]),
      Buffer.from([0x81, 0x1e]),
      Buffer.alloc(3968, 0x62),
    ])
    victim.send(frame(1, whole, 1, Buffer.concat([get, entry])))
    assert.equal(victim.accepted, 1)
    const bomb = Buffer.concat([get, Buffer.alloc(16_000, 0xbe)])
    const before = process.memoryUsage().heapUsed
    const start = process.cpuUsage()
    for (let i = 1; i < 150; i++) victim.send(frame(1, whole, idOf(i), bomb))
    const { user } = process.cpuUsage(start)
    assert.equal(victim.accepted, 1)
    assert.equal(victim.end, 'alive')
    assert.equal(victim.events.filter((event) => event === 'refused head_too_large').length, 149)
    assert.ok(user < 1_000_000, `${user} µs for 2.4 MB`)
    assert.ok(process.memoryUsage().heapUsed - before < 50_000_000)
    assert.ok(victim.flood((i) => frame(1, whole, idOf(i + 150), bomb)) < 100)
  })

  test('cookies in crumbs count one by one', () => {
    const victim = new Victim({ maxFields: 100 })
    const crumb = Buffer.from([0x20 - 0x10, 0, 6, ...Buffer.from('cookie'), 1, 0x61].slice(1))
    victim.send(frame(1, whole, 1, Buffer.concat([get, ...Array.from({ length: 97 }, () => crumb)])))
    assert.deepEqual(victim.told(), ['refused head_too_large'])
  })
})

test('an honest client may do a hundred thousand requests', () => {
  const { client, server } = pair()
  server.onHeaders = (stream) => {
    server.respond(stream, 200, [], false)
    server.write(stream, 'hello', true)
  }
  for (let i = 0; i < 1000; i++) {
    for (let k = 0; k < 100; k++) client.request()
    pass(client, server)
    pass(server, client)
    client.told()
    server.told()
  }
  settle(client, server)
  assert.equal(client.session.isOver || server.session.isOver, false)
  assert.equal(client.session.openStreams, 0)
})
