// Windows, turns and full sockets: who waits, for whom, and how much is held meanwhile.
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { Code } from '../../../src/wire/h2/frame.ts'
import { pair, pass, settle, taken } from './pair.ts'

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

  test('a buffer serves again when it is given back, and not before', () => {
    const { client } = pair()
    const stream = client.request([], false, 'POST')
    client.write(stream, Buffer.alloc(10, 'a'))
    const kept = client.session.take()
    client.write(stream, Buffer.alloc(10, 'b'))
    const given = client.session.take()
    assert.notEqual(given.buffer, kept.buffer)
    client.session.recycle()
    client.write(stream, Buffer.alloc(10, 'c'))
    const next = client.session.take()
    assert.equal(next.buffer, given.buffer)
    assert.equal(kept.subarray(-10).toString(), 'a'.repeat(10))
    assert.equal(next.subarray(-10).toString(), 'c'.repeat(10))
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
    assert.deepEqual(order.slice(0, 4), ['1 16375', '3 16375', '5 16375', '1 16375'])
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
