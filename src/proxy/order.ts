// THE ORDER of the filters. Onward for requests, backward for responses and the end. Users switch and configure filters,
// they cannot reorder them.
import type { Settings } from '../snapshot/types.ts'
import type { Filter } from './chain/filter.ts'
import { access } from './filter/access.ts'
import { identity, requestId } from './filter/header.ts'
import { metrics } from './filter/metrics.ts'
import { timeout } from './filter/timeout.ts'

interface RouteSettings {
  readonly timeout: number
}

/** Requests of local callers. */
export function outbound(settings: Settings, route: RouteSettings): (Filter | null)[] {
  return [
    // First, so that its end comes last and sees what every other filter did, refusals included.
    settings.accessLog ? access : null,
    // Beside it, for the same reason.
    metrics,
    // Before anything that may answer: local replies carry the id.
    requestId,
    // Last of those at the start: what came before does not count against the route's time.
    timeout(route.timeout),
  ]
}

/** Requests for local services. */
export function inbound(settings: Settings): (Filter | null)[] {
  return [
    settings.accessLog ? access : null,
    metrics,
    requestId,
    // Before any filter that decides by caller: from here on the headers say who that is.
    identity,
  ]
}
