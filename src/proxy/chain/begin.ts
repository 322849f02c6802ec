// From a request's head to its first filter, and from its last filter on its way.
import { isHttp2 } from '../../snapshot/types.ts'
import { causes } from './reply.ts'
import type { Core } from '../core.ts'
import type { Live, Scope, Target } from '../live.ts'
import { dispatch } from './attempt.ts'
import type { Downstream, Headers } from './ends.ts'
import { Exchange } from './exchange.ts'
import { run } from './filter.ts'
import type { Verdict } from './filter.ts'

/** An exchange of a connection in the generation that is live now. Its request is not filled in yet. */
export function exchangeOf(core: Core, live: Live, downstream: Downstream, scope: Scope): Exchange {
  const x = new Exchange(core, live, downstream, scope, scope.target(live) ?? goneOf(live, scope))
  x.isHttp2 = isHttp2(x.target.protocol)
  return x
}

/** The service port is gone since the connection was accepted. */
function goneOf(live: Live, scope: Scope): Target {
  return { ...live.nowhere, destination: scope.destination }
}

/** The request is filled in: find its route and run its filters. At `Next` the caller goes on with `proceed`. */
export function filterRequest(x: Exchange, head: Headers): Verdict {
  if (x.live.settings.accessLog) x.userAgent = head.get('user-agent') ?? ''
  x.requestId = head.get('x-request-id') ?? ''
  const route = x.target.routes.find(x, head)
  if (route !== null) {
    x.route = route
    x.chain = route.chain
  }
  return run(x.chain.onRequest, x)
}

/** The filters have let the request pass. */
export function proceed(x: Exchange): void {
  const { refusal } = x.scope
  if (refusal !== null) {
    // It was decided for this connection: the next one may meet a service that was not there yet.
    x.keepAlive = false
    x.downstream.refuse(x, refusal.cause, refusal.detail)
  } else if (x.method === 'CONNECT') {
    x.keepAlive = false
    x.downstream.refuse(x, causes.noConnect, '')
  } else dispatch(x)
}
