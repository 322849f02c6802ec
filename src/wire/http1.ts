// HTTP/1.1 heads, both directions (RFC 9110, 9112). Strict: what llhttp refuses is refused here too, and more. No
// exceptions, closures or allocation per line.
import { canonicalHost, isCanonical, Option, parseCoding, parseConnection, parseLength } from './framing.ts'
import { COLON, CR, LF, SP, TAB, sameToken, textEnd, token } from './bytes.ts'
import { Fault } from './fault.ts'
import type { Head } from './head.ts'
import { Name } from './names.ts'
import { requestLine, statusLine } from './startline.ts'

export { faultName, faultStatus } from './fault.ts'

export interface HeadLimits {
  /** Bytes of the whole head, start line and final empty line included. */
  readonly maxHeadBytes: number
  /** Header lines. */
  readonly maxHeaders: number
}

/**
 * Parses the head of a request in buf[start, end), which stays the caller's and is lent to `head`. Returns the bytes that
 * the head takes (> 0), 0 while it is incomplete, or a `Fault` code (< 0), after which the connection is beyond repair.
 *
 * `seen` is how many of these bytes an earlier call on the same message already saw when it returned 0 (default: none).
 * With it the whole arrival of a head costs time linear in its size, however small the pieces; the price is that a fault
 * in the middle of such a head may be reported only when its end or the limit is reached.
 */
export function parseRequest(
  buf: Buffer,
  start: number,
  end: number,
  head: Head,
  limits: HeadLimits,
  seen: number = 0,
): number {
  const limit = start + limits.maxHeadBytes
  if (seen > 0 && end <= limit && !mayEnd(buf, start, start + seen, end)) return 0
  const bound = end > limit ? limit : end
  head.begin(buf)
  let at = start
  // One empty line before the request line is forgiven (RFC 9112 2.2).
  if (at < bound && buf[at] === CR) {
    if (at + 1 >= bound) return unfinished(bound < end, Fault.headTooLarge)
    if (buf[at + 1] !== LF) return Fault.bareCr
    at += 2
    if (at < bound && buf[at] === CR) return Fault.emptyLines
  }
  const line = at
  at = requestLine(buf, at, bound, head)
  if (at <= 0) return at < 0 ? at : unfinished(bound < end, Fault.targetTooLong)
  frame.reset()
  at = fields(buf, at, bound, head, limits.maxHeaders)
  if (at <= 0) return at < 0 ? at : unfinished(bound < end, Fault.headTooLarge)
  head.size = at - start
  const fault = finishRequest(buf, line, head)
  return fault < 0 ? fault : at - start
}

/** Like `parseRequest`; `requestMethod` is what the response answers, since HEAD and CONNECT change its framing. */
export function parseResponse(
  buf: Buffer,
  start: number,
  end: number,
  head: Head,
  limits: HeadLimits,
  requestMethod: string,
  seen: number = 0,
): number {
  const limit = start + limits.maxHeadBytes
  if (seen > 0 && end <= limit && !mayEnd(buf, start, start + seen, end)) return 0
  const bound = end > limit ? limit : end
  head.begin(buf)
  let at = statusLine(buf, start, bound, head)
  if (at <= 0) return at < 0 ? at : unfinished(bound < end, Fault.headTooLarge)
  frame.reset()
  at = fields(buf, at, bound, head, limits.maxHeaders)
  if (at <= 0) return at < 0 ? at : unfinished(bound < end, Fault.headTooLarge)
  head.size = at - start
  const fault = finishResponse(buf, head, requestMethod)
  return fault < 0 ? fault : at - start
}

/**
 * Parses a whole trailer section (field lines and the final empty line) in buf[start, end). Returns the bytes that it takes or
 * a fault. Which names may stand there is chunk.ts's business.
 */
export function parseTrailers(
  buf: Buffer,
  start: number,
  end: number,
  head: Head,
  limits: HeadLimits,
): number {
  head.begin(buf)
  frame.reset()
  const at = fields(buf, start, end, head, limits.maxHeaders)
  if (at <= 0) return at < 0 ? at : Fault.trailer
  head.size = at - start
  return at - start
}

/** What the framing fields of the message under the parser said; one for the process, since parsing never yields. */
class Frame {
  hosts = 0
  host = 0
  hostEnd = 0
  lengths = 0
  codings = 0
  coding = 0
  options = 0
  upgrades = 0
  upgrade = 0
  upgradeEnd = 0
  expects = 0
  expectKnown = true

