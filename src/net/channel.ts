// Bytes both ways with an end for each way: a socket, or one stream of a link. Whoever owns it is told what happens.

/** What a channel tells its owner. Never called again after `closed`. */
export interface Owner {
  /** Bytes arrived. `buffer` is borrowed until return: whoever keeps some copies them. */
  bytes(buffer: Buffer, start: number, end: number): void
  /** The peer will send no more. */
  ended(): void
  /** What was written has left; go on writing. */
  drained(): void
  /** Both ways are over; `error` says why when it was not in order. */
  closed(error: Error | null): void
}

export interface Channel {
  owner: Owner
  readonly bytesIn: number
  readonly bytesOut: number
  /** Both ways are over. */
  readonly isClosed: boolean
  /** The peer sent its end. */
  readonly isEnded: boolean
  /** We sent ours, or it waits behind what was written. */
  readonly isFinished: boolean
  /** Writing should wait for `drained`. */
  readonly isFull: boolean
  /** A write is under way: what comes now is copied and waits. After `tellWhenIdle` its end is told by `drained`. */
  readonly isBusy: boolean
  tellWhenIdle(): void
  /** Takes the buffer over. False: stop writing until `drained`. */
  write(buffer: Buffer): boolean
  /** Writes a buffer that is only lent, unless `hasKept` says afterwards that it belongs to the channel now. */
  lend(buffer: Buffer): boolean
  readonly hasKept: boolean
  /** Writes a copy of borrowed bytes. */
  copy(buffer: Buffer, start: number, end: number): boolean
  /** The same, for one of several pieces that may come in this turn: they may leave together at its end. */
  gather(buffer: Buffer, start: number, end: number): boolean
  /** Stops reading until as many calls of `release`. */
  hold(): void
  release(): void
  /** Sends our end after what was written. */
  end(): void
  /** Throws away what was not sent; the owner hears `closed` later. */
  destroy(): void
  /** Ends in disorder, so that a peer that still writes learns of it. */
  abort(): void
}
