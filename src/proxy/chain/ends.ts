// The two ends of an exchange as the chain sees them, whatever version of HTTP they speak. Bodies are passed without
// their framing, borrowed until return.
import type { Channel } from '../../net/channel.ts'
import type { Fields } from '../../wire/h2/fields.ts'
import type { Head } from '../../wire/head.ts'
import type { Exchange } from './exchange.ts'
import type { Cause } from './reply.ts'

/** A head or trailer section while it can be read. */
export type Headers = Head | Fields

/** The side that called us. */
export interface Downstream {
  /** The head of the request, readable until anything else is called. */
  head(x: Exchange): Headers
  interim(x: Exchange, head: Headers): void
  /**
   * The final head, with the first bytes of the body. `isWhole`: there is no more of it. `isMore`: the rest may come within this
   * turn, so that the head may wait for it until `flush`. False: hold the source until drained.
   */
  respond(
    x: Exchange,
    head: Headers,
    buffer: Buffer,
    start: number,
    end: number,
    isWhole: boolean,
    isMore: boolean,
  ): boolean
  /** False: hold the source until drained. */
  body(x: Exchange, buffer: Buffer, start: number, end: number): boolean
  /** The response is whole. */
  finish(x: Exchange, trailers: Headers | null): void
  /** What waited for more of its turn goes out. */
  flush(x: Exchange): void
  /** The response comes from us. `status` 0: the cause's own. */
  refuse(x: Exchange, cause: Cause, detail: string, status?: number): void
  /** The response cannot be finished: the caller sees it break off. */
  cut(x: Exchange, cause: Cause, detail: string): void
  /** A deadline of the exchange has passed. */
  expired(x: Exchange, tag: number): void
  /** Upstream has switched protocols: `head` is the answer, both ends belong to a tunnel from here on. */
  tunnel(x: Exchange, head: Headers, upstream: Channel, early: Buffer | null): void
  /** No more of the request is read until `release`. */
  hold(): void
  release(): void
}

/** The side that we call, for one exchange at a time. */
export interface Upstream {
  /** It carried exchanges before this one. */
  readonly isReused: boolean
  /** Bytes of the response to this exchange have arrived. */
  readonly hasBytes: boolean
  /** Sends the head, and of the body what is queued in the exchange. False: hold the source until `writable`. */
  send(x: Exchange, head: Headers): boolean
  body(x: Exchange, buffer: Buffer, start: number, end: number): boolean
  /** The request is whole; `x.requestTrailers` go behind it. */
  finish(x: Exchange): void
  /** No more of the response is read until `release`. */
  hold(): void
  release(): void
  /** The exchange leaves, before its end if it is still under way here. */
  abandon(x: Exchange): void
  /** The exchange leaves a response that is whole (`isWhole`) or will not be read. */
  letGo(x: Exchange, isWhole: boolean): void
}
