// What the peer may send: the windows that we announce, and when they are renewed. A stream's window follows its reader;
// the connection's is renewed on arrival, so that one slow reader stalls nobody else, until too much lies unread.
import { initialWindow } from './frame.ts'
import type { SessionLimits } from './limits.ts'
import type { Output } from './output.ts'
import type { Stream } from './stream.ts'
import type { StreamTable } from './table.ts'

export class Inflow {
  /** The window that new streams have. */
  streamWindow: number
  /** What the peer may still send on all streams together. */
  #window: number
  /** Arrived, and not yet announced as room. */
  #credit: number
  /** Told to owners and not yet consumed. */
  #unconsumed: number
  readonly #output: Output
  readonly #announced: number
  readonly #connectionWindow: number
  readonly #queueBytes: number

  constructor(output: Output, limits: SessionLimits) {
    // Until the peer has read our SETTINGS it may use what is the default.
    this.streamWindow = Math.max(limits.streamWindow, initialWindow)
    this.#announced = limits.streamWindow
    this.#window = Math.max(limits.connectionWindow, initialWindow)
    this.#credit = 0
    this.#unconsumed = 0
    this.#output = output
    this.#connectionWindow = this.#window
    this.#queueBytes = limits.queueBytes
  }

  /** Announces the connection's window. */
  begin(): void {
    if (this.#window > initialWindow) this.#output.windowUpdate(0, this.#window - initialWindow)
  }

  /** Bytes of a DATA frame, padding included, whatever becomes of them; false: more than the peer was allowed. */
  arrived(bytes: number): boolean {
    this.#window -= bytes
    this.#credit += bytes
    this.#renew()
    return this.#window >= 0
  }

  /** Padding counts like data, and nobody consumes it. */
  skipped(stream: Stream, bytes: number): void {
    this.#credited(stream, bytes)
  }

  /** Bytes that the owner is about to be told. */
  told(stream: Stream, bytes: number): void {
    stream.bytesIn += bytes
    stream.unconsumed += bytes
    this.#unconsumed += bytes
  }

  /** See `Session.consumed`. */
  consumed(stream: Stream, bytes: number): void {
    if (bytes > stream.unconsumed) bytes = stream.unconsumed
    stream.unconsumed -= bytes
    this.#unconsumed -= bytes
    this.#renew()
    this.#credited(stream, bytes)
  }

  /** The bytes of a stream that is over are not ours to bound any more: its owner has all that will come. */
  dropped(stream: Stream): void {
    if (stream.unconsumed === 0) return
    this.#unconsumed -= stream.unconsumed
    stream.unconsumed = 0
    this.#renew()
  }

  /** The peer has read our SETTINGS: from now on streams have the window that they announce. */
  acknowledged(streams: StreamTable): void {
    const change = this.#announced - this.streamWindow
    this.streamWindow = this.#announced
    if (change !== 0) for (const stream of streams.all()) stream.window += change
  }

  #credited(stream: Stream, bytes: number): void {
    if (stream.isPeerEnded || stream.isClosed) return
    stream.credit += bytes
    if (stream.credit < this.streamWindow >>> 1) return
    this.#output.windowUpdate(stream.id, stream.credit)
    stream.window += stream.credit
    stream.credit = 0
  }

  #renew(): void {
    if (this.#credit < this.#connectionWindow >>> 1 || this.#unconsumed > this.#queueBytes) return
    if (this.#window < 0) return
    this.#output.windowUpdate(0, this.#credit)
    this.#window += this.#credit
    this.#credit = 0
  }
}
