// The standing buffer in which heads of HTTP/1.1 are composed. Text of one character a byte.

declare global {
  // Node's own fast path for one-byte strings; @types/node leaves it out.
  interface Buffer {
    latin1Write(text: string, offset?: number, length?: number): number
  }
}

/** A text of ours, with bytes behind it so that four at a time can be copied to its end. */
export interface Constant {
  readonly length: number
  readonly view: DataView
}

export function constant(text: string): Constant {
  const bytes = Buffer.alloc(text.length + 4)
  bytes.latin1Write(text, 0)
  return { length: text.length, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length) }
}

/** Room that is there beside what `room` was asked for: lines that we add. */
const added = 4096

/** Every method that writes at a place returns the place behind; `room` was made before. */
export class Scratch {
  /** Grows to the largest head seen; never shrinks. */
  bytes: Buffer
  #view: DataView
  /** Beginnings by the low bits of their length: heads and small answers of one length follow each other. */
  readonly #beginnings: (Buffer | null)[]
  // What was written last, and its lines once it came a second time in a row.
  #authority: string
  #host: string
  #pairs: readonly string[] | null
  #lines: string

  constructor() {
    this.bytes = Buffer.allocUnsafeSlow(32_768)
    this.#view = new DataView(this.bytes.buffer)
    this.#beginnings = Array.from({ length: 64 }, () => null)
    this.#authority = ''
    this.#host = ''
    this.#pairs = null
    this.#lines = ''
  }

  room(bytes: number): void {
    if (this.bytes.length < bytes + added) this.renew((bytes + added) * 2)
  }

  /** Another buffer: somebody reads from the one that there was. */
  renew(bytes: number): void {
    this.bytes = Buffer.allocUnsafeSlow(bytes)
    this.#view = new DataView(this.bytes.buffer)
    this.#beginnings.fill(null)
  }

  upTo(bytes: number): Buffer {
    const place = bytes & 63
    const found = this.#beginnings[place]
    if (found?.length === bytes) return found
    return (this.#beginnings[place] = this.bytes.subarray(0, bytes))
  }

  put(text: string, at: number): number {
    const { length } = text
    // A name of its own: the field would be looked up again for every byte.
    const out = this.bytes
    // A call into Node costs more than a few bytes, and a rope of pieces more still.
    if (length > 32) return at + out.latin1Write(text, at)
    for (let i = 0; i < length; i++) out[at++] = text.charCodeAt(i)
    return at
  }

  /** May write up to three bytes behind the place that it returns. */
  constant({ length, view }: Constant, at: number): number {
    const out = this.#view
    for (let i = 0; i < length; i += 4) out.setInt32(at + i, view.getInt32(i))
    return at + length
  }

  field(name: string, value: string, at: number): number {
    at = this.put(name, at)
    this.bytes[at++] = 58
    this.bytes[at++] = 32
    at = this.put(value, at)
    this.bytes[at++] = 13
    this.bytes[at++] = 10
    return at
  }

  host(authority: string, at: number): number {
    if (authority !== this.#authority) {
      this.#authority = authority
      this.#host = ''
      return this.field('host', authority, at)
    }
    if (this.#host === '') this.#host = flat(`host: ${authority}\r\n`)
    return at + this.bytes.latin1Write(this.#host, at)
  }

  /** Lines of name, value, name, value …; such an array is replaced, never changed. */
  fields(pairs: readonly string[] | null, at: number): number {
    if (pairs === null || pairs.length === 0) return at
    if (pairs !== this.#pairs) {
      this.#pairs = pairs
      this.#lines = ''
      for (let i = 0; i + 1 < pairs.length; i += 2) at = this.field(pairs[i]!, pairs[i + 1]!, at)
      return at
    }
    if (this.#lines === '') {
      let lines = ''
      for (let i = 0; i + 1 < pairs.length; i += 2) lines += `${pairs[i]}: ${pairs[i + 1]}\r\n`
      this.#lines = flat(lines)
    }
    return at + this.bytes.latin1Write(this.#lines, at)
  }
}

/** The same text in one piece: writing a rope takes it apart each time. */
function flat(text: string): string {
  return Buffer.from(text, 'latin1').latin1Slice()
}

/** What `fields` writes at most. */
export function sizeOf(pairs: readonly string[] | null): number {
  let bytes = 0
  if (pairs !== null) for (const text of pairs) bytes += text.length + 4
  return bytes
}