  reset(): void {
    this.hosts = 0
    this.host = 0
    this.hostEnd = 0
    this.lengths = 0
    this.codings = 0
    this.coding = 0
    this.options = 0
    this.upgrades = 0
    this.upgrade = 0
    this.upgradeEnd = 0
    this.expects = 0
    this.expectKnown = true
  }
}

const frame = new Frame()

function unfinished(overLimit: boolean, fault: number): number {
  return overLimit ? fault : 0
}

/** Whether the bytes from `from` on bring an end of the head, or an LF that no valid head has: then it is worth parsing. */
function mayEnd(buf: Buffer, start: number, from: number, end: number): boolean {
  for (let at = buf.indexOf(LF, from); at >= 0 && at < end; at = buf.indexOf(LF, at + 1)) {
    if (at === start || buf[at - 1] !== CR) return true
    if (at - 2 >= start && buf[at - 2] === LF) return true
  }
  return false
}

/** Header lines and the empty line; the offset behind it, 0 incomplete, or a fault. */
function fields(buf: Buffer, start: number, bound: number, head: Head, maxHeaders: number): number {
  let at = start
  for (;;) {
    if (at >= bound) return 0
    let byte = buf[at]!
    if (byte === CR) {
      if (at + 1 >= bound) return 0
      return buf[at + 1] === LF ? at + 2 : Fault.bareCr
    }
    const name = at
    let hash = 0
    for (let lower; (lower = token[byte]!) !== 0; byte = buf[at]!) {
      hash = Math.imul(hash, 33) ^ lower
      if (++at >= bound) return 0
    }
    if (byte !== COLON || at === name) return nameFault(byte, at === name)
    const nameEnd = at++
    while (at < bound && (buf[at] === SP || buf[at] === TAB)) at++
    const value = at
    at = textEnd(buf, at, bound)
    if (at >= bound) return 0
    if (buf[at] !== CR) return buf[at] === LF ? Fault.bareLf : Fault.value
    if (at + 1 >= bound) return 0
    if (buf[at + 1] !== LF) return Fault.bareCr
    let valueEnd = at
    while (valueEnd > value && (buf[valueEnd - 1] === SP || buf[valueEnd - 1] === TAB)) valueEnd--
    at += 2
    if (head.count === maxHeaders) return Fault.tooManyHeaders
    const id = head.add(name, nameEnd, value, valueEnd, hash)
    if (id !== 0 && id < Name.firstHop) {
      const fault = note(buf, id, value, valueEnd, head)
      if (fault < 0) return fault
    }
  }
}

function nameFault(byte: number, isFirst: boolean): number {
  if (byte === LF) return Fault.bareLf
  if (!isFirst) return Fault.name
  if (byte === SP || byte === TAB) return Fault.fold
  return byte === COLON ? Fault.emptyName : Fault.name
}

/** Takes down one framing field; 0 or a fault. */
function note(buf: Buffer, id: number, value: number, valueEnd: number, head: Head): number {
  switch (id) {
    case Name.host:
      frame.hosts++
      frame.host = value
      frame.hostEnd = valueEnd
      return 0
    case Name.contentLength: {
      if (frame.lengths++ > 0) return Fault.duplicateContentLength
      if (hasTab(buf, value, valueEnd)) return Fault.contentLength
      const length = parseLength(buf, value, valueEnd)
      if (length < 0) return length
      head.contentLength = length
      return 0
    }
    case Name.transferEncoding:
      if (frame.codings++ > 0) return Fault.duplicateTransferCoding
      if (hasTab(buf, value, valueEnd)) return Fault.transferCoding
      frame.coding = parseCoding(buf, value, valueEnd)
      return 0
    case Name.connection: {
      const options = parseConnection(buf, value, valueEnd, head)
      if (options < 0) return options
      frame.options |= options
      return 0
    }
    case Name.upgrade:
      frame.upgrades++
      frame.upgrade = value
      frame.upgradeEnd = valueEnd
      return 0
    default:
      frame.expects++
      frame.expectKnown = sameToken(buf, value, valueEnd, '100-continue')
      return 0
  }
}

