// What the first bytes say, and that nothing waits longer than it must.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sniff } from '../../src/wire/sniff.ts'

const ask = (text: string): string => {
  const buf = Buffer.from(`##${text}`, 'latin1')
  return sniff(buf, 2, buf.length)
}

test('HTTP/1 is known at the first byte of a path', () => {
  assert.equal(ask('GET /'), 'http1')
  assert.equal(ask('PROPFIND /x HTTP/1.1\r\n'), 'http1')
  assert.equal(ask('GET http://a/ HTTP/1.1\r\n'), 'http1')
  assert.equal(ask('OPTIONS * HTTP/1.1\r\n'), 'http1')
  assert.equal(ask('CONNECT a:443 HTTP/1.1\r\n'), 'http1')
})

test('the HTTP/2 preface needs all of its bytes', () => {
  const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
  for (let length = 0; length < preface.length; length++) assert.equal(ask(preface.slice(0, length)), 'more')
  assert.equal(ask(preface), 'http2')
  assert.equal(ask('PRI * HTTP/2.0\r\n\r\nXX'), 'opaque')
})

test('TLS is a handshake record of version 3', () => {
  assert.equal(ask('\x16\x03\x01'), 'tls')
  assert.equal(ask('\x16\x03'), 'more')
  assert.equal(ask('\x16'), 'more')
  assert.equal(ask('\x16\x02'), 'opaque')
  assert.equal(ask('\x16\x03\x09'), 'opaque')
})

test('a method that is not finished may still become one', () => {
  for (const part of ['', 'G', 'GE', 'GET', 'P', 'PR', 'PROP', 'M-', 'GET ', 'GET h', 'CONNECT a:4']) {
    assert.equal(ask(part), 'more', part)
  }
})

test('other protocols are opaque at their first strange byte', () => {
  for (const part of ['SSH-2.0', 'get /', '\0', '*1\r\n', 'GETX', 'GX', 'EHLO', '\r\n', 'PRX', 'GET  ']) {
    assert.equal(ask(part), 'opaque', part)
  }
})

test('text protocols with the words of HTTP are not HTTP', () => {
  assert.equal(ask('GET key\r\n'), 'opaque')
  assert.equal(ask('GET /path-like-key\r\n'), 'opaque')
  assert.equal(ask('COPY a b\r\n'), 'opaque')
  assert.equal(ask('LOCK a b c'), 'opaque')
})

test('a bad request of HTTP is still HTTP, so that it is refused and not passed on', () => {
  assert.equal(ask('GET /a b HTTP/1.1\r\n'), 'http1')
  assert.equal(ask('GET /a HTTP/2.0\r\n'), 'http1')
})
