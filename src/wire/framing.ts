// Header fields that say where a message ends and what becomes of its connection. Everything that two parsers could read
// in two ways is refused: that is what request smuggling is made of (RFC 9112 6.3, 11.2).
import { COMMA, LastText, SP, TAB, regName, sameToken, token } from './bytes.ts'
import { Fault } from './fault.ts'
import type { Head } from './head.ts'

/** The last host that was written as it is compared. */
const lastHost = new LastText()
let wasCanonical = false

/** Whether the last call of `canonicalHost` returned what was written, byte for byte. */
export function isCanonical(): boolean {
  return wasCanonical
}

/** Digits of 2^53 - 1, the largest length that JavaScript counts exactly. */
const maxDigits = 16

/** A Content-Length in bytes; negative: fault. Digits only: no sign, no list, no space inside, not empty. */
export function parseLength(buf: Buffer, start: number, end: number): number {
  if (start === end || end - start > maxDigits) return Fault.contentLength
  let length = 0
  for (let i = start; i < end; i++) {
    const digit = buf[i]! - 48
    if (digit < 0 || digit > 9) return Fault.contentLength
    length = length * 10 + digit
  }
  return length > Number.MAX_SAFE_INTEGER ? Fault.contentLength : length
}

/** 0: exactly `chunked`; else a fault. */
export function parseCoding(buf: Buffer, start: number, end: number): number {
  if (sameToken(buf, start, end, 'chunked')) return 0
  // One plain token may be a coding that we do not have (501); anything else is not a coding at all (400).
  if (start === end) return Fault.transferCoding
  for (let i = start; i < end; i++) if (token[buf[i]!] === 0) return Fault.transferCoding
  return Fault.unknownCoding
}

/** Bits that `parseConnection` returns. */
export const Option = { close: 1, keepAlive: 2, upgrade: 4 } as const

/**
 * The options of a Connection header; negative: fault. Nominated header names are kept in the head. Names that carry
 * framing or routing cannot be nominated: removing them is how hop-by-hop abuse works.
 */
export function parseConnection(buf: Buffer, start: number, end: number, head: Head): number {
  let options = 0
  let at = start
  for (;;) {
    while (at < end && (buf[at] === SP || buf[at] === TAB || buf[at] === COMMA)) at++
    if (at === end) return options
    const from = at
    let hash = 0
    for (let lower; at < end && (lower = token[buf[at]!]!) !== 0; at++) hash = Math.imul(hash, 33) ^ lower
    const to = at
    while (at < end && (buf[at] === SP || buf[at] === TAB)) at++
    if (to === from || (at < end && buf[at] !== COMMA)) return Fault.connection
    if (sameToken(buf, from, to, 'keep-alive')) options |= Option.keepAlive
    else if (sameToken(buf, from, to, 'close')) options |= Option.close
    else if (sameToken(buf, from, to, 'upgrade')) options |= Option.upgrade
    else if (sameToken(buf, from, to, 'te')) continue
    else if (sameToken(buf, from, to, 'host') || sameToken(buf, from, to, 'content-length'))
      return Fault.connection
    else if (!head.nominate(from, to, hash)) return Fault.connection
  }
}

/**
 * Checks `host[:port]` and returns it in the form that routes and policies compare: lower case, no trailing dot, no
 * port 80. '' where it is none: empty, a list, with userinfo, percent-encoding or a bad port.
 */
export function canonicalHost(buf: Buffer, start: number, end: number): string {
  wasCanonical = lastHost.isAt(buf, start, end)
  if (wasCanonical) return lastHost.text
  let at = start
  let upper = false
  let nameEnd: number
  if (buf[at] === 91 && at < end) {
    // [IPv6]: digits, colons and dots; the resolver judges the rest.
    at++
    while (at < end && buf[at] !== 93) {
      const byte = buf[at]!
      const lower = byte | 32
      if (!((byte >= 48 && byte <= 58) || byte === 46 || (lower >= 97 && lower <= 102))) return ''
      if (byte >= 65 && byte <= 70) upper = true
      at++
    }
    if (at === end || at < start + 3) return ''
    nameEnd = ++at
  } else {
    while (at < end && regName[buf[at]!] !== 0) {
      const byte = buf[at++]!
      if (byte >= 65 && byte <= 90) upper = true
    }
    nameEnd = at
    if (nameEnd > start && buf[nameEnd - 1] === 46) nameEnd--
    // Not a bare dot, not two trailing dots.
    if (nameEnd === start || buf[nameEnd - 1] === 46) return ''
  }
  let port = -1
  if (at < end) {
    if (buf[at] !== 58 || at + 1 === end || end - at > 6) return ''
    port = 0
    for (let i = at + 1; i < end; i++) {
      const digit = buf[i]! - 48
      if (digit < 0 || digit > 9) return ''
      port = port * 10 + digit
    }
    if (port === 0 || port > 65535) return ''
  }
  wasCanonical =
    !upper && (nameEnd === end || (port !== 80 && buf[nameEnd] === 58 && buf[nameEnd + 1] !== 48))
  if (wasCanonical) return lastHost.keep(buf, start, end, buf.latin1Slice(start, end))
  const host = buf.latin1Slice(start, nameEnd).toLowerCase()
  return port === -1 || port === 80 ? host : `${host}:${port}`
}
