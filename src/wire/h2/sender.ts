// The sending side of a session: heads straight into the output; data as far as the peer's windows and the socket allow,
// the rest waiting per stream and served in turn, so that no stream starves another.
import type { HpackEncoder } from './encoder.ts'
import type { Field } from './field.ts'
import {
  Flag,
  Type,
  headerBytes,
  initialWindow,
  maxData,
  maxPayload,
  maxWindow,
  writeHeader,
} from './frame.ts'
import { giveBuffer, highWater, standingBytes, takeBuffer } from './output.ts'
import type { Output } from './output.ts'
import type { Session } from './session.ts'
import type { Stream } from './stream.ts'
import type { StreamTable } from './table.ts'

/** Less data of one stream than this waits in a place of its own size. */
const littleBytes = 16384
/** What the encoder may write at the start of a block, before the first field. */
const blockStart = 16

export class Sender {
  /** What the peer lets us send on all streams together. */
  window: number
  /** What it lets us send on a new stream. */
  initialWindow: number
  /** The socket is full: data waits. */
  isHeld: boolean
  readonly #output: Output
  readonly #encoder: HpackEncoder
  readonly #session: Session
  readonly #streamQueue: number
  #headAt: number
  /** The first of the ring of streams that have data and window. */
  #ready: Stream | null
  #isPumping: boolean

  constructor(session: Session) {
    this.window = initialWindow
    this.initialWindow = initialWindow
    this.isHeld = false
    this.#session = session
    this.#output = session.output
    this.#encoder = session.encoder
    this.#streamQueue = session.limits.streamQueue
    this.#headAt = 0
    this.#ready = null
    this.#isPumping = false
  }

  /** Whether some stream has data and window. */
  get hasReady(): boolean {
    return this.#ready !== null
  }

  /** Makes room for a head of at most `bound` bytes; returns where its fields go. */
  beginHead(bound: number): number {
    const frames = Math.ceil((bound + blockStart) / maxPayload)
    this.#headAt = this.#output.reserve(bound + blockStart + frames * headerBytes)
    return this.#encoder.begin(this.#output.buffer, this.#headAt + headerBytes)
  }

  /** Closes the head whose fields end at `at`. */
  endHead(stream: Stream, at: number, isEnd: boolean): void {
    const output = this.#output
    const start = this.#headAt
    const length = at - start - headerBytes
    const flags = isEnd ? Flag.endStream : 0
    // The peer's table would follow what never arrives.
    if (at + (length / maxPayload) * headerBytes > output.buffer.length)
      throw new RangeError('head above its bound')
    if (length <= maxPayload) {
      writeHeader(output.buffer, start, length, Type.headers, flags | Flag.endHeaders, stream.id)
      output.end = at
    } else {
      output.end = split(output.buffer, start, at, flags, stream.id)
    }
    stream.hasSentHead = true
    output.tell()
    if (!isEnd) return
    stream.isEnded = true
    this.#sentEnd(stream)
  }

