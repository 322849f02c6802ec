// The head of a message: start line and header lines as offsets into the buffer they were read from.
import { sameRange, sameToken, token } from './bytes.ts'
import type { HpackEncoder } from './h2/encoder.ts'
import { hashFor, idOf, Name, nameOf } from './names.ts'

declare global {
  // Node's own fast path to one-byte strings; @types/node leaves it out.
  interface Buffer {
    latin1Slice(start?: number, end?: number): string
  }
}

/** Integers kept per header line, in this order. */
const stride = 6
const NAME = 0
const NAME_END = 1
const VALUE = 2
const VALUE_END = 3
const HASH = 4
const ID = 5

/** Names that a Connection header may nominate for removal; more is an attack. */
const maxOptions = 16

/**
 * One parsed head, reusable. `parseRequest` and `parseResponse` fill it; `method`, `target`, `host`, `reason` and
 * `upgrade` are strings of its own. The header lines stay in the caller's buffer, which is lent to the Head: names and
 * values may be read only until the caller changes or frees those bytes. After a return of 0 or a fault the content is
 * undefined, and nothing carries over from one parse to the next, so one Head may serve many connections in turn.
 */
export class Head {
  method = ''
  /** Origin form (`/path?query`), `*`, or `host:port` of CONNECT. An absolute form is reduced to its path. */
  target = ''
  /** Whether the request line had the absolute form. Its authority equals Host. */
  absolute = false
  /** HTTP/1.0 or 1.1. */
  minor: 0 | 1 = 1
  status = 0
  reason = ''
  /** Header lines. */
  count = 0
  /** Bytes of body that follow on the wire; -1: not told (chunked, none in a request, until close in a response). */
  contentLength = -1
  chunked = false
  /** A response that has no body whatever its headers say: to HEAD, 1xx, 204, 304, 2xx to CONNECT. */
  bodyless = false
  /** Whether the connection may be used again after this message. */
  keepAlive = true
  /** Lower-case protocol of an Upgrade that Connection confirms; '' none. h2c counts as none (RFC 9113 3.1 retired it). */
  upgrade = ''
  expectContinue = false
  /** Host in lower case, without a trailing dot and without the default port 80; '' only with HTTP/1.0 or a response. */
  host = ''
  /** Host was written as `host` has it. */
  isHostCanonical = false
  /** Bytes of the whole head as read. */
  size = 0

  #buf: Buffer = Buffer.alloc(0)
  #lines = new Int32Array(32 * stride)
  #options = new Int32Array(maxOptions * 3)
  #optionCount = 0

  /** Forgets everything; `buf` is lent until the caller moves on. For the parsers. */
  begin(buf: Buffer): void {
    this.#buf = buf
    this.method = ''
    this.target = ''
    this.absolute = false
    this.minor = 1
    this.status = 0
    this.reason = ''
    this.count = 0
    this.contentLength = -1
    this.chunked = false
    this.bodyless = false
    this.keepAlive = true
    this.upgrade = ''
    this.expectContinue = false
    this.host = ''
    this.isHostCanonical = false
    this.size = 0
    this.#optionCount = 0
  }

