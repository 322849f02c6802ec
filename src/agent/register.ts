// Puts the host's services into the registry and keeps them there: virtual address, registration, state, lease. Those
// that only call are not in it: there is nothing to find.
import type { Clock, Timer } from '../clock.ts'
import { MeshError, reason } from '../errors.ts'
import type { Log } from '../log.ts'
import type { HostConfig } from '../model/host.ts'
import { listens, type ServiceDeclaration } from '../model/service.ts'
import { ports } from '../paths.ts'
import { registrationOf } from '../registry/catalogue.ts'
import { type CheckStatus, keys, leaseEveryMs, type Registry } from '../registry/registry.ts'
import { claim } from '../registry/vip.ts'
import type { ServiceHealth } from './checks.ts'

/** How often we look whether the registry still has what we told it. */
const auditMs = 10_000
/** A local Consul agent marks a service critical after this long without a word: hosts that die leave within 15 s. */
const agentTtlSeconds = 10

export interface RegisterOptions {
  readonly config: Pick<HostConfig, 'mesh' | 'host' | 'address' | 'services' | 'registry'>
  readonly registry: Registry
  /** The kernel's boot id: a lease of an earlier boot is another life. */
  readonly bootId: string
  readonly clock: Clock
  readonly log: Log
  readonly health: () => readonly ServiceHealth[]
  /** Told again and again whether the registry hears what is written. */
  readonly reached: (isReached: boolean) => void
}

interface State {
  readonly declared: ServiceDeclaration
  /** What the registry has, as far as we know; null: nothing. */
  registered: { readonly status: CheckStatus; readonly output: string } | null
}

export class Registrar {
  readonly #options: RegisterOptions
  readonly #states: State[]
  readonly #timers: Timer[] = []
  #claimed = false
  #draining = false
  #left = false
  #sequence = 0
  #away = false
  /** Work on the registry happens one after another, so that an old state never overtakes a new one. */
  #queue: Promise<void> = Promise.resolve()
  /** Steps of the timers that have not ended yet. */
  readonly #waiting = new Set<'beat' | 'audit'>()

  constructor(options: RegisterOptions) {
    this.#options = options
    this.#states = options.config.services.filter(listens).map((declared) => ({ declared, registered: null }))
  }

  /** Whether everything of ours was in the registry when we last looked. */
  get settled(): boolean {
    return !this.#away && this.#states.every((state) => state.registered !== null)
  }

