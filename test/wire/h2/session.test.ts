// A client's and a server's session back to back: exchanges, flow control, fairness, ends in and out of order.
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { Field } from '../../../src/wire/h2/field.ts'
import { Code } from '../../../src/wire/h2/frame.ts'
import type { Stream } from '../../../src/wire/h2/stream.ts'
import { Peer, kept, pair, pass, settle } from './pair.ts'

/** The server's side of the client's last request. */
function taken(server: Peer, client: Peer): Stream {
  const stream = server.session.streams.get(client.session.lastId)
  assert.ok(stream !== null)
  return stream
}

suite('exchanges', () => {
  test('requests and responses with and without bodies', () => {
    const { client, server } = pair()
    server.onHeaders = (stream, isEnd) => {
      if (isEnd) server.respond(stream, 204)
    }
    server.onData = (stream, _, isEnd) => {
      if (!isEnd) return
      server.respond(stream, 103, [['link', '</a>']], false)
      server.respond(stream, 200, [['content-length', '5']], false)
      server.write(stream, 'hello', true)
    }
    client.request()
    const stream = client.request([['x-a', 'b']], false, 'POST', '/p')
    client.write(stream, 'abc')
    client.session.end(stream)
    settle(client, server)
    assert.deepEqual(server.told(), [
      '1 headers GET https://web/ end',
      '3 headers POST https://web/p x-a=b',
      '3 data 3 end',
    ])
    assert.deepEqual(client.told(), [
      '1 headers 204 end',
      '3 headers 103 link=</a>',
      '3 headers 200 content-length=5',
      '3 data 5 end',
    ])
    assert.equal(client.body(3), 'hello')
    assert.equal(client.session.openStreams + server.session.openStreams, 0)
  })

  test('trailers follow the body, also where the body has to wait', () => {
    for (const bytes of [10, 300_000]) {
      const { client, server } = pair()
      let items: Field[] = []
      server.onHeaders = (stream, _, fields) => {
        items = kept(fields)
        server.respond(stream, 200, [], false)
        server.write(stream, Buffer.alloc(bytes, 'a'))
        server.session.trailers(stream, items, items.length)
        items.length = 0
      }
      client.request([['grpc-status', '0']])
      settle(client, server)
      assert.deepEqual(client.told(), ['1 headers 200', `1 data ${bytes}`, '1 trailers grpc-status=0'])
      assert.equal(server.session.openStreams, 0)
    }
  })

  test('extended CONNECT becomes a tunnel with two ends', () => {
    const { client, server } = pair()
    assert.equal(client.session.canConnectProtocol, true)
    const stream = client.session.open(client, 'CONNECT')
    client.head(stream, [
      [':method', 'CONNECT'],
      [':protocol', 'websocket'],
      [':scheme', 'https'],
      [':path', '/chat'],
      [':authority', 'web'],
    ])
    server.onHeaders = (tunnel) => server.respond(tunnel, 200, [], false)
    server.onData = (tunnel, bytes, isEnd) => {
      server.write(tunnel, bytes, isEnd)
    }
    client.write(stream, 'ping')
    settle(client, server)
    assert.deepEqual(server.told(), ['1 headers CONNECT websockethttps://web/chat', '1 data 4'])
    client.session.end(stream)
    settle(client, server)
    assert.deepEqual(client.told(), ['1 headers 200', '1 data 4 end'])
    assert.equal(client.session.openStreams, 0)
  })

  test('a head of 60 KB travels in CONTINUATIONs', () => {
    const { client, server } = pair()
    const value = 'v'.repeat(20_000)
    client.request([
      ['x-a', value],
      ['x-b', value],
      ['x-c', value],
    ])
    settle(client, server)
    assert.deepEqual(server.told(), [`1 headers GET https://web/ x-a=${value} x-b=${value} x-c=${value} end`])
  })

  test('a head over the limits is answered with 431', () => {
    const { client, server } = pair({ maxListBytes: 16384 })
    client.request([['x-a', 'v'.repeat(17_000)]], false, 'POST')
    client.request()
    settle(client, server)
    assert.deepEqual(server.told(), ['refused head_too_large', '3 headers GET https://web/ end'])
    assert.deepEqual(client.told(), ['1 headers 431 end', '1 reset no_error'])
  })

  test('what is sent on a stream that is over is dropped', () => {
    const { client, server } = pair()
    const stream = client.request([], false, 'POST')
    settle(client, server)
    const theirs = taken(server, client)
    // The server speaks before it reads of the reset: all is ignored, and the client's table follows all the same.
    server.respond(theirs, 200, [['x-a', 'b']], false)
    server.write(theirs, 'late', true)
    client.session.reset(stream, Code.cancel)
    assert.equal(client.head(stream, []), false)
    assert.equal(client.write(stream, 'x', true), true)
    client.session.end(stream)
    client.session.trailers(stream, [], 0)
    client.session.consumed(stream, 5)
    pass(server, client)
    settle(client, server)
    assert.deepEqual(server.told(), ['1 headers POST https://web/', '1 reset cancel'])
    assert.deepEqual(client.told(), [])
    server.onHeaders = (next) => server.respond(next, 200, [['x-a', 'b']])
    client.request()
    client.request()
    settle(client, server)
    assert.deepEqual(client.told(), ['3 headers 200 x-a=b end', '5 headers 200 x-a=b end'])
  })
})

