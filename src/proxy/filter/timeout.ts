// The route's deadline over all tries of an exchange.
import { Next } from '../chain/filter.ts'
import type { Filter } from '../chain/filter.ts'

/** Null where the route has none. */
export function timeout(ms: number): Filter | null {
  if (ms === 0) return null
  return {
    name: 'timeout',
    onRequest(x) {
      x.armRoute(ms)
      return Next
    },
  }
}
