// Bytes that were read and cannot be used yet: half a head, or requests that wait for the one before. Beyond a limit the
// connection is not read until they are used.
import type { Channel } from '../../net/channel.ts'

const limit = 65_536

export class Stash {
  readonly #connection: Channel
  #bytes: Buffer | null
  #isHeld: boolean
  /** Bytes that an earlier parse has seen in vain. */
  seen: number

  constructor(connection: Channel) {
    this.#connection = connection
    this.#bytes = null
    this.#isHeld = false
    this.seen = 0
  }

  get isEmpty(): boolean {
    return this.#bytes === null
  }

  /** Keeps a copy of borrowed bytes. */
  add(buffer: Buffer, start: number, end: number): void {
    const more = buffer.subarray(start, end)
    this.#bytes = this.#bytes === null ? Buffer.from(more) : Buffer.concat([this.#bytes, more])
    if (this.#bytes.length <= limit || this.#isHeld) return
    this.#isHeld = true
    this.#connection.hold()
  }

  /** Hands everything over; `settle` follows when it was used. */
  take(): Buffer | null {
    const bytes = this.#bytes
    this.#bytes = null
    this.seen = 0
    return bytes
  }

  /** Reads on, unless what was taken has come back. */
  settle(): void {
    if (!this.#isHeld || this.#bytes !== null) return
    this.#isHeld = false
    this.#connection.release()
  }

  drop(): void {
    this.take()
    this.settle()
  }
}
