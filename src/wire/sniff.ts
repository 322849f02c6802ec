// What a client speaks, from its first bytes. Never waits longer than it must: bytes that cannot become HTTP are opaque at
// once, and protocols in which the server speaks first are the caller's business (it has no bytes to show).
import { CR, LF, target as targetByte, SP } from './bytes.ts'
import { methodPrefix } from './methods.ts'

export type Sniffed = 'http1' | 'http2' | 'tls' | 'opaque' | 'more'

const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')

/** Looks at buf[start, end) and keeps nothing. 'more': not decided yet, ask again with more bytes. */
export function sniff(buf: Buffer, start: number, end: number): Sniffed {
  if (start === end) return 'more'
  if (buf[start] === 0x16) return tls(buf, start, end)
  if (buf[start] === 80 && buf[start + 1] === 82 && end - start >= 2 && buf[start + 2] === 73) {
    const length = Math.min(end - start, preface.length)
    if (buf.compare(preface, 0, length, start, start + length) !== 0) return 'opaque'
    return length === preface.length ? 'http2' : 'more'
  }
  const after = methodPrefix(buf, start, end)
  if (after < 0) return isPrefacePrefix(buf, start, end) ? 'more' : 'opaque'
  if (after === 0) return 'more'
  return requestLine(buf, after, end)
}

/** A TLS record: handshake, version 3.x (RFC 8446 5.1). */
function tls(buf: Buffer, start: number, end: number): Sniffed {
  if (end - start < 3) return end - start < 2 || buf[start + 1] === 3 ? 'more' : 'opaque'
  return buf[start + 1] === 3 && buf[start + 2]! <= 4 ? 'tls' : 'opaque'
}

/** `P` and `PR` may become both PROPFIND or the HTTP/2 preface. */
function isPrefacePrefix(buf: Buffer, start: number, end: number): boolean {
  for (let i = start; i < end; i++)
    if (i - start >= preface.length || buf[i] !== preface[i - start]) return false
  return true
}

/**
 * The rest of a line that began with a method and a space. Text protocols have such lines too (`GET key` of Redis), so a
 * whole line must end with the version; of an unfinished one a path is proof enough.
 */
function requestLine(buf: Buffer, from: number, end: number): Sniffed {
  let at = from
  while (at < end && targetByte[buf[at]!] !== 0) at++
  if (at === from && at < end) return 'opaque'
  if (at === end) return at > from && buf[from] === 47 ? 'http1' : 'more'
  if (buf[at] !== SP) return 'opaque'
  const word = ' HTTP/1.'
  for (let i = 0; i < word.length; i++, at++) {
    if (at === end) return 'more'
    if (buf[at] !== word.charCodeAt(i)) return buf[at] === CR || buf[at] === LF ? 'opaque' : bad(buf, from)
  }
  return 'http1'
}

/** A path followed by nonsense is a bad HTTP request, to be refused as such; anything else is another protocol. */
function bad(buf: Buffer, from: number): Sniffed {
  return buf[from] === 47 ? 'http1' : 'opaque'
}
