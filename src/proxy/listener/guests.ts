// Everything that was accepted and is not over yet: what a drain waits for and a close ends.

export interface Guest {
  /** Set and read by Guests only. */
  guestNumber?: number
  /** Ends what is idle for at least so long; true: still busy. */
  drain(idleMs: number): boolean
  destroy(): void
}

/**
 * A list in which each guest knows its number. Not a Set: tables that a Set has outgrown stay chained to the newer ones, and
 * with one of them in the old generation all guests that come later live until that is collected.
 */
export class Guests {
  readonly #all: Guest[]

  constructor() {
    this.#all = []
  }

  get size(): number {
    return this.#all.length
  }

  add(guest: Guest): void {
    if (guest.guestNumber !== undefined && guest.guestNumber >= 0) return
    guest.guestNumber = this.#all.push(guest) - 1
  }

  delete(guest: Guest): void {
    const { guestNumber = -1 } = guest
    if (guestNumber < 0) return
    guest.guestNumber = -1
    const last = this.#all.pop()!
    if (last === guest) return
    this.#all[guestNumber] = last
    last.guestNumber = guestNumber
  }

  // Whoever is over takes himself off the list meanwhile.
  drain(idleMs: number): void {
    for (const guest of this.#all.slice()) guest.drain(idleMs)
  }

  destroy(): void {
    for (const guest of this.#all.slice()) guest.destroy()
  }
}
