// The longest time for which this machine, or this process, stood still. Everything under test stands still with it, so no
// bound in seconds can be held against the product meanwhile.

const everyMs = 50

export class Stillness {
  #last = performance.now()
  #longest = 0
  readonly #timer = setInterval(() => this.#look(), everyMs).unref()

  /** Stops looking. Milliseconds, rounded. */
  end(): number {
    clearInterval(this.#timer)
    this.#look()
    return Math.round(this.#longest)
  }

  #look(): void {
    const now = performance.now()
    this.#longest = Math.max(this.#longest, now - this.#last - everyMs)
    this.#last = now
  }
}