  start(): void {
    const { clock } = this.#options
    this.#timers.push(
      clock.every(leaseEveryMs, () => {
        // Answers take milliseconds; this one will not come.
        if (this.#waiting.has('beat')) this.#options.reached(false)
        this.#repeat('beat', () => this.#beat())
      }),
      clock.every(auditMs, () => this.#repeat('audit', () => this.#audit())),
    )
    void this.#run(async () => {
      await this.#beat()
      await this.#tidy()
      await this.#reconcile()
    })
  }

  /** A check changed: tell it now. */
  update(): void {
    void this.#run(() => this.#reconcile())
  }

  /** The registry's view lacks something of ours: look and mend now. */
  recheck(): void {
    void this.#run(() => this.#audit())
  }

  /** All services critical, so that nobody new is sent here. */
  async drain(): Promise<void> {
    this.#draining = true
    await this.#must(() => this.#reconcile())
  }

  /** Out of the registry for good: services, node, lease and report. */
  async leave(): Promise<void> {
    const { config, registry } = this.#options
    this.stop()
    await this.#must(async () => {
      for (const state of this.#states) {
        if (config.registry.localAgent === null) await registry.deregister(config.host, state.declared.id)
        else await registry.agentDeregister(state.declared.id)
        state.registered = null
      }
      if (config.registry.localAgent === null) await registry.deregisterNode(config.host)
      await registry.delete(`${keys.leases(config.mesh)}${config.host}`)
      await registry.delete(`${keys.reports(config.mesh)}${config.host}`)
      this.#left = true
    })
  }

  /** Leaves everything as it is; the lease runs out by itself. */
  stop(): void {
    for (const timer of this.#timers.splice(0)) timer.cancel()
  }

  /** Waits for what is under way. */
  async idle(): Promise<void> {
    await this.#queue
  }

  /** A step of the timers, unless the same one still waits: an outage must not leave a long queue behind. */
  #repeat(name: 'beat' | 'audit', step: () => Promise<void>): void {
    if (this.#waiting.has(name)) return
    this.#waiting.add(name)
    void this.#run(step).finally(() => this.#waiting.delete(name))
  }

  /** One step after another; a failure is logged once per outage and tried again by the timers. */
  #run(step: () => Promise<void>): Promise<void> {
    this.#queue = this.#queue.then(async () => {
      if (this.#left) return
      try {
        await step()
        if (this.#away) this.#options.log.info('registration goes on')
        this.#away = false
        this.#options.reached(true)
      } catch (error) {
        if (!this.#away)
          this.#options.log.warn({ error: reason(error) }, 'registration waits for the registry')
        this.#away = true
        this.#options.reached(!(error instanceof MeshError && error.code === 'MSH0301'))
      }
    })
    return this.#queue
  }

  /** Like #run, but the caller hears of the failure. */
  async #must(step: () => Promise<void>): Promise<void> {
    let failure: unknown = null
    await this.#run(async () => {
      await step().catch((error: unknown) => {
        failure = error
        throw error
      })
    })
    if (failure !== null) throw failure as Error
  }

  async #beat(): Promise<void> {
    const { config, registry, bootId } = this.#options
    this.#sequence++
    const value = JSON.stringify({ boot: bootId, sequence: this.#sequence })
    await registry.put(`${keys.leases(config.mesh)}${config.host}`, value)
    // A TTL check has to be told again and again.
    if (config.registry.localAgent !== null) await this.#reconcile(true)
    else if (this.#away) await this.#reconcile()
  }

  /** Brings the registry to what is true here. `repeat`: tell even what has not changed. */
  async #reconcile(repeat: boolean = false): Promise<void> {
    const { config, registry } = this.#options
    // A service that this host may not speak for must not keep its others out of the registry.
    const denials: MeshError[] = []
    const attempt = async (step: () => Promise<unknown>): Promise<void> => {
      try {
        await step()
      } catch (error) {
        if (!(error instanceof MeshError) || error.code !== 'MSH0302') throw error
        denials.push(error)
      }
    }
    if (!this.#claimed) {
      const names = new Map(
        this.#states.map(({ declared: { name, namespace } }) => [
          `${namespace}/${name}`,
          { name, namespace },
        ]),
      )
      for (const { name, namespace } of names.values())
        await attempt(() => claim(registry, config.mesh, namespace, name))
      this.#claimed = true
    }
    for (const state of this.#states) {
      const wanted = this.#wanted(state.declared)
      const { registered } = state
      await attempt(async () => {
        if (registered === null) await this.#register(state, wanted)
        else if (repeat || registered.status !== wanted.status) await this.#tell(state, wanted)
      })
    }
    if (denials[0] !== undefined) throw denials[0]
  }

  #wanted(declared: ServiceDeclaration): { status: CheckStatus; output: string } {
    if (this.#draining) return { status: 'critical', output: 'draining' }
    const health = this.#options.health().find(({ id }) => id === declared.id)
    return { status: health?.status ?? 'critical', output: health?.output ?? 'not checked yet' }
  }

  async #register(state: State, wanted: { status: CheckStatus; output: string }): Promise<void> {
    const { config, registry, log } = this.#options
    const { host, address, mesh } = config
    const registration = registrationOf(state.declared, { mesh, host, address, linkPort: ports.link })
    if (config.registry.localAgent === null) await registry.register(registration, wanted)
    else {
      await registry.agentRegister(registration, agentTtlSeconds)
      await registry.agentPass(`service:${state.declared.id}`, wanted.status, wanted.output)
    }
    state.registered = wanted
    log.info(
      { service: state.declared.name, id: state.declared.id, status: wanted.status },
      'service registered',
    )
  }

  async #tell(state: State, wanted: { status: CheckStatus; output: string }): Promise<void> {
    const { config, registry, log } = this.#options
    const check = `service:${state.declared.id}`
    try {
      if (config.registry.localAgent !== null) await registry.agentPass(check, wanted.status, wanted.output)
      else {
        await registry.setCheck(
          config.host,
          config.address,
          state.declared.id,
          check,
          wanted.status,
          wanted.output,
        )
      }
    } catch (error) {
      state.registered = null
      // A registry that is away hears nothing; one that answers has lost the service.
      if (error instanceof MeshError && error.code === 'MSH0301') throw error
      await this.#register(state, wanted)
      return
    }
    if (state.registered?.status !== wanted.status) {
      log.info({ service: state.declared.name, id: state.declared.id, ...wanted }, 'service state changed')
    }
    state.registered = wanted
  }

  /** The registry may have been restored from a backup, or somebody removed us by hand. */
  async #audit(): Promise<void> {
    const { config, registry } = this.#options
    if (config.registry.localAgent === null) {
      const checks = await registry.nodeChecks(config.host)
      for (const state of this.#states) {
        const check = checks.find(({ id }) => id === `service:${state.declared.id}`)
        if (check === undefined) state.registered = null
        else if (state.registered !== null) state.registered = { ...state.registered, status: check.status }
      }
    }
    this.#claimed = false
    await this.#reconcile(config.registry.localAgent !== null)
  }

  /** Services that an earlier host.json declared. The node is ours alone unless it is a Consul agent's. */
  async #tidy(): Promise<void> {
    const { config, registry, log } = this.#options
    if (config.registry.localAgent !== null) return
    const ours = new Set(this.#states.map(({ declared }) => declared.id))
    for (const { serviceId } of await registry.nodeChecks(config.host)) {
      if (serviceId === '' || ours.has(serviceId)) continue
      await registry.deregister(config.host, serviceId)
      log.info({ id: serviceId }, 'service is no longer declared; deregistered')
    }
  }
}
