// The way back: response heads and bodies from upstream to downstream.
import type { Channel } from '../../net/channel.ts'
import { Grpc, httpStatusOf, statusIn } from '../filter/grpc.ts'
import { mayMove, mayRetryStatus } from '../filter/retry.ts'
import { connectFailed, leave, retry } from './attempt.ts'
import type { Headers, Upstream } from './ends.ts'
import { dropBody } from './body.ts'
import type { Exchange } from './exchange.ts'
import { Done, run, runData } from './filter.ts'
import { causes, unsentReasons } from './reply.ts'

/** 100 Continue and the like; clients of HTTP/1.0 know none. */
export function interim(x: Exchange, head: Headers): void {
  if (x.version !== 0 && !x.responseStarted) x.downstream.interim(x, head)
}

/**
 * A final head, with the bytes of the body that came with it (borrowed until return). `isWhole`: there is no more of it;
 * `isMore`: the rest may come within this turn. False: the exchange has left this connection.
 */
export function answered(
  x: Exchange,
  upstream: Upstream,
  head: Headers,
  buffer: Buffer,
  start: number,
  end: number,
  isWhole: boolean,
  isMore: boolean,
): boolean {
  const endpoint = x.endpoint!
  const { status } = head
  // A call that failed before it began says so in its only head.
  const grpcStatus = isWhole && x.isGrpc ? statusIn(head) : -1
  endpoint.answered(grpcStatus < 0 ? status : httpStatusOf(grpcStatus))
  if (status >= 400) {
    if (status === 503 && endpoint.config.via === 'link' && moveOn(x, head)) return false
    if (mayRetryStatus(x, status)) {
      upstream.letGo(x, isWhole)
      leave(x)
      retry(x)
      return false
    }
  }
  if (grpcStatus === Grpc.unavailable && endpoint.config.via === 'link' && moveOn(x, head)) return false
  x.status = status
  if (x.tryDeadline !== null) x.core.wheel.cancel(x.tryDeadline)
  if (run(x.chain.onResponse, x) === Done) return false
  x.responseStarted = true
  // The body can not be sent a second time from here on.
  dropBody(x)
  x.replayable = false
  if (x.core.draining || (!x.requestDone && isWhole)) x.keepAlive = false
  x.bytesOut += end - start
  if (end > start && refusesBytes(x, buffer, start, end)) return false
  const isRoom = x.downstream.respond(x, head, buffer, start, end, isWhole, isMore)
  if (!isRoom && !isWhole) holdUpstream(x, upstream)
  return true
}

/** Body bytes, borrowed until return. */
export function responseBytes(
  x: Exchange,
  upstream: Upstream,
  buffer: Buffer,
  start: number,
  end: number,
): void {
  if (start === end) return
  x.bytesOut += end - start
  if (refusesBytes(x, buffer, start, end)) return
  if (!x.downstream.body(x, buffer, start, end)) holdUpstream(x, upstream)
}

/** The response is whole; its connection is in the pool again or gone. */
export function responseDone(x: Exchange, trailers: Headers | null): void {
  leave(x)
  x.downstream.finish(x, trailers)
}

/** Downstream has room again. */
export function releaseResponse(x: Exchange): void {
  if (!x.responseHeld) return
  x.responseHeld = false
  x.upstream?.release()
}

/** Upstream has switched protocols: both ends become a tunnel. `early`: its first bytes, for the tunnel to keep. */
export function switched(x: Exchange, head: Headers, channel: Channel, early: Buffer | null): void {
  x.status = 101
  x.responseStarted = true
  if (early !== null) x.bytesOut += early.length
  x.upstream = null
  x.downstream.tunnel(x, head, channel, early)
}

/** The peer's proxy says that it never reached the application: as if our own connect had failed. */
function moveOn(x: Exchange, head: Headers): boolean {
  const why = head.get('x-meshctl-reason')
  if (why === undefined || !unsentReasons.has(why)) return false
  x.endpoint!.connectFailed(x.scope.dialAs)
  if (!mayMove(x) || x.cluster?.hasOther(x.tried) !== true) return false
  connectFailed(x, causes.connectFailure, why)
  return true
}

function refusesBytes(x: Exchange, buffer: Buffer, start: number, end: number): boolean {
  const { onResponseData } = x.chain
  if (onResponseData === null || runData(onResponseData, x, buffer.subarray(start, end)) !== Done)
    return false
  leave(x)
  x.downstream.cut(x, causes.filtered, '')
  return true
}

function holdUpstream(x: Exchange, upstream: Upstream): void {
  if (x.responseHeld) return
  x.responseHeld = true
  upstream.hold()
}
