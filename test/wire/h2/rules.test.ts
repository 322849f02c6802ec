// The rules of windows, streams and responses, broken on purpose.
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { Code, Flag, Type } from '../../../src/wire/h2/frame.ts'
import { defaultLimits } from '../../../src/wire/h2/limits.ts'
import { Peer } from './pair.ts'
import { Victim, field, frame, get, idOf, post, whole, word } from './victim.ts'

suite('windows', () => {
  test('who opens no window holds no more than the queue', () => {
    const victim = new Victim()
    victim.send(frame(Type.settings, 0, 0, [0, 4, 0, 0, 0, 0]))
    let fed = 0
    victim.onHeaders = (stream) => {
      victim.respond(stream, 200, [], false)
      while (victim.write(stream, Buffer.alloc(16384))) fed += 16384
    }
    victim.send(frame(1, whole, 1, get))
    assert.ok(fed <= defaultLimits.streamQueue)
    const stream = victim.session.streams.get(1)
    // That it stands still can be seen.
    assert.deepEqual([stream?.queued, stream?.bytesOut], [fed + 16384, 0])
    victim.send(frame(Type.windowUpdate, 0, 1, word(1)))
    assert.equal(stream?.bytesOut, 1)
  })

  test('windows do not overflow', () => {
    const victim = new Victim()
    victim.send(frame(1, 4, 1, post), frame(Type.windowUpdate, 0, 1, word(0x7fffffff)))
    assert.equal(victim.told().at(-1), '1 reset flow_control_error')
    victim.send(frame(1, 4, 3, post), frame(Type.windowUpdate, 0, 3, word(0x7fff0000)))
    victim.send(frame(Type.settings, 0, 0, [0, 4, 0x7f, 0xff, 0xff, 0xff]))
    assert.match(victim.end, /^failed flow_control_error/)
    const other = new Victim()
    other.send(frame(Type.windowUpdate, 0, 0, word(0x7fffffff)))
    assert.match(other.end, /^failed flow_control_error/)
  })

  test('more than a window allows ends the stream, or the session', () => {
    const chunk = frame(Type.data, 0, 1, Buffer.alloc(16384))
    const victim = new Victim({ streamWindow: 65535 })
    victim.isReading = false
    victim.send(frame(1, 4, 1, post), chunk, chunk, chunk, chunk)
    assert.equal(victim.told().at(-1), '1 reset flow_control_error')
    const other = new Victim({ connectionWindow: 65535, queueBytes: 0 })
    other.isReading = false
    other.send(frame(1, 4, 1, post), frame(1, 4, 3, post), chunk, chunk)
    for (let i = 0; i < 3; i++) other.send(frame(Type.data, 0, 3, Buffer.alloc(16384)))
    assert.match(other.end, /^failed flow_control_error/)
  })

  test('data of streams that are no more counts for the connection, and is given back', () => {
    const victim = new Victim({ connectionWindow: 100_000 })
    victim.onHeaders = (stream) => victim.session.reset(stream, Code.cancel)
    victim.send(frame(1, 4, 1, post))
    victim.isTaken = false
    for (let i = 0; i < 100; i++) victim.send(frame(Type.data, 0, 1, Buffer.alloc(16384)))
    // Every four of them fill half of the window.
    const renewed = frame(Type.windowUpdate, 0, 0, word(4 * 16384))
    assert.deepEqual(victim.session.take(), Buffer.concat(Array.from({ length: 25 }, () => renewed)))
    assert.equal(victim.end, 'alive')
    assert.deepEqual(victim.told(), ['1 headers POST https://web/'])
  })

  test('padding is given back without a reader', () => {
    const victim = new Victim({ streamWindow: 65535, connectionWindow: 65535 })
    victim.isReading = false
    victim.send(frame(1, 4, 1, post))
    const padded = frame(Type.data, Flag.padded, 1, Buffer.concat([Buffer.from([255, 1]), Buffer.alloc(255)]))
    for (let i = 0; i < 1000; i++) victim.send(padded)
    assert.deepEqual(victim.told(), ['1 headers POST https://web/', '1 data 1000'])
  })

  test('until our SETTINGS are read the peer may use the default window, then no more than ours', () => {
    const chunk = Buffer.alloc(16384)
    const victim = new Victim({ streamWindow: 20_000 })
    victim.isReading = false
    victim.send(frame(1, 4, 1, post), frame(Type.data, 0, 1, chunk), frame(Type.data, 0, 1, chunk))
    victim.send(frame(Type.settings, Flag.ack, 0))
    assert.equal(victim.told().at(-1), '1 data 32768')
    victim.send(frame(Type.data, 0, 1, [1]))
    assert.equal(victim.told().at(-1), '1 reset flow_control_error')
    victim.send(frame(1, 4, 3, post), frame(Type.data, 0, 3, chunk), frame(Type.data, 0, 3, chunk))
    assert.equal(victim.told().at(-1), '3 reset flow_control_error')
  })
})

