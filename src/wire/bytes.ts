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

// The view of the buffer that was looked into last: a worker reads everything into the same one.
let viewed: Buffer | null = null
let view: DataView = new DataView(new ArrayBuffer(0))

/** For looking at four bytes in one step, which is much cheaper than one by one. */
export function viewOf(buf: Buffer): DataView {
  if (buf === viewed) return view
  viewed = buf
  return (view = new DataView(buf.buffer, buf.byteOffset, buf.length))
}

/** The place of the first byte of buf[start, end) that is none of `text`; `end`: there is none. */
export function textEnd(buf: Buffer, start: number, end: number): number {
  const bytes = viewOf(buf)
  let at = start
  // Stops where one of four bytes is below 0x20 or is 0x7f; both tests are of the whole word at once.
  for (const last = end - 4; at <= last; at += 4) {
    const word = bytes.getInt32(at)
    const flipped = word ^ 0x7f7f7f7f
    const controls = ((word - 0x20202020) | 0) & ~word
    const deletes = ((flipped - 0x01010101) | 0) & ~flipped
    if (((controls | deletes) & 0x80808080) !== 0) break
  }
  while (at < end && text[buf[at]!] !== 0) at++
  return at
}

/** The text that was read last in some place of a head, with the bytes that it was made of: callers repeat themselves. */
export class LastText {
  text = ''
  #length = -1
  readonly #view = new DataView(new ArrayBuffer(256))

  /** Whether buf[start, end) has the same bytes. */
  isAt(buf: Buffer, start: number, end: number): boolean {
    return end - start === this.#length && this.#holds(buf, start)
  }

  /** The place behind the same bytes and before a space, where they begin at `start`; else -1. */
  behind(buf: Buffer, start: number, bound: number): number {
    const end = start + this.#length
    return end > start && end < bound && buf[end] === SP && this.#holds(buf, start) ? end : -1
  }

  /** Returns the text. */
  keep(buf: Buffer, start: number, end: number, made: string): string {
    const ours = this.#view
    const theirs = viewOf(buf)
    const length = end - start <= ours.byteLength ? end - start : -1
    let i = 0
    for (const last = length - 4; i <= last; i += 4) ours.setInt32(i, theirs.getInt32(start + i))
    for (; i < length; i++) ours.setUint8(i, theirs.getUint8(start + i))
    this.#length = length
    return (this.text = made)
  }

  #holds(buf: Buffer, start: number): boolean {
    const ours = this.#view
    const theirs = viewOf(buf)
    const length = this.#length
    let i = 0
    for (const last = length - 4; i <= last; i += 4) {
      if (ours.getInt32(i) !== theirs.getInt32(start + i)) return false
    }
    for (; i < length; i++) if (ours.getUint8(i) !== theirs.getUint8(start + i)) return false
    return true
  }
}
