// The loop pick endpoint → connect → head. A retry is another turn of it; it ends when response bytes have gone out.
import { backoff } from '../../net/backoff.ts'
import { isIdempotent, mayMove, mayRetryReset } from '../filter/retry.ts'
import type { Upstream } from './ends.ts'
import { dropBody, keepBody } from './body.ts'
import type { Exchange } from './exchange.ts'
import { Done, run, runData } from './filter.ts'
import { causes } from './reply.ts'
import type { Cause } from './reply.ts'

/** Body bytes kept for another try; larger bodies are sent once. */
const replayLimit = 65_536
/** Before an endpoint is tried a second time; Envoy's base. */
const retryDelays = { base: 25, max: 250 }

/** The request's filters have let it pass: make the first try. */
export function dispatch(x: Exchange): void {
  if (x.route === null) {
    x.downstream.refuse(x, causes.noRoute, '')
    return
  }
  x.cluster = x.route.split.pick()
  attempt(x)
}

export function attempt(x: Exchange): void {
  const { cluster } = x
  if (cluster === null) {
    x.downstream.refuse(x, causes.noHealthy, `route ${x.route?.name ?? ''} leads nowhere`)
    return
  }
  let endpoint = cluster.pick(x.tried)
  // A counted retry may meet the same endpoint again; a free move may not.
  if (endpoint === null && x.retrying) endpoint = cluster.pick(null)
  if (endpoint === null) {
    x.downstream.refuse(x, causes.noHealthy, describeCluster(x))
    return
  }
  x.endpoint = endpoint
  if (x.tried === null) x.tried = [endpoint]
  else x.tried.push(endpoint)
  endpoint.active++
  x.active = true
  endpoint.supply(x).acquire(x)
}

/** A connection is there: the head and what is known of the body leave together. */
export function connected(x: Exchange, upstream: Upstream): void {
  x.upstream = upstream
  if (x.chain.onConnect !== null && run(x.chain.onConnect, x) === Done) return
  const retry = x.route?.retry
  if (retry !== undefined && retry.perTryTimeout > 0) x.armTry(retry.perTryTimeout)
  const isRoom = upstream.send(x, x.downstream.head(x))
  if (x.queued > replayLimit) sendOnce(x)
  if (isRoom) releaseRequest(x)
  else if (!x.requestHeld && !x.requestDone) {
    x.requestHeld = true
    x.downstream.hold()
  }
}

/** Upstream can take more of the request. */
export function releaseRequest(x: Exchange): void {
  if (!x.requestHeld) return
  x.requestHeld = false
  x.downstream.release()
}

/** Nothing was sent: another endpoint may take it, whatever the method. */
export function connectFailed(x: Exchange, cause: Cause, detail: string): void {
  leave(x)
  const isElsewhere = cause !== causes.overflow && cause !== causes.noCertificate
  if (isElsewhere && mayMove(x) && x.cluster?.hasOther(x.tried) === true) {
    x.moves++
    attempt(x)
    return
  }
  x.downstream.refuse(x, cause, detail)
}

/** The peer surely did nothing with it: any method may be sent again, to the same endpoint too. */
export function unprocessed(x: Exchange, detail: string): void {
  leave(x)
  if (!mayMove(x)) {
    x.downstream.refuse(x, causes.reset, detail)
    return
  }
  x.moves++
  // The endpoint itself is not to blame.
  x.tried?.pop()
  attempt(x)
}

/** The connection ended, or said something unintelligible, before the end of the response. */
export function broken(x: Exchange, upstream: Upstream, cause: Cause, detail: string): void {
  const { endpoint } = x
  leave(x)
  if (x.responseStarted) {
    x.downstream.cut(x, causes.streamReset, detail)
    return
  }
  if (cause === causes.connectFailure) {
    endpoint?.connectFailed(x.scope.dialAs)
    connectFailed(x, cause, detail)
    return
  }
  endpoint?.failed()
  // Closed by the peer just as it was taken from the pool: nothing came back, and the method says that twice does no harm.
  if (cause === causes.reset && upstream.isReused && !upstream.hasBytes && isRepeatable(x) && mayMove(x)) {
    x.moves++
    // The endpoint itself is not to blame.
    x.tried?.pop()
    attempt(x)
    return
  }
  if (mayRetryReset(x)) retry(x)
  else x.downstream.refuse(x, cause, detail)
}

/** A counted retry, elsewhere at once or on the same endpoint after a moment. */
export function retry(x: Exchange): void {
  x.retries++
  if (x.cluster?.hasOther(x.tried) === true) attempt(x)
  else x.armRetry(backoff(retryDelays, x.retries - 1))
}

/** Bytes of the request body. Borrowed until return. */
export function requestBytes(x: Exchange, buffer: Buffer, start: number, end: number): void {
  if (x.responseDone || start === end) return
  x.bytesIn += end - start
  const { onRequestData } = x.chain
  if (onRequestData !== null && runData(onRequestData, x, buffer.subarray(start, end)) === Done) return
  const { upstream } = x
  if (upstream === null || x.replayable) {
    if (upstream !== null && x.queued + (end - start) > replayLimit) sendOnce(x)
    else keepBody(x, buffer, start, end)
  }
  const isRoom = upstream === null ? x.queued < replayLimit : upstream.body(x, buffer, start, end)
  if (!isRoom && !x.requestHeld) {
    x.requestHeld = true
    x.downstream.hold()
  }
}

/** The request is whole. */
export function requestEnd(x: Exchange, trailers: string[] | null): void {
  x.requestDone = true
  x.requestTrailers = trailers
  if (x.upstream !== null && !x.responseDone) x.upstream.finish(x)
}

/** The exchange lets go of its endpoint and connection, whatever state they are in. */
export function leave(x: Exchange): void {
  const { endpoint, upstream } = x
  if (x.tryDeadline !== null) x.core.wheel.cancel(x.tryDeadline)
  if (endpoint !== null && x.active) {
    x.active = false
    endpoint.active--
    x.waitsAt?.forget(x)
  }
  x.upstream = null
  upstream?.abandon(x)
  x.responseHeld = false
}

/** The body cannot be sent a second time from here on. */
function sendOnce(x: Exchange): void {
  dropBody(x)
  x.replayable = false
}

function isRepeatable(x: Exchange): boolean {
  return x.upgrade === '' && isIdempotent(x.method)
}

function describeCluster(x: Exchange): string {
  const { cluster } = x
  if (cluster === null) return ''
  const { config, endpoints, ejected } = cluster
  const name = `${config.service}.${config.namespace}${config.subset === '' ? '' : ` (${config.subset})`}`
  if (endpoints.length === 0) return `${name} has no healthy instance`
  return `${name}: ${x.tried?.length ?? 0} of ${endpoints.length} instances tried, ${ejected} out of use`
}
