// The lease reaper. Every host renews its lease key every few seconds; a host whose key stands still is marked critical
// by a check on its node, so that its services leave the healthy set; passing again when the key moves.
//
// A key stands still for two reasons: its host is gone, or nobody could write. Only answers of the registry count, and
// after every gap in them all hosts get a full period first. It polls rather than blocks: silence of a blocking query
// cannot be told from a registry that hangs, and leases move all the time anyway.
//
// Time from death to unhealthy: leaseExpiryMs after the last change was seen (at most one poll late), seen at the next
// poll, so 12 s and one write.
import type { Clock, Timer } from '../clock.ts'
import { reason } from '../errors.ts'
import type { Log } from '../log.ts'
import { keys, leaseCheckId, leaseEveryMs, leaseExpiryMs, serfCheckId } from '../registry/registry.ts'
import type { Entry, Registry } from '../registry/registry.ts'
import type { ReaperLock } from './lock.ts'

export const pollMs = 1000

/** What the reaper needs of the registry. */
export type LeaseRegistry = Pick<Registry, 'list' | 'nodes' | 'nodeChecks' | 'setCheck'>

interface Lease {
  index: string
  /** Monotonic time of the poll that saw the index change. */
  movedAt: number
  /** It moved while we looked on: what was there when we began proves nothing. */
  alive: boolean
  /** What the check says or ought to say, as far as this process knows. */
  marked: 'unknown' | 'critical' | 'passing'
}

export class Reaper {
  readonly #registry: LeaseRegistry
  readonly #lock: ReaperLock
  readonly #prefix: string
  readonly #clock: Clock
  readonly #log: Log
  readonly #leases = new Map<string, Lease>()
  #lastAnswer = -Infinity
  #timer: Timer | null = null
  #polling: Promise<void> = Promise.resolve()
  #stopped = false
  #failing = false

  constructor(parts: { registry: LeaseRegistry; lock: ReaperLock; mesh: string; clock: Clock; log: Log }) {
    this.#registry = parts.registry
    this.#lock = parts.lock
    this.#prefix = keys.leases(parts.mesh)
    this.#clock = parts.clock
    this.#log = parts.log
  }

  start(): void {
    this.#timer = this.#clock.after(0, () => this.#turn())
  }

  /** Waits for the poll under way and gives the lock back. */
  async close(): Promise<void> {
    this.#stopped = true
    this.#timer?.cancel()
    await this.#polling
    await this.#lock.release()
  }

  #turn(): void {
    this.#polling = this.poll().finally(() => {
      if (!this.#stopped) this.#timer = this.#clock.after(pollMs, () => this.#turn())
    })
  }

  /** One look at all leases. Never throws: a failure is logged once and ends the certainty about every host. */
  async poll(): Promise<void> {
    try {
      if (!(await this.#lock.hold())) {
        this.#forget()
        return
      }
      const askedAt = this.#clock.monotonic()
      const { value } = await this.#registry.list(this.#prefix)
      this.#see(value, askedAt)
      await this.#mark(askedAt)
      if (this.#failing) this.#log.info({ event: 'leases' }, 'the registry answers again')
      this.#failing = false
    } catch (error) {
      if (!this.#failing)
        this.#log.warn({ event: 'leases', error: reason(error) }, 'leases cannot be read or judged')
      this.#failing = true
    }
  }

  #forget(): void {
    this.#leases.clear()
    this.#lastAnswer = -Infinity
  }

  /** `askedAt` is when the request left: what the answer says was true then or later. */
  #see(entries: readonly Entry[], askedAt: number): void {
    const now = this.#clock.monotonic()
    // A gap in the answers, from a registry that was down or a process that was stopped: hosts may not have been able
    // to write, so each gets a full period.
    const gap = askedAt - this.#lastAnswer > leaseEveryMs || now - askedAt > leaseEveryMs
    this.#lastAnswer = now
    const present = new Set<string>()
    for (const { key, modifyIndex } of entries) {
      const host = key.slice(this.#prefix.length)
      if (host === '' || host.includes('/')) continue
      present.add(host)
      const lease = this.#leases.get(host)
      if (lease === undefined) {
        this.#leases.set(host, { index: modifyIndex, movedAt: now, alive: false, marked: 'unknown' })
      } else if (lease.index !== modifyIndex) {
        lease.index = modifyIndex
        lease.movedAt = now
        lease.alive = true
        if (lease.marked === 'critical') lease.marked = 'unknown'
      } else if (gap) {
        lease.movedAt = now
      }
    }
    // A deleted key is a host that left; its node is not ours to judge any more.
    for (const host of this.#leases.keys()) if (!present.has(host)) this.#leases.delete(host)
  }

  async #mark(askedAt: number): Promise<void> {
    const due: { host: string; lease: Lease; dead: boolean }[] = []
    for (const [host, lease] of this.#leases) {
      // Strictly by the time at which the question was asked, so that a slow answer cannot age anybody.
      const dead = askedAt - lease.movedAt >= leaseExpiryMs
      if (dead ? lease.marked !== 'critical' : lease.alive && lease.marked === 'unknown')
        due.push({ host, lease, dead })
    }
    if (due.length === 0) return
    // Setting a check would put a node that has left back into the catalogue: only nodes that are there are marked.
    const { value } = await this.#registry.nodes()
    const addresses = new Map(value.map(({ name, address }) => [name, address]))
    let failure: unknown = null
    for (const { host, lease, dead } of due) {
      const address = addresses.get(host)
      if (address === undefined) continue
      try {
        await (dead ? this.#critical(host, address, lease) : this.#passing(host, address, lease))
      } catch (error) {
        // One host that cannot be marked must not keep the others healthy.
        failure = error
      }
    }
    if (failure !== null) throw failure as Error
  }

  async #critical(host: string, address: string, lease: Lease): Promise<void> {
    // A node with a Consul agent of its own: Consul notices its death, and the agent would remove our check again.
    const checks = await this.#registry.nodeChecks(host)
    if (checks.some(({ id, serviceId }) => id === serfCheckId && serviceId === '')) {
      lease.marked = 'critical'
      lease.alive = false
      return
    }
    const still = Math.round((this.#clock.monotonic() - lease.movedAt) / 1000)
    const output = `no sign of life from ${host} for ${still} s`
    await this.#registry.setCheck(host, address, null, leaseCheckId, 'critical', output)
    lease.alive = false
    lease.marked = 'critical'
    this.#log.warn({ event: 'lease', host, address, status: 'critical', seconds: still }, 'host is gone')
  }

  /** Its check is touched only if it says otherwise, perhaps since before this process began. */
  async #passing(host: string, address: string, lease: Lease): Promise<void> {
    const checks = await this.#registry.nodeChecks(host)
    const check = checks.find(({ id, serviceId }) => id === leaseCheckId && serviceId === '')
    if (check !== undefined && check.status !== 'passing') {
      await this.#registry.setCheck(host, address, null, leaseCheckId, 'passing', 'the lease is renewed')
      this.#log.info({ event: 'lease', host, address, status: 'passing' }, 'host is back')
    }
    lease.marked = 'passing'
  }
}
