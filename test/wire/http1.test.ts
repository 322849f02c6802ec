// The codecs against the corpus: whole, cut at every place, and beside Node's own parser.
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { Fault, faultName, faultStatus } from '../../src/wire/fault.ts'
import { Head } from '../../src/wire/head.ts'
import { parseRequest, parseResponse } from '../../src/wire/http1.ts'
import { badRequests, badResponses } from './attacks.ts'
import { goodRequests, goodResponses } from './corpus.ts'
import { readLlhttp } from './llhttp.ts'
import { read } from './reading.ts'

const limits = { maxHeadBytes: 65536, maxHeaders: 100 }
const bytesOf = (text: string): Buffer => Buffer.from(text, 'latin1')

function request(text: string): Head {
  const head = new Head()
  const bytes = bytesOf(text)
  assert.equal(parseRequest(bytes, 0, bytes.length, head, limits), bytes.length)
  return head
}

suite('requests that are refused', () => {
  for (const bad of badRequests) {
    test(bad.name, () => {
      const reading = read(bytesOf(bad.bytes))
      assert.equal(reading.fault, bad.fault)
      const code = Object.values(Fault).find((value) => faultName(value) === bad.fault)!
      assert.equal(faultStatus(code), bad.status)
    })
  }
})

suite('responses that are refused', () => {
  for (const bad of badResponses) {
    test(bad.name, () => {
      const { requestMethod = 'GET' } = bad
      assert.equal(read(bytesOf(bad.bytes), [], { kind: 'response', requestMethod }).fault, bad.fault)
    })
  }
})

suite('messages that pass, read as llhttp reads them', () => {
  for (const good of goodRequests) {
    test(good.name, () => {
      const ours = read(bytesOf(good.bytes))
      assert.equal(ours.fault, '')
      assert.deepEqual(ours, readLlhttp(bytesOf(good.bytes), 'request'))
    })
  }
  for (const good of goodResponses) {
    test(`response: ${good.name}`, () => {
      const { requestMethod = 'GET' } = good
      const ours = read(bytesOf(good.bytes), [], { kind: 'response', requestMethod })
      assert.deepEqual(ours, readLlhttp(bytesOf(good.bytes), 'response', requestMethod))
    })
  }
})

test('every message reads alike at every split point and byte by byte', () => {
  const requests = [...goodRequests, ...badRequests]
  const responses = [...goodResponses, ...badResponses]
  for (const [kind, messages] of [
    ['request', requests],
    ['response', responses],
  ] as const) {
    for (const message of messages) {
      const requestMethod = 'requestMethod' in message ? (message.requestMethod ?? 'GET') : 'GET'
      const bytes = bytesOf(message.bytes)
      const whole = read(bytes, [], { kind, requestMethod })
      // Long ones at every 997th place: the reader copies what is left at each cut.
      const step = bytes.length > 5000 ? 997 : 1
      for (let cut = 1; cut < bytes.length; cut += step) {
        assert.deepEqual(read(bytes, [cut], { kind, requestMethod }), whole, `${message.name} cut at ${cut}`)
      }
      const each = Array.from({ length: Math.floor((bytes.length - 1) / step) }, (_, i) => (i + 1) * step)
      assert.deepEqual(read(bytes, each, { kind, requestMethod }), whole, `${message.name} byte by byte`)
    }
  }
})

test('a head that trickles in byte by byte is parsed at most twice', () => {
  let begun = 0
  class Counting extends Head {
    override begin(buf: Buffer): void {
      begun++
      super.begin(buf)
    }
  }
  const head = new Counting()
  const bytes = bytesOf(
    `GET / HTTP/1.1\r\nHost: a\r\n${'X: y\r\n'.repeat(90)}X: ${'z'.repeat(60000)}\r\n\r\n`,
  )
  let used = 0
  for (let end = 1; end <= bytes.length; end++) used = parseRequest(bytes, 0, end, head, limits, end - 1)
  assert.equal(used, bytes.length)
  assert.equal(begun, 2)
})

test('a head without end is refused at its limit, not before', () => {
  const head = new Head()
  const small = { maxHeadBytes: 100, maxHeaders: 10 }
  const bytes = bytesOf(`GET / HTTP/1.1\r\nHost: a\r\nX: ${'y'.repeat(200)}`)
  assert.equal(parseRequest(bytes, 0, 100, head, small), 0)
  assert.equal(parseRequest(bytes, 0, 101, head, small, 100), Fault.headTooLarge)
  const exact = bytesOf(`GET / HTTP/1.1\r\nHost: a\r\nX: ${'y'.repeat(68)}\r\n\r\n`)
  assert.equal(exact.length, 100)
  assert.equal(parseRequest(exact, 0, 100, head, small), 100)
})

