// How exchanges end: in time or not, and what is settled exactly once at the end.
import { mayRetryReset } from '../filter/retry.ts'
import { attempt, leave, releaseRequest, retry } from './attempt.ts'
import { dropBody } from './body.ts'
import { RouteDeadline, TryDeadline } from './exchange.ts'
import type { Exchange } from './exchange.ts'
import { causes } from './reply.ts'

/** A deadline of the exchange has passed. */
export function expired(x: Exchange, tag: number): void {
  if (tag === TryDeadline) {
    leave(x)
    x.endpoint?.failed()
    if (mayRetryReset(x)) retry(x)
    else x.downstream.refuse(x, causes.timeout, `no response within ${x.route?.retry.perTryTimeout} ms`)
  } else if (tag === RouteDeadline) {
    const detail = `after ${x.timeLimit} ms`
    if (x.responseStarted) x.downstream.cut(x, causes.responseTimeout, detail)
    else x.downstream.refuse(x, causes.timeout, detail)
  } else {
    attempt(x)
  }
}

/** The exchange is over, whatever became of it: logs, metrics, release. Safe to call twice. */
export function settle(x: Exchange): void {
  if (x.finished) return
  x.finished = true
  x.duration = x.core.clock.monotonic() - x.startedAt
  x.disarm()
  dropBody(x)
  releaseRequest(x)
  if (x.retrying) {
    x.retrying = false
    if (x.cluster !== null) x.cluster.retries--
  }
  const { onFinish } = x.chain
  if (onFinish !== null) for (const step of onFinish) step(x)
}
