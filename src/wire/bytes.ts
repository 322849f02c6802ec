// Byte classes of RFC 9110 and 9112 as lookup tables, and comparisons on bytes that allocate nothing.

export const CR = 13
export const LF = 10
export const SP = 32
export const TAB = 9
export const COLON = 58
export const COMMA = 44

/** tchar (RFC 9110 5.6.2) → its lower-case byte; 0: not a token byte. */
export const token = new Uint8Array(256)
/** field-content, SP and HTAB (RFC 9110 5.5): 1 where allowed in a field value. obs-text is allowed, controls are not. */
export const text = new Uint8Array(256)
/** Bytes of a request target: 1 allowed, 2 a backslash (allowed in the query only). No fragment, no controls, no obs-text. */
export const target = new Uint8Array(256)
/** Hexadecimal digit → its value + 1; 0: not one. */
export const hex = new Uint8Array(256)
/** Bytes of a registered name or IPv4 address in Host: unreserved only, so no list, userinfo or percent-encoding. */
export const regName = new Uint8Array(256)

for (let byte = 0; byte < 256; byte++) {
  const char = String.fromCharCode(byte)
  if (/[!#$%&'*+\-.^_`|~0-9A-Za-z]/.test(char)) token[byte] = char.toLowerCase().charCodeAt(0)
  if (byte === TAB || (byte >= 0x20 && byte !== 0x7f)) text[byte] = 1
  if (byte > 0x20 && byte < 0x7f && char !== '#') target[byte] = char === '\\' ? 2 : 1
  if (/[0-9A-Fa-f]/.test(char)) hex[byte] = Number.parseInt(char, 16) + 1
  if (/[A-Za-z0-9._~-]/.test(char)) regName[byte] = char.toLowerCase().charCodeAt(0)
}

/** The hash that the parser computes while it walks over a name. */
export function hashOf(lowercase: string): number {
  let hash = 0
  for (let i = 0; i < lowercase.length; i++) hash = Math.imul(hash, 33) ^ lowercase.charCodeAt(i)
  return hash
}

/** Whether buf[start, end) is this lower-case token, ignoring case. */
export function sameToken(buf: Buffer, start: number, end: number, lowercase: string): boolean {
  if (end - start !== lowercase.length) return false
  for (let i = 0; start < end; i++, start++) {
    if (token[buf[start]!] !== lowercase.charCodeAt(i)) return false
  }
  return true
}

/** Whether two ranges of a buffer hold the same token, ignoring case. */
export function sameRange(buf: Buffer, a: number, aEnd: number, b: number, bEnd: number): boolean {
  if (aEnd - a !== bEnd - b) return false
  while (a < aEnd) if (token[buf[a++]!] !== token[buf[b++]!]) return false
  return true
}

/** The bytes as a string, one character per byte; `last`, when it is the same: clients repeat themselves. */
export function latin1(buf: Buffer, start: number, end: number, last: string): string {
  if (end - start !== last.length) return buf.latin1Slice(start, end)
  for (let i = 0; start + i < end; i++) {
    if (buf[start + i] !== last.charCodeAt(i)) return buf.latin1Slice(start, end)
  }
  return last
}