suite('rules of streams', () => {
  const ends = (...frames: Buffer[]): string => {
    const victim = new Victim()
    victim.onHeaders = (stream, isEnd) => {
      if (isEnd) victim.respond(stream, 200)
    }
    victim.send(...frames)
    return victim.events.at(-1) ?? ''
  }

  test('ids go forward, are odd, and are not used again', () => {
    assert.match(ends(frame(1, 4, 5, post), frame(1, 4, 3, post)), /^failed protocol_error/)
    assert.match(ends(frame(1, 4, 2, post)), /^failed protocol_error/)
    assert.match(ends(frame(1, whole, 1, get), frame(1, whole, 1, get)), /^failed stream_closed/)
    assert.match(ends(frame(1, whole, 1, get), frame(0, 0, 1, [1])), /^failed stream_closed/)
    assert.match(ends(frame(0, 0, 1, [1])), /^failed protocol_error/)
    assert.match(ends(frame(3, 0, 1, word(8))), /^failed protocol_error/)
    assert.match(ends(frame(8, 0, 1, word(8))), /^failed protocol_error/)
  })

  test('indexes beyond the table, in the two cases that h2spec has since 2.3', () => {
    assert.match(
      ends(frame(1, whole, 1, Buffer.concat([get, Buffer.from([0xc6])]))),
      /^failed compression_error/,
    )
    const literal = Buffer.concat([get, Buffer.from([0x7f, 0x07, 1, 0x78])])
    assert.match(ends(frame(1, whole, 1, literal)), /^failed compression_error/)
  })

  test('trailers come once, at the end, and not in a tunnel', () => {
    const trailer = field('x-sum', '1')
    assert.equal(ends(frame(1, 4, 1, post), frame(1, 4, 1, trailer)), '1 reset protocol_error')
    assert.equal(
      ends(frame(1, 4, 1, post), frame(1, 5, 1, trailer), frame(1, 5, 1, trailer)),
      '1 reset stream_closed',
    )
    const connect = Buffer.concat([field(':method', 'CONNECT'), field(':authority', 'web:80')])
    assert.equal(ends(frame(1, 4, 1, connect), frame(1, 5, 1, trailer)), '1 reset protocol_error')
    const early = Buffer.concat([post, field('content-length', '3')])
    assert.equal(ends(frame(1, 4, 1, early), frame(1, 5, 1, trailer)), '1 reset protocol_error')
  })

  test('a late frame on a stream that the peer reset itself is an error of that stream', () => {
    const victim = new Victim()
    victim.send(frame(1, 4, 1, post), frame(3, 0, 1, word(8)))
    victim.isTaken = false
    victim.send(frame(0, 0, 1, [1]), frame(1, whole, 1, get))
    const closed = frame(Type.rstStream, 0, 1, word(Code.streamClosed))
    assert.deepEqual(victim.session.take(), Buffer.concat([closed, closed]))
  })
})

test('what follows a request that was refused is ignored', () => {
  const trailers = field('x-sum', '1')
  const full = new Victim({ maxConcurrentStreams: 0 })
  full.isTaken = false
  full.send(frame(1, 4, 1, post), frame(0, 0, 1, [1]), frame(1, 5, 1, trailers))
  assert.deepEqual(full.session.take(), frame(3, 0, 1, word(Code.refusedStream)))
  const strict = new Victim()
  strict.isTaken = false
  strict.send(
    frame(1, 4, 1, Buffer.concat([post, field('Upper', 'x')])),
    frame(0, 0, 1, [1]),
    frame(1, 5, 1, trailers),
  )
  assert.deepEqual(strict.session.take(), frame(3, 0, 1, word(Code.protocolError)))
  assert.deepEqual([...full.events, ...strict.events], ['refused name'])
})