  /** See `Session.data`. */
  data(stream: Stream, buf: Buffer, start: number, end: number, isEnd: boolean): boolean {
    if (stream.isClosed || stream.isEnded) return true
    stream.isEnded = isEnd
    if (stream.queue === null) {
      if (start === end) {
        if (isEnd) this.#end(stream)
        return true
      }
      if (this.#ready === null && !this.isHeld) {
        start = this.#straight(stream, buf, start, end)
        if (start === end) return true
      }
    }
    if (start < end) this.#enqueue(stream, buf, start, end)
    if (stream.queued < this.#streamQueue) return true
    stream.isWaiting = true
    return false
  }

  /** See `Session.trailers`. */
  trailers(stream: Stream, items: readonly Field[], count: number): void {
    if (stream.isClosed || stream.isEnded) return
    stream.isEnded = true
    if (stream.queue === null) this.#writeTrailers(stream, items, count)
    else stream.trailers = items.slice(0, count)
  }

  /** A response of a status alone, to a request that never became a stream. */
  answer(id: number, status: number): void {
    const output = this.#output
    const start = this.beginHead(32)
    const at = this.#encoder.status(output.buffer, start, status)
    const flags = Flag.endHeaders | Flag.endStream
    writeHeader(output.buffer, this.#headAt, at - this.#headAt - headerBytes, Type.headers, flags, id)
    output.end = at
    output.tell()
  }

  /** Sends what waits, stream by stream, one frame at a time. */
  pump(): void {
    if (this.#isPumping) return
    this.#isPumping = true
    for (let stream = this.#ready; stream !== null; stream = this.#ready) {
      if (this.isHeld || this.window <= 0 || this.#output.end >= highWater) break
      if (stream.sendWindow <= 0) {
        this.#leave(stream)
        continue
      }
      this.#ready = stream.next
      const start = stream.queueStart
      stream.queueStart += this.#frame(
        stream,
        stream.queue!,
        start,
        stream.queueEnd,
        stream.trailers === null,
      )
      if (stream.queueStart === stream.queueEnd) {
        giveBuffer(stream.queue!)
        stream.queue = null
        stream.queueStart = stream.queueEnd = 0
        this.#leave(stream)
        this.#output.tell()
        if (stream.trailers !== null) this.#writeTrailers(stream, stream.trailers, stream.trailers.length)
        else if (stream.isEnded) this.#sentEnd(stream)
      } else this.#output.tell()
      if (stream.isWaiting && stream.queued <= this.#streamQueue >>> 2) {
        stream.isWaiting = false
        if (!stream.isClosed) stream.owner.writable(stream)
      }
    }
    this.#isPumping = false
  }

  /** The connection's window grows; false: beyond what a window can be. */
  widen(increment: number): boolean {
    this.window += increment
    return this.window <= maxWindow
  }

  /** The same of one stream. */
  widenStream(stream: Stream, increment: number): boolean {
    stream.sendWindow += increment
    if (stream.queue !== null && stream.next === null && stream.sendWindow > 0) this.#join(stream)
    return stream.sendWindow <= maxWindow
  }

  /** The peer's INITIAL_WINDOW_SIZE, which moves the windows of all streams (RFC 9113 6.9.2). */
  setInitialWindow(bytes: number, streams: StreamTable): boolean {
    const change = bytes - this.initialWindow
    this.initialWindow = bytes
    if (change === 0) return true
    for (const stream of streams.all()) if (!this.widenStream(stream, change)) return false
    return true
  }

  /** Throws away what waits on a stream that is over. */
  drop(stream: Stream): void {
    if (stream.next !== null) this.#leave(stream)
    if (stream.queue !== null) giveBuffer(stream.queue)
    stream.queue = null
    stream.queueStart = stream.queueEnd = 0
    stream.trailers = null
    stream.isWaiting = false
  }

  /** Writes what windows and room allow; returns where the rest begins. */
  #straight(stream: Stream, buf: Buffer, start: number, end: number): number {
    const output = this.#output
    const from = start
    while (start < end && output.end < highWater && this.window > 0 && stream.sendWindow > 0) {
      start += this.#frame(stream, buf, start, end, true)
    }
    if (start > from) output.tell()
    if (start === end && stream.isEnded) this.#sentEnd(stream)
    return start
  }

  /** One DATA frame of what buf[start, end) begins with; returns its bytes. Windows and room are there. */
  #frame(stream: Stream, buf: Buffer, start: number, end: number, mayEnd: boolean): number {
    const output = this.#output
    let bytes = end - start
    if (bytes > maxData) bytes = maxData
    if (bytes > this.window) bytes = this.window
    if (bytes > stream.sendWindow) bytes = stream.sendWindow
    const isLast = mayEnd && stream.isEnded && start + bytes === end
    const at = output.reserve(headerBytes + bytes)
    const payload = writeHeader(output.buffer, at, bytes, Type.data, isLast ? Flag.endStream : 0, stream.id)
    buf.copy(output.buffer, payload, start, start + bytes)
    output.end = payload + bytes
    this.window -= bytes
    stream.sendWindow -= bytes
    stream.bytesOut += bytes
    this.#session.flood.useful++
    return bytes
  }

  /** An empty frame that ends the stream: it needs no window, and hardly room. */
  #end(stream: Stream): void {
    const at = this.#output.reserve(headerBytes)
    this.#output.end = writeHeader(this.#output.buffer, at, 0, Type.data, Flag.endStream, stream.id)
    this.#output.tell()
    this.#sentEnd(stream)
  }

