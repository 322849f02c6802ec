// Callers that ask and then take nothing: an answer that stands still for too long is given up, and what waits for it.
import type { Core } from '../core.ts'

/** Without a byte leaving for so long: Envoy's stream_idle_timeout. Milliseconds. */
const stallTimeout = 300_000

export function stallTimeoutOf(core: Core): number {
  return Math.min(stallTimeout, core.live?.settings.idleTimeout ?? stallTimeout)
}

/** One way out, looked at from time to time. */
export class Stall {
  #bytesOut: number
  #since: number

  constructor() {
    this.#bytesOut = -1
    this.#since = 0
  }

  /** Whether nothing has left for `limit` milliseconds though something waits. */
  isOver(isWaiting: boolean, bytesOut: number, now: number, limit: number): boolean {
    if (isWaiting && bytesOut === this.#bytesOut) return now - this.#since >= limit
    this.#bytesOut = isWaiting ? bytesOut : -1
    this.#since = now
    return false
  }
}
