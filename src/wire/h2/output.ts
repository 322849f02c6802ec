// What a session has to say, gathered in one buffer until its connection takes it: heads, control frames and data in
// the order in which they were written.
import { Flag, Type, headerBytes, writeHeader, writeWord } from './frame.ts'

/** Data is held back while so much output waits: four reads of a socket. */
export const highWater = 262_144
export const standingBytes = highWater + 16_384 + 4096
const maxSpare = 16

// Buffers that nobody gathers in at the moment: an idle session holds none.
const spare: Buffer[] = []

/** A buffer for much: output, or the data of a stream that has to wait. */
export function takeBuffer(): Buffer {
  return spare.pop() ?? Buffer.allocUnsafeSlow(standingBytes)
}

/** Nobody looks at it any more. Others than those of `takeBuffer` are left to the collector. */
export function giveBuffer(buffer: Buffer): void {
  if (buffer.length === standingBytes && spare.length < maxSpare) spare.push(buffer)
}

const none = Buffer.alloc(0)

/** Who is told that there is something to take. */
export interface Flusher {
  wantsFlush(): void
}

export class Output {
  /** The gathered bytes are buffer[0, end). Whoever writes reserves room first and sets `end` behind what he wrote. */
  buffer: Buffer
  end: number
  readonly #flusher: Flusher
  #isTold: boolean
  /** What `take` gave last. */
  #taken: Buffer

  constructor(flusher: Flusher) {
    this.buffer = none
    this.end = 0
    this.#flusher = flusher
    this.#taken = none
    // What a session says first is taken without being asked: its owner is still being made.
    this.#isTold = true
  }

  /** Makes room for so many bytes behind `end`; `buffer` may be another one afterwards. Returns `end`. */
  reserve(bytes: number): number {
    const end = this.end
    if (end + bytes > this.buffer.length) this.#enlarge(end + bytes)
    return end
  }

  #enlarge(bytes: number): void {
    const old = this.buffer
    if (bytes <= standingBytes) this.buffer = takeBuffer()
    else this.buffer = Buffer.allocUnsafeSlow(Math.max(bytes, old.length * 2))
    old.copy(this.buffer, 0, 0, this.end)
    giveBuffer(old)
  }

  /** Tells, once until the next `take`, that there is output. Called when whole frames are written, never between. */
  tell(): void {
    if (this.#isTold) return
    this.#isTold = true
    this.#flusher.wantsFlush()
  }

  /** All that was gathered, the caller's from now on, or until `recycle`. */
  take(): Buffer {
    const { buffer, end } = this
    this.#isTold = false
    this.end = 0
    if (end === 0) return none
    this.buffer = none
    this.#taken = buffer
    return buffer.subarray(0, end)
  }

  /** See `Session.recycle`. */
  recycle(): void {
    const taken = this.#taken
    this.#taken = none
    giveBuffer(taken)
  }

  /** Bytes as they are. */
  append(bytes: Buffer): void {
    const at = this.reserve(bytes.length)
    this.end = at + bytes.copy(this.buffer, at)
    this.tell()
  }

  rstStream(id: number, code: number): void {
    const at = this.reserve(headerBytes + 4)
    const payload = writeHeader(this.buffer, at, 4, Type.rstStream, 0, id)
    this.end = writeWord(this.buffer, payload, code)
    this.tell()
  }

  windowUpdate(id: number, increment: number): void {
    const at = this.reserve(headerBytes + 4)
    const payload = writeHeader(this.buffer, at, 4, Type.windowUpdate, 0, id)
    this.end = writeWord(this.buffer, payload, increment)
    this.tell()
  }

  /** A ping of ours with this number as its opaque data. */
  ping(mark: number): void {
    const at = this.reserve(headerBytes + 8)
    const payload = writeHeader(this.buffer, at, 8, Type.ping, 0, 0)
    this.end = writeWord(this.buffer, writeWord(this.buffer, payload, 0), mark)
    this.tell()
  }

  /** The answer to a ping, with its eight bytes at buf[at…]. */
  pong(buf: Buffer, at: number): void {
    const start = this.reserve(headerBytes + 8)
    const payload = writeHeader(this.buffer, start, 8, Type.ping, Flag.ack, 0)
    buf.copy(this.buffer, payload, at, at + 8)
    this.end = payload + 8
    this.tell()
  }

  goaway(lastId: number, code: number): void {
    const at = this.reserve(headerBytes + 8)
    const payload = writeHeader(this.buffer, at, 8, Type.goaway, 0, 0)
    this.end = writeWord(this.buffer, writeWord(this.buffer, payload, lastId), code)
    this.tell()
  }

  /** SETTINGS with these pairs of identifier and value. */
  settings(pairs: readonly (readonly [number, number])[]): void {
    const at = this.reserve(headerBytes + pairs.length * 6)
    let to = writeHeader(this.buffer, at, pairs.length * 6, Type.settings, 0, 0)
    for (const [identifier, value] of pairs) {
      this.buffer[to] = identifier >>> 8
      this.buffer[to + 1] = identifier
      to = writeWord(this.buffer, to + 2, value)
    }
    this.end = to
    this.tell()
  }

  settingsAck(): void {
    const at = this.reserve(headerBytes)
    this.end = writeHeader(this.buffer, at, 0, Type.settings, Flag.ack, 0)
    this.tell()
  }
}
