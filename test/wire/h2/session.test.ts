// A client's and a server's session back to back: exchanges, and ends in and out of order.
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { Field } from '../../../src/wire/h2/field.ts'
import { standingBytes } from '../../../src/wire/h2/output.ts'
import { Code } from '../../../src/wire/h2/frame.ts'
import { Peer, kept, pair, pass, settle, taken } from './pair.ts'

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

  test('a head above its bound is a mistake that does not pass', () => {
    const { client } = pair()
    const stream = client.session.open(client, 'GET')
    const at = client.session.beginHead(stream, 10)
    assert.throws(() => client.session.endHead(stream, at + standingBytes, true), RangeError)
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

suite('ends', () => {
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
