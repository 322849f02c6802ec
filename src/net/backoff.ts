// Delays between tries: exponential with full jitter on the upper half, so that many hosts do not come back at once.

export interface BackoffOptions {
  /** First delay and upper bound, milliseconds. */
  readonly base: number
  readonly max: number
}

/** Delay before try `attempt` (0 is the first repetition); `random` in [0, 1) makes it testable. */
export function backoff(options: BackoffOptions, attempt: number, random: number = Math.random()): number {
  const ceiling = Math.min(options.max, options.base * 2 ** Math.min(attempt, 30))
  return Math.round(ceiling / 2 + (ceiling / 2) * random)
}