  /** Adds a header line; returns the id of its name, 0 where it is not interned. For the parsers. */
  add(name: number, nameEnd: number, value: number, valueEnd: number, hash: number): number {
    let lines = this.#lines
    const at = this.count * stride
    if (at === lines.length) {
      lines = new Int32Array(at * 2)
      lines.set(this.#lines)
      this.#lines = lines
    }
    const id = idOf(hash, this.#buf, name, nameEnd)
    lines[at + NAME] = name
    lines[at + NAME_END] = nameEnd
    lines[at + VALUE] = value
    lines[at + VALUE_END] = valueEnd
    lines[at + HASH] = hash
    lines[at + ID] = id
    this.count++
    return id
  }

  /** Remembers a name that Connection nominates; false: too many. For the parsers. */
  nominate(start: number, end: number, hash: number): boolean {
    if (this.#optionCount === maxOptions) return false
    const at = this.#optionCount++ * 3
    this.#options[at] = start
    this.#options[at + 1] = end
    this.#options[at + 2] = hash
    return true
  }

  /** The value of a header, lower-case name; several lines are joined with a comma, as RFC 9110 5.3 has it. */
  get(name: string): string | undefined {
    let i = this.find(name, 0)
    if (i < 0) return undefined
    let value = this.value(i)
    while ((i = this.find(name, i + 1)) >= 0) value += `, ${this.value(i)}`
    return value
  }

  has(name: string): boolean {
    return this.find(name, 0) >= 0
  }

  /** The first line at or after `from` with this lower-case name; -1: none. */
  find(name: string, from: number): number {
    const hash = hashFor(name)
    const lines = this.#lines
    for (let i = from, at = from * stride; i < this.count; i++, at += stride) {
      if (lines[at + HASH] !== hash) continue
      if (sameToken(this.#buf, lines[at + NAME]!, lines[at + NAME_END]!, name)) return i
    }
    return -1
  }

  /** The place of line i's name in names.ts; 0: not interned. */
  id(i: number): number {
    return this.#lines[i * stride + ID]!
  }

  /** The first byte of line i's name, lower case. */
  initial(i: number): number {
    return token[this.#buf[this.#lines[i * stride + NAME]!]!]!
  }

  /** Whether Connection nominates any line for removal. */
  get nominates(): boolean {
    return this.#optionCount > 0
  }

  /** Host as it was written; '' where there is none. `canonical` itself where it is the same. */
  authority(canonical: string): string {
    if (this.isHostCanonical) return this.host
    for (let i = 0, at = 0; i < this.count; i++, at += stride) {
      if (this.#lines[at + ID] === Name.host) {
        return this.#buf.latin1Slice(this.#lines[at + VALUE], this.#lines[at + VALUE_END])
      }
    }
    return canonical
  }

  /** The lower-case name of line i. */
  name(i: number): string {
    const at = i * stride
    const id = this.#lines[at + ID]!
    if (id !== 0) return nameOf(id)
    return this.#buf.latin1Slice(this.#lines[at + NAME], this.#lines[at + NAME_END]).toLowerCase()
  }

  /** The value of line i, one character per byte. */
  value(i: number): string {
    return this.#buf.latin1Slice(this.#lines[i * stride + VALUE], this.#lines[i * stride + VALUE_END])
  }

  /** Whether line i ends at this hop: connection, keep-alive, te, transfer-encoding, upgrade …, and what Connection names. */
  hop(i: number): boolean {
    const at = i * stride
    const lines = this.#lines
    const id = lines[at + ID]!
    if (id >= Name.firstHop && id <= Name.lastHop) return true
    if (id === Name.connection || id === Name.transferEncoding || id === Name.upgrade) return true
    const options = this.#options
    for (let o = 0; o < this.#optionCount * 3; o += 3) {
      if (options[o + 2] !== lines[at + HASH]) continue
      if (sameRange(this.#buf, options[o]!, options[o + 1]!, lines[at + NAME]!, lines[at + NAME_END]!))
        return true
    }
    return false
  }

  /** Upper bound of what `writeLines` writes. */
  get bound(): number {
    return this.size + this.count
  }

  /**
   * Copies the header lines that `drop` keeps as `Name: value\r\n`, bytes and case as they came, to out[at…]; returns the
   * offset behind them. `out` needs `bound` bytes of room; too little is a mistake of the caller and throws. Framing is
   * the caller's business: lines of Content-Length and Transfer-Encoding are copied like others unless dropped.
   */
  writeLines(out: Buffer, at: number, drop: (i: number, head: Head) => boolean): number {
    if (out.length - at < this.bound) throw new RangeError('no room for the header lines')
    const buf = this.#buf
    const lines = this.#lines
    // Neighbouring lines that are written already in this form are copied in one go.
    let run = -1
    let runEnd = -1
    for (let i = 0, k = 0; i < this.count; i++, k += stride) {
      if (drop(i, this)) continue
      const name = lines[k + NAME]!
      const nameEnd = lines[k + NAME_END]!
      const value = lines[k + VALUE]!
      const valueEnd = lines[k + VALUE_END]!
      const exact = value === nameEnd + 2 && buf[nameEnd + 1] === 32 && buf[valueEnd] === 13
      if (exact && runEnd === name) {
        runEnd = valueEnd + 2
        continue
      }
      if (runEnd > run) at += buf.copy(out, at, run, runEnd)
      run = runEnd = -1
      if (exact) {
        run = name
        runEnd = valueEnd + 2
        continue
      }
      at += buf.copy(out, at, name, nameEnd)
      out[at++] = 58
      out[at++] = 32
      at += buf.copy(out, at, value, valueEnd)
      out[at++] = 13
      out[at++] = 10
    }
    if (runEnd > run) at += buf.copy(out, at, run, runEnd)
    return at
  }

  /** Writes the lines that `drop` keeps to out[at…] as HPACK; returns the place behind. Needs `bound` and 16 bytes a line. */
  encode(encoder: HpackEncoder, out: Buffer, at: number, drop: (i: number, head: Head) => boolean): number {
    const buf = this.#buf
    const lines = this.#lines
    for (let i = 0, k = 0; i < this.count; i++, k += stride) {
      if (drop(i, this)) continue
      at = encoder.bytes(
        out,
        at,
        buf,
        lines[k + NAME]!,
        lines[k + NAME_END]!,
        lines[k + VALUE]!,
        lines[k + VALUE_END]!,
        lines[k + HASH]!,
        lines[k + ID]!,
      )
    }
    return at
  }
}
