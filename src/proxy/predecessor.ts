// The younger supervisor's side of a reload: config and counts come from the one before, which then drains.
import type { Secrets, Snapshot } from '../snapshot/types.ts'
import { version } from '../version.ts'
import { Channel } from './channel.ts'
import type { Tally } from './tally.ts'

export class Predecessor {
  readonly #channel = new Channel()

  /** The config in force; null: the one before is gone, and with it the reason to take over. */
  config(): Promise<{ readonly snapshot: Snapshot | null; readonly secrets: Secrets | null } | null> {
    return this.#channel.next('config')
  }

  /** Waits to be told to take over; false: it has changed its mind, or is gone. Its counts are added to ours from then on. */
  async ready(tally: Tally): Promise<boolean> {
    const told = this.#channel.next('counts')
    this.#channel.send({ type: 'ready' })
    const first = await told
    if (first === null) return false
    tally.inherit(first.dump)
    this.#channel.on('counts', ({ dump }) => tally.inherit(dump))
    void this.#channel.ended.then(() => tally.inherited())
    return true
  }

  failed(reason: string): void {
    this.#channel.send({ type: 'failed', reason })
  }

  serving(): void {
    this.#channel.send({ type: 'serving', pid: process.pid, version })
  }

  reopen(): void {
    this.#channel.send({ type: 'reopen' })
  }

  /** What it still drains must be over within `timeout` ms. */
  hurry(timeout: number): void {
    this.#channel.send({ type: 'hurry', timeout })
  }

  /** Resolves when it is gone, at the latest after `timeout` ms. */
  async gone(timeout: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    await Promise.race([
      this.#channel.ended,
      new Promise<void>((resolve) => (timer = setTimeout(resolve, timeout))),
    ])
    clearTimeout(timer)
  }
}
