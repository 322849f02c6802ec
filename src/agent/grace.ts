// What to make of the registry's word after an outage of it. Nobody could renew a lease meanwhile, so all hosts count as
// gone when it is back; each renews within seconds, but a caller that hears of the catalogue first would be left without
// an instance. So for a while an instance that counted as passing before and fails only by its host's sign of life keeps
// counting as passing. Whether it can be reached, the proxy sees for itself.
import type { Clock, Timer } from '../clock.ts'
import type { MeshInstance } from '../model/instance.ts'
import { printAddress } from '../net/addr.ts'
import { type Instance, signOfLifeIds } from '../registry/registry.ts'

/** Watches wait up to 15 s for their next try, and a lease takes up to 10 s until a check passes. */
export const graceMs = 30_000

/** Two ways to notice that the registry is away: what is asked of it, and what is told to it. */
type Way = 'watch' | 'lease'

export class Grace {
  readonly #clock: Clock
  /** Told what the registry really says, service by service, when the time is over. */
  readonly #ended: (service: string, told: readonly Instance[]) => void
  readonly #lost = new Set<Way>()
  readonly #held = new Map<string, readonly Instance[]>()
  #timer: Timer | null = null

  constructor(clock: Clock, ended: (service: string, told: readonly Instance[]) => void) {
    this.#clock = clock
    this.#ended = ended
  }

  /** The registry does not answer, or has not answered yet a host that knows of an earlier run. */
  lost(way: Way): void {
    this.#lost.add(way)
    this.#timer?.cancel()
    this.#timer = null
  }

  found(way: Way): void {
    if (!this.#lost.delete(way) || this.#lost.size > 0) return
    this.#timer = this.#clock.after(graceMs, () => {
      this.#timer = null
      const held = [...this.#held]
      this.#held.clear()
      for (const [service, told] of held) this.#ended(service, told)
    })
  }

  /** The instances as they count now. `before`: as they counted until now. */
  judge(service: string, told: readonly Instance[], before: readonly MeshInstance[]): readonly Instance[] {
    this.#held.delete(service)
    if (this.#lost.size === 0 && this.#timer === null) return told
    const passed = new Set(before.filter(({ passing }) => passing).map(placeOf))
    const isKept = (instance: Instance): boolean => isLapsed(instance) && passed.has(placeOf(instance))
    if (!told.some(isKept)) return told
    this.#held.set(service, told)
    return told.map((instance) => (isKept(instance) ? { ...instance, passing: true } : instance))
  }

  /** The service is no longer asked about. */
  forget(service: string): void {
    this.#held.delete(service)
  }

  stop(): void {
    this.#timer?.cancel()
    this.#timer = null
  }
}

/** Nothing is said against the instance itself. */
function isLapsed({ passing, checks }: Instance): boolean {
  return !passing && checks.every(({ id, status }) => status === 'passing' || signOfLifeIds.includes(id))
}

function placeOf({ address, port }: { readonly address: string; readonly port: number }): string {
  return printAddress(address, port)
}
