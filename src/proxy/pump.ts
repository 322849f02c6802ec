// Opaque bytes both ways between two channels, each end passed on by itself (half-close), the faster side held back.
import type { Channel, Owner } from '../net/channel.ts'

export interface PumpEnd {
  /** Exactly once, when both channels are over. `failed`: which side broke off in disorder first. */
  pumped(failed: 'downstream' | 'upstream' | null, error: Error | null): void
}

/** TLS hands out its records one by one, at most 16 KB each: pieces of this size are gathered to leave in one write. */
const leastPiece = 8192
const mostPiece = 32_768
class Side implements Owner {
  readonly own: Channel
  readonly name: 'downstream' | 'upstream'
  readonly pump: Pump
  other: Side | null
  isHolding: boolean

  constructor(pump: Pump, own: Channel, name: 'downstream' | 'upstream') {
    this.pump = pump
    this.own = own
    this.name = name
    this.other = null
    this.isHolding = false
  }

  bytes(buffer: Buffer, start: number, end: number): void {
    const { own } = this.other!
    const bytes = end - start
    const isPiece = bytes >= leastPiece && bytes <= mostPiece
    if (!(isPiece ? own.gather(buffer, start, end) : own.copy(buffer, start, end))) this.#holdOn()
  }

  #holdOn(): void {
    if (this.isHolding) return
    this.isHolding = true
    this.own.hold()
  }

  ended(): void {
    this.other!.own.end()
  }

  drained(): void {
    const other = this.other!
    if (!other.isHolding) return
    other.isHolding = false
    other.own.release()
  }

  closed(error: Error | null): void {
    this.pump.sideClosed(this, error)
  }
}

export class Pump {
  readonly downstream: Channel
  readonly upstream: Channel
  #end: PumpEnd
  #open: number
  #failed: 'downstream' | 'upstream' | null
  #error: Error | null

  /** Owns both channels from now on. */
  constructor(downstream: Channel, upstream: Channel, end: PumpEnd) {
    this.downstream = downstream
    this.upstream = upstream
    this.#end = end
    this.#open = 2
    this.#failed = null
    this.#error = null
    const a = new Side(this, downstream, 'downstream')
    const b = new Side(this, upstream, 'upstream')
    a.other = b
    b.other = a
    downstream.owner = a
    upstream.owner = b
    if (!upstream.isShared) downstream.readWide()
    if (!downstream.isShared) upstream.readWide()
    downstream.writeWide()
    upstream.writeWide()
    // What ended or filled up before the pump was there.
    if (downstream.isFull) {
      b.isHolding = true
      upstream.hold()
    }
    if (upstream.isFull) {
      a.isHolding = true
      downstream.hold()
    }
    if (downstream.isEnded) upstream.end()
    if (upstream.isEnded) downstream.end()
    if (downstream.isClosed) this.sideClosed(a, null)
    if (upstream.isClosed) this.sideClosed(b, null)
  }

  destroy(): void {
    this.downstream.destroy()
    this.upstream.destroy()
  }

  sideClosed(side: Side, error: Error | null): void {
    const other = side.other!
    const isInOrder = error === null && side.own.isEnded
    if (!isInOrder && this.#failed === null && this.#open === 2) {
      this.#failed = side.name
      this.#error = error
    }
    // A side that held the other back will never drain.
    if (other.isHolding) {
      other.isHolding = false
      other.own.release()
    }
    this.#open--
    if (this.#open === 0) {
      this.#end.pumped(this.#failed, this.#error)
      return
    }
    // In order: what is left goes out before our end. In disorder: the other side must see that.
    if (isInOrder) other.own.end()
    else other.own.abort()
  }
}
