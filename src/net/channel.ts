// Bytes both ways with an end for each way: a socket, or one stream of a link. Whoever owns it is told what happens.
import { plainAddress, printAddress } from './addr.ts'

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

/** The owner of a connection that has none yet, or is only waiting to be over. */
export const nobody: Owner = {
  bytes() {},
  ended() {},
  drained() {},
  closed() {},
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
  /** Others write on the same way: much that comes at once is copied, and waits for its turn. */
  readonly isShared: boolean
  /** Much will come: it may be read in larger pieces from now on. */
  readWide(): void
  /** Much will be written: what is gathered may leave in larger pieces from now on. */
  writeWide(): void
  /** Stops reading until as many calls of `release`. */
  hold(): void
  release(): void
  /** Sends our end after what was written. */
  end(): void
  /**
   * Ends both ways at once, where all that was written has left; for peers who have said that they send no more: what they
   * send all the same resets them. The owner has heard `closed` on return. False: not here, nothing has happened.
   */
  close(): boolean
  /** Throws away what was not sent; the owner hears `closed` later. */
  destroy(): void
  /** Ends in disorder, so that a peer that still writes learns of it. */
  abort(): void
}

/** Whom a connection connects, while it is open. */
export interface Ends {
  readonly remoteAddress?: string | undefined
  readonly remotePort?: number | undefined
  readonly localAddress?: string | undefined
  readonly localPort?: number | undefined
}

/** Address and port of the other end; '' where they are not known. */
export function peerOf({ remoteAddress, remotePort }: Ends): string {
  if (remoteAddress === undefined || remotePort === undefined) return ''
  return printAddress(plainAddress(remoteAddress), remotePort)
}

/** A connection that was taken from a listening socket. */
export interface Accepted extends Channel {
  readonly socket: Ends
}