suite('flow control', () => {
  test('a body stops at the window until it is consumed', () => {
    const { client, server } = pair({ streamWindow: 65535 })
    server.isReading = false
    const stream = client.request([], false, 'POST')
    assert.equal(client.write(stream, Buffer.alloc(200_000), true), false)
    settle(client, server)
    assert.deepEqual(server.told(), ['1 headers POST https://web/', '1 data 65535'])
    assert.equal(stream.queued, 200_000 - 65535)
    const theirs = taken(server, client)
    server.session.consumed(theirs, 30_000)
    settle(client, server)
    assert.deepEqual(server.told(), [], 'less than half of the window is not worth a frame')
    server.session.consumed(theirs, 35_535)
    settle(client, server)
    assert.deepEqual(server.told(), ['1 data 65535'])
    server.isReading = true
    server.session.consumed(theirs, 65535)
    settle(client, server)
    assert.deepEqual(server.told(), ['1 data 68930 end'])
    assert.deepEqual(client.told(), ['1 writable'])
  })

  test('a slow reader stalls nobody else', () => {
    const { client, server } = pair({ streamWindow: 65536, connectionWindow: 200_000, queueBytes: 1_000_000 })
    server.isReading = false
    // Nine that read nothing hold three times the connection's window.
    for (let i = 0; i < 9; i++) {
      client.write(client.request([], false, 'POST'), Buffer.alloc(65536))
      settle(client, server)
    }
    server.told()
    server.isReading = true
    client.write(client.request([], false, 'POST'), Buffer.alloc(500_000), true)
    settle(client, server)
    assert.equal(server.events.at(-1), '19 data 500000 end')
  })

  test('unread bytes are bounded by queueBytes and one connection window', () => {
    const limits = { streamWindow: 100_000, connectionWindow: 300_000, queueBytes: 500_000 }
    const { client, server } = pair(limits)
    server.isReading = false
    for (let i = 0; i < 30; i++) client.write(client.request([], false, 'POST'), Buffer.alloc(100_000))
    settle(client, server)
    let unread = 0
    for (const stream of server.session.streams.all()) unread += stream.bytesIn
    assert.ok(unread > 500_000 && unread <= 800_000, String(unread))
    // Resetting them frees the way.
    for (const stream of server.session.streams.all()) server.session.reset(stream, Code.cancel)
    server.isReading = true
    settle(client, server)
    server.told()
    client.write(client.request([], false, 'POST'), Buffer.alloc(400_000), true)
    settle(client, server)
    assert.equal(server.events.at(-1), '61 data 400000 end')
  })

  test('what is left unread of streams that are over is counted no more', () => {
    const { client, server } = pair({ connectionWindow: 65535, queueBytes: 50_000 })
    server.isReading = false
    server.onData = (stream, _, isEnd) => {
      if (isEnd) server.respond(stream, 200)
    }
    for (let i = 0; i < 20; i++) {
      client.write(client.request([], false, 'POST'), Buffer.alloc(40_000), true)
      settle(client, server)
    }
    assert.equal(server.events.at(-1), '39 data 40000 end')
    assert.equal(client.session.openStreams, 0)
  })

  test('a stream that is given up when it is accepted is not told', () => {
    const { client, server } = pair()
    server.accept = () => {
      server.session.reset(server.session.streams.get(1)!, Code.refusedStream)
      return server
    }
    client.request()
    settle(client, server)
    assert.deepEqual(server.told(), [])
    assert.deepEqual(client.told(), ['1 reset refused_stream unprocessed'])
  })

  test('while the socket is full data waits and heads go on', () => {
    const { client, server } = pair()
    client.session.written(true)
    const stream = client.request([], false, 'POST')
    client.write(stream, 'abc', true)
    const bytes = client.session.take()
    client.session.written(true)
    server.session.receive(bytes, 0, bytes.length, 0)
    assert.deepEqual(server.told(), ['1 headers POST https://web/'])
    assert.equal(client.session.outEnd, 0)
    client.session.resume()
    settle(client, server)
    assert.deepEqual(server.told(), ['1 data 3 end'])
  })

  test('large buffers serve again when they are given back, small ones do not', () => {
    const { client } = pair()
    const stream = client.request([], false, 'POST')
    client.write(stream, Buffer.alloc(50_000))
    const large = client.session.take()
    client.session.recycle(large)
    client.write(stream, Buffer.alloc(10, 'a'))
    const small = client.session.take()
    client.session.recycle(small)
    client.write(stream, Buffer.alloc(60_000, 'b'))
    const next = client.session.take()
    assert.equal(next.buffer, large.buffer)
    assert.equal(small.subarray(9).toString(), 'a'.repeat(10))
    assert.deepEqual(next.subarray(9, 9 + 16384), Buffer.alloc(16384, 'b'))
  })

  test('streams are served in turn, one frame each', () => {
    const { client, server } = pair()
    const streams = [1, 2, 3].map(() => client.request([], false, 'POST'))
    settle(client, server)
    server.told()
    client.session.written(true)
    for (const stream of streams) client.write(stream, Buffer.alloc(40_000))
    client.session.resume()
    pass(client, server)
    const order = server.told().map((event) => event.replace(/ data/, ''))
    assert.deepEqual(order, ['1 16384', '3 16384', '5 16384', '1 16384'])
  })

  test('a small answer does not wait for a large one', () => {
    const { client, server } = pair()
    const large = client.request([], false, 'POST')
    client.write(large, Buffer.alloc(1_000_000), true)
    client.write(client.request([], false, 'POST'), 'small', true)
    pass(client, server)
    pass(client, server)
    assert.ok(server.events.includes('3 data 5 end'), server.events.join('\n'))
  })

  test('a lower initial window makes the windows of open streams negative', () => {
    const { client, server } = pair({ streamWindow: 1000 })
    // Both begin with the default of 65535 until SETTINGS are read; a pair has read them.
    server.isReading = false
    const stream = client.request([], false, 'POST')
    client.write(stream, Buffer.alloc(5000))
    settle(client, server)
    assert.equal(server.events.at(-1), '1 data 1000')
    assert.equal(stream.sendWindow, 0)
    server.session.consumed(taken(server, client), 1000)
    settle(client, server)
    assert.equal(server.events.at(-1), '1 data 2000')
  })
})

