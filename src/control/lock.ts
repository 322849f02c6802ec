// One control at a time judges the leases: a session's lock in the registry.
import type { Clock } from '../clock.ts'
import type { Registry } from '../registry/registry.ts'
import type { Store } from './store.ts'

export type LockRegistry = Pick<
  Registry,
  'createSession' | 'renewSession' | 'destroySession' | 'acquire' | 'release'
>

const ttlSeconds = 15
const renewEveryMs = 5000
/** Between tries for a lock that another control holds. */
const tryEveryMs = 3000
const fact = 'reaper-session'

export class ReaperLock {
  readonly #registry: LockRegistry
  readonly #store: Store
  readonly #clock: Clock
  readonly #key: string
  #session: string | null = null
  #held = false
  #renewedAt = -Infinity
  #triedAt = -Infinity

  constructor(parts: { registry: LockRegistry; store: Store; mesh: string; clock: Clock }) {
    this.#registry = parts.registry
    this.#store = parts.store
    this.#clock = parts.clock
    this.#key = `meshctl/${parts.mesh}/control/reaper`
  }

  /** Whether this process holds the lock, taking or renewing it as needed. Called every second. */
  async hold(): Promise<boolean> {
    const now = this.#clock.monotonic()
    if (this.#session !== null && now - this.#renewedAt >= renewEveryMs) {
      if (await this.#registry.renewSession(this.#session)) {
        this.#renewedAt = now
      } else {
        // The registry ended it (this process stood still for long); another control may have the lock by now.
        this.#session = null
        this.#held = false
      }
    }
    if (this.#held) return true
    if (now - this.#triedAt < tryEveryMs) return false
    this.#triedAt = now
    this.#session ??= await this.#begin(now)
    this.#held = await this.#registry.acquire(
      this.#key,
      JSON.stringify({ session: this.#session }),
      this.#session,
    )
    return this.#held
  }

  /** Gives the lock back at once instead of letting the session run out. Errors do not matter: it runs out anyway. */
  async release(): Promise<void> {
    const session = this.#session
    this.#session = null
    this.#held = false
    if (session !== null) await this.#end(session)
  }

  async #begin(now: number): Promise<string> {
    // A control that was killed left its session behind: without this, its lock and the delay after it last 30 s.
    const before = this.#store.fact(fact)
    if (before !== null && before !== '') await this.#end(before)
    const session = await this.#registry.createSession({ name: 'meshctl-control', ttlSeconds })
    this.#store.setFact(fact, session)
    this.#renewedAt = now
    return session
  }

  async #end(session: string): Promise<void> {
    try {
      // Released first: a session that ends with a lock on it blocks the key for another 15 s (Consul's lock delay).
      await this.#registry.release(this.#key, session)
      await this.#registry.destroySession(session)
      this.#store.setFact(fact, '')
    } catch {
      // Gone already, or the registry is down.
    }
  }
}