test('a server that gives up a thousand uploads at once does not hold their data against the client', () => {
  const victim = new Victim()
  for (let i = 0; i < 1000; i++) victim.send(frame(1, 4, idOf(i), post))
  for (const stream of victim.session.streams.all()) victim.session.reset(stream, Code.noError)
  victim.send()
  victim.isTaken = false
  for (let i = 0; i < 1000; i++)
    victim.send(frame(0, 0, idOf(i), [1]), frame(1, 5, idOf(i), field('x-sum', '1')))
  assert.equal(victim.end, 'alive')
  assert.equal(victim.session.outEnd, 0)
})

test('a stream that lives long is no reason to forget those after it', () => {
  const victim = new Victim()
  victim.send(frame(1, 4, 1, post))
  // Of the ids whose ends are remembered, 257 shares the place of 1.
  victim.send(frame(1, 4, 257, post))
  victim.session.reset(victim.session.streams.get(257)!, Code.cancel)
  victim.session.reset(victim.session.streams.get(1)!, Code.cancel)
  victim.send(frame(0, 0, 257, [1]), frame(0, 0, 1, [1]))
  assert.equal(victim.end, 'alive')
  victim.send(frame(0, 0, 255, [1]))
  assert.match(victim.end, /going backwards/)
})

suite('servers that mean harm', () => {
  /** What a client tells of these frames in answer to a request. */
  const told = (method: string, ...frames: Buffer[]): string[] => {
    const client = new Peer('client')
    client.request([], true, method)
    const bytes = Buffer.concat([frame(Type.settings, 0, 0), ...frames])
    client.session.receive(bytes, 0, bytes.length, 0)
    return client.told().filter((event) => event !== 'settled')
  }
  const ok = Buffer.from([0x88])
  const status = (code: number): Buffer => field(':status', String(code))

  test('bodies where none can be', () => {
    const body = frame(Type.data, 1, 1, [1])
    assert.equal(told('HEAD', frame(1, 4, 1, ok), body).at(-1), '1 reset protocol_error')
    assert.equal(told('GET', frame(1, 4, 1, status(204)), body).at(-1), '1 reset protocol_error')
    assert.equal(told('GET', frame(1, 4, 1, status(304)), body).at(-1), '1 reset protocol_error')
    const long = Buffer.concat([ok, field('content-length', '5')])
    assert.deepEqual(told('HEAD', frame(1, 5, 1, long)), ['1 headers 200 content-length=5 end'])
    assert.equal(told('GET', frame(1, 5, 1, long)).at(-1), '1 reset protocol_error')
  })

  test('heads where none can be', () => {
    assert.deepEqual(told('GET', body(1)), ['1 reset protocol_error'])
    assert.deepEqual(told('GET', frame(1, 4, 1, status(101))), ['1 reset protocol_error'])
    assert.deepEqual(told('GET', frame(1, 5, 1, status(103))), ['1 reset protocol_error'])
    assert.match(told('GET', frame(1, 4, 3, ok)).at(-1)!, /^failed protocol_error/)
    assert.match(told('GET', frame(1, 4, 2, ok)).at(-1)!, /^failed protocol_error/)
    assert.match(told('GET', frame(Type.pushPromise, 4, 1, word(2))).at(-1)!, /^failed protocol_error/)
    const interims = Array.from({ length: 17 }, () => frame(1, 4, 1, status(103)))
    assert.equal(told('GET', ...interims).at(-1), '1 reset enhance_your_calm')
  })

  test('SETTINGS and GOAWAY that cannot be', () => {
    const settings = (id: number, value: number): string =>
      told('GET', frame(Type.settings, 0, 0, Buffer.concat([Buffer.from([0, id]), word(value)]))).at(-1) ?? ''
    assert.match(settings(2, 1), /^failed protocol_error/)
    assert.match(settings(4, 0x80000000), /^failed flow_control_error/)
    assert.match(settings(5, 16383), /^failed protocol_error/)
    assert.match(settings(8, 2), /^failed protocol_error/)
    const goaway = (id: number): Buffer => frame(Type.goaway, 0, 0, Buffer.concat([word(id), word(0)]))
    assert.match(told('GET', goaway(1), goaway(3)).at(-1)!, /^failed protocol_error/)
  })

  function body(id: number): Buffer {
    return frame(Type.data, 1, id, [1])
  }
})