suite('head', () => {
  test('get joins lines, finds without regard to case, and knows absent from empty', () => {
    const head = request('GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nx-a: 2\r\nX-Empty:\r\nCOOKIE: c\r\n\r\n')
    assert.equal(head.get('x-a'), '1, 2')
    assert.equal(head.get('x-empty'), '')
    assert.equal(head.get('x-none'), undefined)
    assert.equal(head.has('cookie'), true)
    assert.equal(head.has('x-none'), false)
    assert.deepEqual(
      [0, 1, 2, 3, 4].map((i) => head.name(i)),
      ['host', 'x-a', 'x-a', 'x-empty', 'cookie'],
    )
  })

  test('hop-by-hop lines and those that Connection nominates are told apart', () => {
    const head = request(
      'GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nX-Other: 2\r\nKeep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\n\r\n',
    )
    const hops = Array.from({ length: head.count }, (_, i) => i).filter((i) => head.hop(i))
    assert.deepEqual(
      hops.map((i) => head.name(i)),
      ['connection', 'x-mine', 'keep-alive', 'te', 'upgrade'],
    )
  })

  test('writeLines keeps bytes and case, writes one form, leaves out what is dropped', () => {
    const head = request(
      'GET / HTTP/1.1\r\nHost: a\r\nX-A:b  \r\nDrop: 1\r\nx-B: \xe9\r\nX-c:\r\nY: 1\r\nZ:\t2\r\n\r\n',
    )
    const out = Buffer.alloc(500, '!')
    const end = head.writeLines(out, 3, (i, h) => h.name(i) === 'drop')
    assert.equal(
      out.toString('latin1', 3, end),
      'Host: a\r\nX-A: b\r\nx-B: \xe9\r\nX-c: \r\nY: 1\r\nZ: 2\r\n',
    )
    assert.equal(out[end], 33)
    assert.throws(() => head.writeLines(Buffer.alloc(10), 0, () => false), RangeError)
  })

  test('host is canonical: lower case, no trailing dot, no port 80', () => {
    for (const [sent, host] of [
      ['WEB.Default.Mesh', 'web.default.mesh'],
      ['web.default.mesh.', 'web.default.mesh'],
      ['web:80', 'web'],
      ['Web.:8080', 'web:8080'],
      ['[FD00::1]:80', '[fd00::1]'],
      ['10.0.0.1:81', '10.0.0.1:81'],
    ]) {
      assert.equal(request(`GET / HTTP/1.1\r\nHost: ${sent}\r\n\r\n`).host, host)
    }
  })

  test('an absolute form is reduced to its path and agrees with Host', () => {
    for (const [target, path] of [
      ['http://a/x?y', '/x?y'],
      ['HTTP://A:80/x', '/x'],
      ['http://a', '/'],
      ['http://a?q', '/?q'],
    ]) {
      const head = request(`GET ${target} HTTP/1.1\r\nHost: a\r\n\r\n`)
      assert.equal(head.target, path)
      assert.equal(head.absolute, true)
      assert.equal(head.host, 'a')
    }
    assert.equal(request('OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n').target, '*')
    assert.equal(request('GET http://b/ HTTP/1.0\r\n\r\n').host, 'b')
  })

  test('an h2c upgrade offer is ignored, body and all', () => {
    const text =
      'POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\nContent-Length: 2\r\n\r\n'
    const head = request(text)
    assert.equal(head.upgrade, '')
    assert.equal(head.contentLength, 2)
    assert.equal(head.hop(head.find('http2-settings', 0)), true)
  })

  test('more lines than the table began with', () => {
    const head = request(
      `GET / HTTP/1.1\r\nHost: a\r\n${Array.from({ length: 90 }, (_, i) => `X-${i}: ${i}\r\n`).join('')}\r\n`,
    )
    assert.equal(head.count, 91)
    assert.equal(head.get('x-89'), '89')
  })

  test('a response tells what follows it', () => {
    const head = new Head()
    const parse = (text: string, method = 'GET'): void => {
      const bytes = bytesOf(text)
      assert.equal(parseResponse(bytes, 0, bytes.length, head, limits, method), bytes.length)
    }
    parse('HTTP/1.1 200 OK\r\n\r\n')
    assert.deepEqual(
      [head.contentLength, head.keepAlive, head.bodyless, head.reason],
      [-1, false, false, 'OK'],
    )
    parse('HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n', 'HEAD')
    assert.deepEqual([head.contentLength, head.keepAlive, head.bodyless], [0, true, true])
    parse('HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n', 'HEAD')
    assert.deepEqual([head.chunked, head.bodyless, head.reason], [false, true, 'Fine'])
    parse('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\r\n')
    assert.equal(head.upgrade, 'websocket')
    parse('HTTP/1.1 200 OK\r\n\r\n', 'CONNECT')
    assert.deepEqual([head.contentLength, head.bodyless], [0, true])
  })
})
