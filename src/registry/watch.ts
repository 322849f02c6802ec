// Follows one value of the registry with blocking queries: told at once and after each change, for as long as the signal
// stands. Errors are waited out with growing, jittered pauses, so that many hosts do not come back in one moment.
import type { Clock } from '../clock.ts'
import { backoff } from '../net/backoff.ts'
import type { Indexed, Query } from './registry.ts'

export interface WatchOptions<T> {
  readonly poll: (query: Query) => Promise<Indexed<T>>
  /** Called with each value that differs in index from the one before. */
  readonly changed: (value: T, index: string) => void
  readonly failed?: (error: unknown) => void
  readonly clock: Clock
  readonly signal: AbortSignal
  /** How long one query blocks; default one minute. */
  readonly waitMs?: number
  /** Where to go on, for one who kept the value of that index on disk. */
  readonly index?: string
  /** Tests make the jitter stand still. */
  readonly random?: () => number
}

const pauses = { base: 250, max: 15_000 }
/** The shortest time between two answers: a key that is written in a loop costs each watcher four reads a second. */
const quietMs = 250

/** Resolves when the signal is aborted. Never rejects: `failed` is told. */
export async function watch<T>(options: WatchOptions<T>): Promise<void> {
  const { poll, changed, clock, signal } = options
  const waitMs = options.waitMs ?? 60_000
  const random = options.random ?? Math.random
  let index = options.index ?? '0'
  let failures = 0
  while (!signal.aborted) {
    const began = clock.monotonic()
    let answer: Indexed<T>
    try {
      // After a failure the first answer must come soon even if nothing changes: it says that the registry is back.
      answer = await poll({ index, waitMs: failures > 0 ? quietMs : waitMs, signal })
    } catch (error) {
      if (isAborted(signal)) return
      options.failed?.(error)
      await pause(clock, backoff(pauses, failures++, random()), signal)
      continue
    }
    failures = 0
    if (isAborted(signal)) return
    const { moved, next } = step(index, answer.index)
    index = next
    if (moved) changed(answer.value, answer.index)
    const left = quietMs - (clock.monotonic() - began)
    // The first answer and the one after a reset come at once by themselves; only a storm of changes is slowed.
    if (left > 0 && index !== '0') await pause(clock, left, signal)
  }
}

/** Consul's rules: the same index is no news; one that went back means another history, read again from the start. */
function step(before: string, after: string): { moved: boolean; next: string } {
  if (after === before && before !== '0') return { moved: false, next: before }
  if (BigInt(after) < BigInt(before)) return { moved: false, next: '0' }
  return { moved: true, next: after }
}

/** Asked anew after each await: the signal may have fallen meanwhile. */
const isAborted = (signal: AbortSignal): boolean => signal.aborted

function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const timer = clock.after(ms, () => {
    signal.removeEventListener('abort', stop)
    resolve()
  })
  function stop(): void {
    timer.cancel()
    resolve()
  }
  signal.addEventListener('abort', stop, { once: true })
  return promise
}