/** A tab around a value is legal, but not all parsers trim it: llhttp reads `chunked HTAB` as another coding. */
function hasTab(buf: Buffer, value: number, valueEnd: number): boolean {
  for (let at = value - 1; buf[at] !== COLON; at--) if (buf[at] === TAB) return true
  for (let at = valueEnd; buf[at] !== CR; at++) if (buf[at] === TAB) return true
  return false
}

/** Rules between fields that hold in both directions; 0 or a fault. */
function finishFraming(head: Head): number {
  if (frame.codings > 0) {
    if (frame.lengths > 0) return Fault.lengthAndCoding
    if (frame.coding < 0) return frame.coding
    if (head.minor === 0) return Fault.codingOnOldVersion
    head.chunked = true
  }
  const options = frame.options
  head.keepAlive = (options & Option.close) === 0 && (head.minor === 1 || (options & Option.keepAlive) !== 0)
  return 0
}

function finishRequest(buf: Buffer, line: number, head: Head): number {
  const fault = finishFraming(head)
  if (fault < 0) return fault
  if (frame.hosts > 1) return Fault.duplicateHost
  if (frame.hosts === 0) {
    if (head.minor === 1) return Fault.missingHost
  } else {
    const host = canonicalHost(buf, frame.host, frame.hostEnd)
    if (host === '') return Fault.host
    if (head.absolute && head.host !== host) return Fault.hostMismatch
    head.host = host
    head.isHostCanonical = isCanonical()
  }
  if (frame.expects > 0 && head.minor === 1) {
    if (frame.expects > 1 || !frame.expectKnown) return Fault.expectation
    head.expectContinue = true
  }
  if (head.method === 'CONNECT') return finishConnect(buf, line, head)
  if (head.method === 'TRACE' && (head.chunked || head.contentLength > 0)) return Fault.bodyForbidden
  if ((frame.options & Option.upgrade) !== 0 && frame.upgrades > 0 && head.minor === 1) {
    const upgrade = upgradeToken(buf)
    if (upgrade === '') return Fault.upgrade
    if (upgrade === 'h2c') return 0
    if (head.chunked || head.contentLength > 0) return Fault.upgradeWithBody
    head.upgrade = upgrade
  }
  return 0
}

/** CONNECT has no body and names the same authority in Host. */
function finishConnect(buf: Buffer, line: number, head: Head): number {
  if (head.chunked || head.contentLength >= 0) return Fault.bodyForbidden
  const from = line + 8
  const authority = canonicalHost(buf, from, from + head.target.length)
  if (frame.hosts > 0 && head.host !== authority) {
    // Many clients leave the port out of Host.
    const colon = authority.lastIndexOf(':')
    if (colon < 0 || head.host !== authority.slice(0, colon)) return Fault.hostMismatch
    head.isHostCanonical = false
  }
  head.host = authority
  return 0
}

/** The one protocol that Upgrade names, lower case; '' where it is none or several. */
function upgradeToken(buf: Buffer): string {
  if (frame.upgrades > 1 || frame.upgrade === frame.upgradeEnd) return ''
  for (let i = frame.upgrade; i < frame.upgradeEnd; i++) {
    if (token[buf[i]!] === 0 && buf[i] !== 47) return ''
  }
  return buf.latin1Slice(frame.upgrade, frame.upgradeEnd).toLowerCase()
}

function finishResponse(buf: Buffer, head: Head, requestMethod: string): number {
  const fault = finishFraming(head)
  if (fault < 0) return fault
  const status = head.status
  const tunnel = requestMethod === 'CONNECT' && status >= 200 && status < 300
  if (status < 200 || status === 204) {
    // A body announced where none can be is somebody else's next response (RFC 9112 6.1, 6.3).
    if (head.chunked || head.contentLength > 0) return Fault.bodyForbidden
  }
  if (status === 101) {
    head.upgrade = frame.upgrades > 0 ? upgradeToken(buf) : ''
    if (head.upgrade === '' || (frame.options & Option.upgrade) === 0) return Fault.upgrade
  }
  if (tunnel && (head.chunked || head.contentLength > 0)) return Fault.bodyForbidden
  if (status < 200 || status === 204 || status === 304 || requestMethod === 'HEAD' || tunnel) {
    head.bodyless = true
    head.chunked = false
    head.contentLength = 0
  } else if (!head.chunked && head.contentLength < 0) {
    // Until close: the connection ends with this body.
    head.keepAlive = false
  }
  return 0
}
