// The first line of a message: request line and status line (RFC 9112 3 and 4).
import { COLON, CR, LastText, LF, SP, sameToken, target as targetByte, text, token } from './bytes.ts'
import { Fault } from './fault.ts'
import { canonicalHost } from './framing.ts'
import type { Head } from './head.ts'
import { maxMethod, methodAt } from './methods.ts'

/** The last target of origin form. */
const lastTarget = new LastText()

/** `METHOD SP target SP HTTP/1.x CRLF`; the offset behind it, 0 incomplete, or a fault. */
export function requestLine(buf: Buffer, start: number, bound: number, head: Head): number {
  let at = start
  while (at < bound && token[buf[at]!] !== 0) at++
  if (at === bound) return at - start > maxMethod ? Fault.method : 0
  if (buf[at] !== SP || at === start) return Fault.method
  const method = methodAt(buf, start, at)
  if (method === undefined) return Fault.unknownMethod
  head.method = method
  const from = ++at
  const behind = method === 'CONNECT' ? -1 : lastTarget.behind(buf, from, bound)
  if (behind > 0) {
    head.target = lastTarget.text
    return version(buf, behind + 1, bound, head, true)
  }
  let backslash = -1
  for (let kind; at < bound && (kind = targetByte[buf[at]!]!) !== 0; at++) {
    if (kind === 2 && backslash < 0) backslash = at
  }
  if (at === bound) return 0
  if (at === from) return Fault.target
  if (buf[at] !== SP) {
    // HTTP/0.9, where the line ends here, is a version that we do not speak.
    return buf[at] === CR || buf[at] === LF ? Fault.requestLine : Fault.target
  }
  const to = at
  const fault = requestTarget(buf, from, to, head, backslash)
  if (fault < 0) return fault
  return version(buf, at + 1, bound, head, true)
}

/** `HTTP/1.x SP status SP reason CRLF`; the offset behind it, 0 incomplete, or a fault. */
export function statusLine(buf: Buffer, start: number, bound: number, head: Head): number {
  let at = version(buf, start, bound, head, false)
  if (at <= 0) return at
  if (at < bound && buf[at] !== SP) return Fault.statusLine
  at++
  let status = 0
  for (let i = 0; i < 3; i++, at++) {
    if (at >= bound) return 0
    const digit = buf[at]! - 48
    if (digit < 0 || digit > 9) return Fault.statusLine
    status = status * 10 + digit
  }
  if (status < 100) return Fault.statusLine
  head.status = status
  if (at >= bound) return 0
  // Servers that leave out the reason often leave out its space too; llhttp forgives that as well.
  if (buf[at] === SP) at++
  else if (buf[at] !== CR) return buf[at] === LF ? Fault.bareLf : Fault.statusLine
  const from = at
  while (at < bound && text[buf[at]!] !== 0) at++
  if (at >= bound) return 0
  if (buf[at] !== CR) return buf[at] === LF ? Fault.bareLf : Fault.statusLine
  if (at + 1 >= bound) return 0
  if (buf[at + 1] !== LF) return Fault.bareCr
  head.reason =
    status === 200 && at - from === 2 && buf[from] === 79 && buf[from + 1] === 75
      ? 'OK'
      : buf.latin1Slice(from, at)
  return at + 2
}

/** `HTTP/1.x`, and for a request its CRLF; the offset behind it, 0 incomplete, or a fault. */
function version(buf: Buffer, start: number, bound: number, head: Head, isRequest: boolean): number {
  const word = 'HTTP/'
  for (let i = 0; i < 5; i++) {
    if (start + i >= bound) return 0
    if (buf[start + i] !== word.charCodeAt(i)) return isRequest ? Fault.version : Fault.statusLine
  }
  if (start + 8 > bound) return 0
  const major = buf[start + 5]! - 48
  const minor = buf[start + 7]! - 48
  if (major < 0 || major > 9 || buf[start + 6] !== 46 || minor < 0 || minor > 9) return Fault.version
  if (major !== 1 || minor > 1) return Fault.unknownVersion
  head.minor = minor === 1 ? 1 : 0
  const at = start + 8
  if (!isRequest) return at
  if (at >= bound) return 0
  if (buf[at] !== CR) return buf[at] === LF ? Fault.bareLf : Fault.version
  if (at + 1 >= bound) return 0
  return buf[at + 1] === LF ? at + 2 : Fault.bareCr
}

/** Checks the form of the target that the method asks for (RFC 9112 3.2) and stores it; 0 or a fault. */
function requestTarget(buf: Buffer, from: number, to: number, head: Head, backslash: number): number {
  if (head.method === 'CONNECT') {
    const host = canonicalHost(buf, from, to)
    if (host === '' || buf.lastIndexOf(COLON, to - 1) <= from || buf[to - 1] === 93) return Fault.target
    head.target = buf.latin1Slice(from, to)
    if (head.target.indexOf(':') < 0) return Fault.target
    return 0
  }
  if (buf[from] === 42) {
    if (to - from !== 1 || head.method !== 'OPTIONS') return Fault.target
    head.target = '*'
    return 0
  }
  let path = from
  if (buf[from] !== 47) {
    // absolute-form: only http, since https would have come in TLS. The authority is compared with Host at the end.
    if (to - from < 8 || !sameToken(buf, from, from + 4, 'http')) return Fault.target
    if (buf[from + 4] !== COLON || buf[from + 5] !== 47 || buf[from + 6] !== 47) return Fault.target
    path = from + 7
    while (path < to && buf[path] !== 47 && buf[path] !== 63) path++
    head.host = canonicalHost(buf, from + 7, path)
    if (head.host === '') return Fault.target
    head.absolute = true
  }
  if (backslash >= 0) {
    // A backslash in the path is a slash to some servers; in the query it is data.
    const query = buf.indexOf(63, path)
    if (query < 0 || query > backslash) return Fault.target
  }
  if (path === to) head.target = head.method === 'OPTIONS' ? '*' : '/'
  else if (buf[path] === 63) head.target = `/${buf.latin1Slice(path, to)}`
  else head.target = buf.latin1Slice(path, to)
  if (path === from) lastTarget.keep(buf, from, to, head.target)
  return 0
}