suite('ends', () => {
  test('a reset by the peer is told, with what it did', () => {
    const { client, server } = pair()
    const first = client.request([], false, 'POST')
    client.request([], false, 'POST')
    settle(client, server)
    server.session.reset(taken(server, client), Code.refusedStream)
    client.session.reset(first, Code.cancel)
    settle(client, server)
    assert.equal(server.events.at(-1), '1 reset cancel')
    assert.deepEqual(client.told(), ['3 reset refused_stream unprocessed'])
  })

  test('streams above the limit are refused', () => {
    const { client, server } = pair({ maxConcurrentStreams: 2 })
    assert.equal(client.session.maxConcurrentStreams, 2)
    client.session.maxConcurrentStreams = 3
    for (let i = 0; i < 3; i++) client.request([], false, 'POST')
    assert.equal(client.session.canOpen, false)
    settle(client, server)
    assert.deepEqual(client.told(), ['5 reset refused_stream unprocessed'])
    assert.equal(server.session.openStreams, 2)
  })

  test('a server that goes away finishes what is on its way, then refuses', () => {
    const { client, server } = pair()
    client.request([], false, 'POST')
    settle(client, server)
    server.session.goaway(Code.noError)
    // On its way before the client reads GOAWAY.
    client.request([], false, 'POST')
    pass(client, server)
    settle(client, server)
    assert.deepEqual(client.told(), ['going away', 'going away'])
    assert.equal(client.session.canOpen, false)
    assert.equal(server.session.openStreams, 2)
    assert.equal(server.session.isDone, false)
    for (const stream of client.session.streams.all()) client.session.end(stream)
    settle(client, server)
    for (const stream of server.session.streams.all()) server.respond(stream, 200)
    assert.equal(server.session.isDone, true)
    settle(client, server)
    assert.equal(client.session.isDone, true)
    assert.deepEqual(client.told(), ['1 headers 200 end', '3 headers 200 end'])
  })

  test('requests behind the last id of GOAWAY were surely not processed', () => {
    const { client, server } = pair()
    client.request([], false, 'POST')
    settle(client, server)
    server.session.goaway(Code.internalError)
    client.request([], false, 'POST')
    pass(server, client)
    assert.deepEqual(client.told(), ['3 reset refused_stream unprocessed', 'going away'])
    pass(client, server)
    assert.equal(server.session.openStreams, 1)
  })

  test('a request that was not written yet when GOAWAY came is not written', () => {
    const { client, server } = pair()
    const stream = client.session.open(client, 'GET')
    server.session.goaway(Code.noError)
    pass(server, client)
    assert.deepEqual(client.told(), ['1 reset refused_stream unprocessed', 'going away'])
    assert.equal(client.head(stream, []), false)
  })

  test('streams are limited by what the peer says, and before by a hundred', () => {
    const client = new Peer('client')
    for (let i = 0; i < 100; i++) client.request()
    assert.equal(client.session.canOpen, false)
    // SETTINGS without a word about it.
    client.session.receive(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]), 0, 9, 0)
    assert.equal(client.session.canOpen, true)
  })

  test('heads are written in the order of opening', () => {
    const { client } = pair()
    const first = client.session.open(client, 'GET')
    client.request()
    assert.throws(() => client.head(first, []), /order/)
  })

  test('the end of the connection resets every stream', () => {
    const { client, server } = pair()
    client.request([], false, 'POST')
    const unsent = client.session.open(client, 'GET')
    pass(client, server)
    client.session.ended()
    assert.deepEqual(client.told().toSorted(), ['1 reset gone', '3 reset gone unprocessed'])
    server.session.ended()
    assert.deepEqual(server.told(), ['1 headers POST https://web/', '1 reset gone'])
    assert.equal(client.session.outEnd, 0)
    assert.equal(client.head(unsent, []), false)
    assert.equal(client.session.isDone && server.session.isDone, true)
    assert.throws(() => client.session.open(client, 'GET'))
  })

  test('pings show whether the peer lives', () => {
    const { client, server } = pair()
    client.session.ping()
    assert.equal(client.session.isPingPending, true)
    settle(client, server)
    assert.equal(client.session.isPingPending, false)
  })
})
