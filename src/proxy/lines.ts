// Access log lines on their way out, written as bytes into one buffer. A line kept as a string (and the pieces
// it was joined from) lives just long enough to be copied by every collection of the young generation: that was half of
// the proxy's CPU at 10,000 requests a second.
import { Deadline } from '../net/wheel.ts'
import type { Expiring, Wheel } from '../net/wheel.ts'

const size = 65_536
const flushEvery = 40
/** Shorter texts are copied here byte by byte: cheaper than a call into Node. */
const short = 32

const QUOTE = 34
const BACKSLASH = 92
const ZERO = 48

/** Takes whole lines over, each with its line feed. */
export type Sink = (lines: Buffer, count: number) => void

export class Lines implements Expiring {
  readonly #wheel: Wheel
  readonly #sink: Sink
  readonly #flush: Deadline
  #buffer: Buffer
  #used: number
  /** Where the unfinished line begins. */
  #line: number
  /** Whole lines in front of it. */
  #count: number
  /** The second of the last line, and the first part of its time. */
  #second: number
  #date: string

  constructor(wheel: Wheel, sink: Sink) {
    this.#wheel = wheel
    this.#sink = sink
    this.#buffer = Buffer.allocUnsafeSlow(size)
    this.#flush = new Deadline(this, 0)
    this.#used = 0
    this.#line = 0
    this.#count = 0
    this.#second = -1
    this.#date = ''
  }

  /** ASCII that needs no escaping. */
  raw(text: string): void {
    const { length } = text
    if (this.#used + length > this.#buffer.length) this.#room(length)
    const buffer = this.#buffer
    let at = this.#used
    if (length > short) at += buffer.latin1Write(text, at)
    else for (let i = 0; i < length; i++) buffer[at++] = text.charCodeAt(i)
    this.#used = at
  }

  /** Any text as a JSON string. */
  json(text: string): void {
    const { length } = text
    if (this.#used + length + 2 > this.#buffer.length) this.#room(length + 2)
    const buffer = this.#buffer
    let at = this.#used
    buffer[at++] = QUOTE
    for (let i = 0; i < length; i++) {
      const code = text.charCodeAt(i)
      if (code < 0x20 || code > 0x7e || code === QUOTE || code === BACKSLASH) {
        this.raw(quoted(text))
        return
      }
      buffer[at++] = code
    }
    buffer[at++] = QUOTE
    this.#used = at
  }

  /** A whole number from 0. */
  int(value: number): void {
    if (value > 999_999_999) {
      this.raw(String(value))
      return
    }
    if (this.#used + 9 > this.#buffer.length) this.#room(9)
    let digits = 1
    for (let limit = 10; limit <= value; limit *= 10) digits++
    this.#digits(value, digits)
  }

  /** Milliseconds with three decimals. */
  milliseconds(value: number): void {
    const micros = Math.round(value * 1000)
    const whole = Math.floor(micros / 1000)
    this.int(whole)
    if (this.#used + 4 > this.#buffer.length) this.#room(4)
    this.#buffer[this.#used++] = 46
    this.#digits(micros - whole * 1000, 3)
  }

  /** ISO 8601 with milliseconds, without quotes; the date is made once a second. */
  time(ms: number): void {
    const second = Math.floor(ms / 1000)
    if (second !== this.#second) {
      this.#second = second
      this.#date = `${new Date(second * 1000).toISOString().slice(0, 19)}.`
    }
    this.raw(this.#date)
    if (this.#used + 4 > this.#buffer.length) this.#room(4)
    this.#digits(Math.floor(ms) - second * 1000, 3)
    this.#buffer[this.#used++] = 90
  }

  /** The line is whole. */
  end(): void {
    if (this.#used === this.#buffer.length) this.#room(1)
    if (this.#count++ === 0) this.#wheel.arm(this.#flush, flushEvery)
    this.#buffer[this.#used++] = 10
    this.#line = this.#used
    // A line that was larger than all of the usual room is not waited with.
    if (this.#buffer.length > size) this.flush()
  }

  flush(): void {
    if (this.#line === 0) return
    const lines = this.#buffer.subarray(0, this.#line)
    const count = this.#count
    const rest = this.#used - this.#line
    const next = Buffer.allocUnsafeSlow(Math.max(size, rest))
    this.#buffer.copy(next, 0, this.#line, this.#used)
    this.#buffer = next
    this.#used = rest
    this.#line = 0
    this.#count = 0
    this.#wheel.cancel(this.#flush)
    this.#sink(lines, count)
  }

  expire(): void {
    this.flush()
  }

  #digits(value: number, count: number): void {
    const buffer = this.#buffer
    let rest = value
    for (let at = this.#used + count - 1; at >= this.#used; at--) {
      const tenth = Math.floor(rest / 10)
      buffer[at] = ZERO + rest - tenth * 10
      rest = tenth
    }
    this.#used += count
  }

  /** Makes room for so many bytes more of the unfinished line. */
  #room(bytes: number): void {
    this.flush()
    if (this.#used + bytes <= this.#buffer.length) return
    const larger = Buffer.allocUnsafeSlow((this.#used + bytes) * 2)
    this.#buffer.copy(larger, 0, 0, this.#used)
    this.#buffer = larger
  }
}

// Everything that JSON escapes, and what is not ASCII: header values are bytes of no known encoding.
const plain = /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/

/** A JSON string in ASCII. */
export function quoted(text: string): string {
  if (plain.test(text)) return `"${text}"`
  return JSON.stringify(text).replaceAll(
    /[\u007f-\uffff]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}
