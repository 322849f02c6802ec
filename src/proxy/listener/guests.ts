// Everything that was accepted and is not over yet: what a drain waits for and a close ends.

export interface Guest {
  /** Ends what is idle for at least so long; true: still busy. */
  drain(idleMs: number): boolean
  destroy(): void
}

export class Guests {
  #all: Set<Guest>

  constructor() {
    this.#all = new Set()
  }

  get size(): number {
    return this.#all.size
  }

  add(guest: Guest): void {
    this.#all.add(guest)
  }

  delete(guest: Guest): void {
    this.#all.delete(guest)
  }

  drain(idleMs: number): void {
    for (const guest of this.#all) guest.drain(idleMs)
  }

  destroy(): void {
    for (const guest of this.#all) guest.destroy()
  }
}
