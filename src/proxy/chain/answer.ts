// The way back: response heads and bodies from upstream to downstream.
import type { Head } from '../../wire/head.ts'
import type { Upstream } from '../codec/client1.ts'
import { mayMove, mayRetryStatus } from '../filter/retry.ts'
import { connectFailed, leave, retry } from './attempt.ts'
import { nothingQueued } from './exchange.ts'
import type { Exchange } from './exchange.ts'
import { Done, run, runData } from './filter.ts'
import { composeChunk, composeResponse } from './forward.ts'
import { causes, unsentReasons } from './reply.ts'

const nothing = Buffer.alloc(0)
const lastChunk = Buffer.from('0\r\n\r\n', 'latin1')

/** 100 Continue and the like; clients of HTTP/1.0 know none. */
export function interim(x: Exchange, head: Head): void {
  if (x.minor === 1 && !x.responseStarted) x.downstream.write(composeResponse(x, head, nothing, 0, 0))
}

/**
 * A final head, with the bytes of the body that came with it (borrowed until return). `isWhole`: the response ends with
 * them. False: the exchange has left this connection.
 */
export function answered(
  x: Exchange,
  upstream: Upstream,
  head: Head,
  buffer: Buffer,
  start: number,
  end: number,
  isWhole: boolean,
): boolean {
  const endpoint = x.endpoint!
  const { status } = head
  endpoint.answered(status)
  if (status >= 400) {
    if (status === 503 && endpoint.config.via === 'link' && moveOn(x, head)) return false
    if (mayRetryStatus(x, status)) {
      letGo(x, upstream, head, isWhole)
      retry(x)
      return false
    }
  }
  if (x.minor === 0 && head.chunked) {
    leave(x)
    x.downstream.refuse(x, causes.protocol, 'a chunked response to HTTP/1.0')
    return false
  }
  x.status = status
  if (x.tryDeadline !== null) x.core.wheel.cancel(x.tryDeadline)
  if (run(x.chain.onResponse, x) === Done) return false
  x.responseStarted = true
  // The body can not be sent a second time from here on.
  x.queue = nothingQueued
  x.replayable = false
  if (!head.chunked && head.contentLength < 0) {
    if (x.minor === 1) x.encode = true
    else x.keepAlive = false
  }
  if (x.core.draining || (!x.requestDone && isWhole)) x.keepAlive = false
  x.bytesOut += end - start
  const { onResponseData } = x.chain
  if (
    onResponseData !== null &&
    end > start &&
    runData(onResponseData, x, buffer.subarray(start, end)) === Done
  ) {
    leave(x)
    x.downstream.cut(x, causes.filtered, '')
    return false
  }
  const isRoom = x.downstream.write(composeResponse(x, head, buffer, start, end))
  if (!isRoom && !isWhole) holdUpstream(x, upstream)
  return true
}

/** Body bytes as upstream framed them; borrowed until return. */
export function responseBytes(
  x: Exchange,
  upstream: Upstream,
  buffer: Buffer,
  start: number,
  end: number,
): void {
  if (start === end) return
  x.bytesOut += end - start
  const { onResponseData } = x.chain
  if (onResponseData !== null && runData(onResponseData, x, buffer.subarray(start, end)) === Done) {
    leave(x)
    x.downstream.cut(x, causes.filtered, '')
    return
  }
  const { downstream } = x
  const isRoom = x.encode
    ? downstream.write(composeChunk(buffer, start, end))
    : downstream.connection.copy(buffer, start, end)
  if (!isRoom) holdUpstream(x, upstream)
}

/** The response is whole; its connection is in the pool again or gone. */
export function responseDone(x: Exchange): void {
  if (x.encode) x.downstream.write(lastChunk)
  leave(x)
  x.downstream.done(x)
}

/** 101: both connections become a tunnel. `buffer[start, end)` are its first bytes. */
export function switched(
  x: Exchange,
  upstream: Upstream,
  head: Head,
  buffer: Buffer,
  start: number,
  end: number,
): void {
  x.status = 101
  x.responseStarted = true
  x.bytesOut += end - start
  x.downstream.write(composeResponse(x, head, buffer, start, end))
  x.downstream.tunnel(x, upstream.detach())
}

/** The peer's proxy says that it never reached the application: as if our own connect had failed. */
function moveOn(x: Exchange, head: Head): boolean {
  const why = head.get('x-meshctl-reason')
  if (why === undefined || !unsentReasons.has(why)) return false
  x.endpoint!.connectFailed(x.scope.dialAs)
  if (!mayMove(x) || x.cluster?.hasOther(x.tried) !== true) return false
  connectFailed(x, causes.connectFailure, why)
  return true
}

/** Leaves a response that nobody will see; its connection is kept where the response is whole. */
function letGo(x: Exchange, upstream: Upstream, head: Head, isWhole: boolean): void {
  if (isWhole && head.keepAlive && x.requestDone) {
    upstream.x = null
    upstream.pool.release(upstream)
  }
  leave(x)
}

function holdUpstream(x: Exchange, upstream: Upstream): void {
  if (x.responseHeld) return
  x.responseHeld = true
  upstream.connection.hold()
}
