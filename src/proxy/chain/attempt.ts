// The loop pick endpoint → connect → head. A retry is another turn of it; it ends when response bytes have gone out.
import type { Head } from '../../wire/head.ts'
import type { Upstream } from '../codec/client1.ts'
import { isIdempotent, mayMove, mayRetryReset } from '../filter/retry.ts'
import { backoff } from '../../net/backoff.ts'
import { nothingQueued } from './exchange.ts'
import type { Exchange } from './exchange.ts'
import { Done, run, runData } from './filter.ts'
import { composeRequest } from './forward.ts'
import { causes } from './reply.ts'
import type { Cause } from './reply.ts'

/** Body bytes kept for another try; larger bodies are sent once. */
const replayLimit = 65_536
/** Before an endpoint is tried a second time; Envoy's base. */
const retryDelays = { base: 25, max: 250 }

/** The request's filters have run: compose its head and make the first try. `x.head` is set for all tries. */
export function dispatch(x: Exchange, head: Head): void {
  x.head = composeRequest(x, head)
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
  endpoint.pool(x.scope.dialAs).acquire(x)
}

/** A connection is there: the head and what is known of the body leave in one write. */
export function connected(x: Exchange, upstream: Upstream): void {
  x.upstream = upstream
  upstream.begin(x)
  if (x.chain.onConnect !== null && run(x.chain.onConnect, x) === Done) return
  const retry = x.route?.retry
  if (retry !== undefined && retry.perTryTimeout > 0) x.armTry(retry.perTryTimeout)
  const { queue } = x
  const out = queue.length === 0 ? x.head! : Buffer.concat([x.head!, ...queue])
  if (!mayRepeatLater(x)) dropQueue(x)
  const isRoom = upstream.write(out)
  if (x.requestHeld && isRoom) {
    x.requestHeld = false
    x.downstream.connection.release()
  } else if (!isRoom && !x.requestHeld && !x.requestDone) {
    x.requestHeld = true
    x.downstream.connection.hold()
  }
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
  if (cause === causes.reset && upstream.uses > 1 && !upstream.hasBytes && isRepeatable(x) && mayMove(x)) {
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

/** Bytes of the request body, framing included. Borrowed until return. */
export function requestBytes(x: Exchange, buffer: Buffer, start: number, end: number): void {
  if (x.responseDone) return
  x.bytesIn += end - start
  const copy = Buffer.from(buffer.subarray(start, end))
  if (x.chain.onRequestData !== null && runData(x.chain.onRequestData, x, copy) === Done) return
  const { upstream } = x
  if (upstream === null || x.replayable) {
    if (upstream !== null && x.queued + copy.length > replayLimit) dropQueue(x)
    else {
      if (x.queue === nothingQueued) x.queue = [copy]
      else x.queue.push(copy)
      x.queued += copy.length
    }
  }
  const isRoom = upstream === null ? x.queued < replayLimit : upstream.write(copy)
  if (!isRoom && !x.requestHeld) {
    x.requestHeld = true
    x.downstream.connection.hold()
  }
}

/** The exchange lets go of its endpoint and connection, whatever state they are in. */
export function leave(x: Exchange): void {
  const { endpoint, upstream } = x
  if (x.tryDeadline !== null) x.core.wheel.cancel(x.tryDeadline)
  if (endpoint !== null && x.active) {
    x.active = false
    endpoint.active--
    if (x.waiting) endpoint.pool(x.scope.dialAs).forget(x)
  }
  x.upstream = null
  if (upstream !== null && upstream.x === x) upstream.destroy()
  x.responseHeld = false
}

function dropQueue(x: Exchange): void {
  x.queue = nothingQueued
  x.queued = 0
  x.replayable = false
}

/** Whether the request may still be needed for another try once it has been sent. */
function mayRepeatLater(x: Exchange): boolean {
  // The peer's proxy may say that it never reached the application: then any method may go elsewhere.
  return x.queued <= replayLimit
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