  #sentEnd(stream: Stream): void {
    stream.hasSentEnd = true
    if (stream.isDeclined) this.#session.decline(stream)
    this.#session.closeIfDone(stream)
  }

  #writeTrailers(stream: Stream, items: readonly Field[], count: number): void {
    stream.trailers = null
    let bound = 0
    for (let i = 0; i < count; i++) bound += items[i]!.name.length + items[i]!.value.length + 16
    let at = this.beginHead(bound)
    for (let i = 0; i < count; i++) at = this.#encoder.field(this.#output.buffer, at, items[i]!)
    this.endHead(stream, at, true)
  }

  #enqueue(stream: Stream, buf: Buffer, start: number, end: number): void {
    const bytes = end - start
    let queue = stream.queue
    if (queue === null) {
      // Little data takes no more than its place: many streams may hold some.
      stream.queue = queue =
        bytes < littleBytes || bytes > standingBytes ? Buffer.allocUnsafe(bytes) : takeBuffer()
    } else if (stream.queueEnd + bytes > queue.length) {
      const waiting = stream.queued
      // Much comes, or half of the place is free at least: else every few bytes would move the rest.
      const isRoomy =
        waiting + bytes <= queue.length && (bytes * 4 >= waiting || (waiting + bytes) * 2 <= queue.length)
      const place = isRoomy ? queue : placeFor(queue, waiting + bytes)
      queue.copy(place, 0, stream.queueStart, stream.queueEnd)
      if (place !== queue) giveBuffer(queue)
      stream.queue = queue = place
      stream.queueStart = 0
      stream.queueEnd = waiting
    }
    buf.copy(queue, stream.queueEnd, start, end)
    stream.queueEnd += bytes
    if (stream.next === null && stream.sendWindow > 0) this.#join(stream)
  }

  /** Puts a stream at the end of the ring. */
  #join(stream: Stream): void {
    const first = this.#ready
    if (first === null) {
      this.#ready = stream.next = stream.previous = stream
      return
    }
    const last = first.previous!
    stream.previous = last
    stream.next = first
    last.next = stream
    first.previous = stream
  }

  /** Takes a stream out of the ring. */
  #leave(stream: Stream): void {
    const { next, previous } = stream
    if (next === stream) this.#ready = null
    else {
      previous!.next = next
      next!.previous = previous
      if (this.#ready === stream) this.#ready = next
    }
    stream.next = stream.previous = null
  }
}

/** What outgrew the place of little data gets one that is used again, if it is large enough. */
function placeFor(before: Buffer, bytes: number): Buffer {
  const isGrowing = before.length < standingBytes && bytes >= littleBytes && bytes <= standingBytes
  return isGrowing ? takeBuffer() : Buffer.allocUnsafeSlow(bytes * 2)
}

/** Makes HEADERS and CONTINUATIONs of a block that is too long for one frame; returns the new end. */
function split(buffer: Buffer, start: number, end: number, flags: number, id: number): number {
  const first = start + headerBytes
  const more = Math.ceil((end - first) / maxPayload) - 1
  // From behind: each part moves by the headers that come before it.
  for (let i = more; i > 0; i--) {
    const from = first + i * maxPayload
    const to = from + i * headerBytes
    const stop = i === more ? end : from + maxPayload
    buffer.copyWithin(to, from, stop)
    const last = i === more ? Flag.endHeaders : 0
    writeHeader(buffer, to - headerBytes, stop - from, Type.continuation, last, id)
  }
  writeHeader(buffer, start, maxPayload, Type.headers, flags, id)
  return end + more * headerBytes
}
