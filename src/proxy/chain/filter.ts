// Phases and filters. A filter is a plain object with the phases it wants; a chain holds one flat array per phase, null
// where nobody wants it.
import type { Exchange } from './exchange.ts'

/** Go on with the next step. */
export const Next = 0
/** The filter has answered through reply.ts; nothing after it runs but `onFinish`. */
export const Done = 1
/** The filter will call `resume(x)` later. Only in `onRequest`. */
export const Wait = 2

export type Verdict = typeof Next | typeof Done | typeof Wait

export interface Filter {
  readonly name: string
  /** Head read and route matched. */
  readonly onRequest?: (x: Exchange) => Verdict
  /** Body bytes as on the wire (chunk framing included), borrowed until return. May not wait. */
  readonly onRequestData?: (x: Exchange, bytes: Buffer) => Verdict
  /** An endpoint was picked and a connection to it is there; once per try. */
  readonly onConnect?: (x: Exchange) => Verdict
  /** Response head read. Runs in reverse order. May not wait. */
  readonly onResponse?: (x: Exchange) => Verdict
  readonly onResponseData?: (x: Exchange, bytes: Buffer) => Verdict
  /** Exactly once, always: logs, metrics, release. */
  readonly onFinish?: (x: Exchange) => void
}

type Step = (x: Exchange) => Verdict
type DataStep = (x: Exchange, bytes: Buffer) => Verdict

export interface Chain {
  readonly names: readonly string[]
  readonly onRequest: readonly Step[] | null
  readonly onRequestData: readonly DataStep[] | null
  readonly onConnect: readonly Step[] | null
  readonly onResponse: readonly Step[] | null
  readonly onResponseData: readonly DataStep[] | null
  readonly onFinish: readonly ((x: Exchange) => void)[] | null
}

/** Null entries are filters that a route does not need. */
export function compileChain(filters: readonly (Filter | null)[]): Chain {
  const used = filters.filter((filter) => filter !== null)
  const reverse = used.toReversed()
  return {
    names: used.map((filter) => filter.name),
    onRequest: phase(used, (filter) => filter.onRequest),
    onRequestData: phase(used, (filter) => filter.onRequestData),
    onConnect: phase(used, (filter) => filter.onConnect),
    onResponse: phase(reverse, (filter) => filter.onResponse),
    onResponseData: phase(reverse, (filter) => filter.onResponseData),
    onFinish: phase(reverse, (filter) => filter.onFinish),
  }
}

function phase<T>(filters: readonly Filter[], pick: (filter: Filter) => T | undefined): readonly T[] | null {
  const steps = filters.map(pick).filter((step) => step !== undefined)
  return steps.length === 0 ? null : steps
}

/** Runs the steps from `x.step` on; at Wait the place is kept in `x.step`. */
export function run(steps: readonly Step[] | null, x: Exchange): Verdict {
  if (steps === null) return Next
  for (let i = x.step; i < steps.length; i++) {
    const verdict = steps[i]!(x)
    if (verdict === Next) continue
    x.step = verdict === Wait ? i + 1 : 0
    return verdict
  }
  x.step = 0
  return Next
}

export function runData(steps: readonly DataStep[], x: Exchange, bytes: Buffer): Verdict {
  for (const step of steps) {
    const verdict = step(x, bytes)
    if (verdict !== Next) return verdict
  }
  return Next
}
