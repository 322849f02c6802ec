// Whether a failed try may be followed by another. Asked by the loop in chain/attempt.ts; it is not a wrapper.
//
// The rule above all policies: a request of which bytes have left is sent again only if its method allows that (by
// itself where nothing came back on a reused connection, by the route's list otherwise). What was never sent may always
// go elsewhere.
import type { Exchange } from '../chain/exchange.ts'

/** Other endpoints tried after failed connects, whatever the retry policy says: that is balancing. */
const maxMoves = 5

/** Nothing of it was sent. */
export function mayMove(x: Exchange): boolean {
  return !x.responseStarted && x.replayable && x.moves < maxMoves
}

/** The connection ended before a response; `isPolicy` says that the route's policy is what allows it. */
export function mayRetryReset(x: Exchange): boolean {
  const retry = x.route?.retry
  return retry !== undefined && (retry.onReset || retry.onServerError) && mayRepeat(x)
}

export function mayRetryStatus(x: Exchange, status: number): boolean {
  const retry = x.route?.retry
  if (retry === undefined || retry.attempts === 0) return false
  const isListed =
    (retry.onServerError && status >= 500) ||
    (retry.onGatewayError && status >= 502 && status <= 504) ||
    retry.statuses.includes(status)
  return isListed && mayRepeat(x)
}

/** Takes a place in the budget when it says yes. */
function mayRepeat(x: Exchange): boolean {
  const retry = x.route?.retry
  if (retry === undefined || x.retries >= retry.attempts || x.responseStarted || !x.replayable) return false
  if (x.upgrade !== '' || !retry.methods.includes(x.method)) return false
  if (!x.retrying) {
    if (x.cluster === null || !x.cluster.takeRetry()) return false
    x.retrying = true
  }
  return true
}

/** RFC 9110 9.2.2: sent twice is the same as sent once. */
export function isIdempotent(method: string): boolean {
  switch (method) {
    case 'GET':
    case 'HEAD':
    case 'OPTIONS':
    case 'PUT':
    case 'DELETE':
    case 'TRACE':
      return true
    default:
      return false
  }
}
