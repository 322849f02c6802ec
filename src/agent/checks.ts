// Health checks of the host's services: runs each on its interval and says when a service's state changes.
import { type Clock, systemClock, type Timer } from '../clock.ts'
import { parseDuration } from '../model/duration.ts'
import { type CheckDefinition, listens, type ServiceDeclaration } from '../model/service.ts'
import { printAddress } from '../net/addr.ts'
import type { CheckStatus } from '../registry/registry.ts'
import { locate } from './locate.ts'
import { type Finding, probe } from './probe.ts'

const defaultIntervalMs = 5000
const defaultTimeoutMs = 2000
/** One failure may be a hiccup; the second in a row is believed. A pass is believed at once. */
const failuresToFlip = 2

export interface ServiceHealth {
  readonly id: string
  readonly status: CheckStatus
  readonly output: string
  /** Where the application was last found listening. */
  readonly address: string
}

export interface CheckOptions {
  readonly clock?: Clock
  readonly locate?: (port: number) => Promise<string | null>
  /** uid and gid of a user name; null: no such user. */
  readonly userOf?: (name: string) => { readonly uid: number; readonly gid: number } | null
  /** Called when a status or an address changes, not at each check. */
  readonly changed: (health: ServiceHealth) => void
}

interface Running {
  readonly declared: ServiceDeclaration
  readonly checks: { readonly definition: CheckDefinition | null; failures: number; finding: Finding }[]
  health: ServiceHealth
}

export class Checks {
  readonly #options: CheckOptions
  readonly #clock: Clock
  readonly #services: Running[]
  readonly #timers = new Set<Timer>()
  #stopped = false

  constructor(services: readonly ServiceDeclaration[], options: CheckOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#services = services.filter(listens).map((declared) => ({
      declared,
      // Without a check of its own a service is healthy while its port takes connections.
      checks: (declared.checks.length === 0 ? [null] : declared.checks).map((definition) => ({
        definition,
        failures: failuresToFlip,
        finding: { status: 'critical', output: 'not checked yet' },
      })),
      health: {
        id: declared.id,
        status: 'critical',
        output: 'not checked yet',
        address: declared.bind ?? '127.0.0.1',
      },
    }))
  }

  /** Of the services that listen, in the order of declaration. */
  health(): readonly ServiceHealth[] {
    return this.#services.map((service) => service.health)
  }

  /** Checks everything once, then goes on by itself. Resolves after the first round. */
  async start(): Promise<void> {
    await Promise.all(
      this.#services.flatMap((service) => service.checks.map((_, at) => this.#round(service, at))),
    )
  }

  stop(): void {
    this.#stopped = true
    for (const timer of this.#timers) timer.cancel()
    this.#timers.clear()
  }

  async #round(service: Running, at: number): Promise<void> {
    const check = service.checks[at]
    if (check === undefined) return
    const intervalMs = time(check.definition?.interval, defaultIntervalMs)
    const address = await this.#locate(service.declared)
    const finding = await this.#look(service.declared, check.definition, address)
    // Stopped while the probe ran.
    if (this.#stopped) return
    check.failures = finding.status === 'critical' ? check.failures + 1 : 0
    if (check.failures === 0 || check.failures >= failuresToFlip) check.finding = finding
    this.#settle(service, address)
    const timer = this.#clock.after(intervalMs, () => {
      this.#timers.delete(timer)
      void this.#round(service, at)
    })
    this.#timers.add(timer)
  }

  async #locate(declared: ServiceDeclaration): Promise<string> {
    if (declared.bind !== null) return declared.bind
    const found = await (this.#options.locate ?? locate)(declared.port)
    // Nothing listens now: keep the last place, where it will most likely be again.
    return (
      found ?? this.#services.find((service) => service.declared === declared)?.health.address ?? '127.0.0.1'
    )
  }

  async #look(
    declared: ServiceDeclaration,
    definition: CheckDefinition | null,
    address: string,
  ): Promise<Finding> {
    const runAs = declared.user === null ? null : (this.#options.userOf?.(declared.user) ?? null)
    if (definition !== null && 'args' in definition && declared.user !== null && runAs === null) {
      // Never as root instead.
      return { status: 'critical', output: `there is no user "${declared.user}" to run the check` }
    }
    const timeoutMs = time(definition?.timeout, defaultTimeoutMs)
    return await probe(definition ?? { tcp: printAddress(address, declared.port) }, { timeoutMs, runAs })
  }

  /** The worst of a service's checks is its state. */
  #settle(service: Running, address: string): void {
    const findings = service.checks.map((check) => check.finding)
    const worst =
      findings.find((finding) => finding.status === 'critical') ??
      findings.find((finding) => finding.status === 'warning') ??
      findings[0]
    if (worst === undefined) return
    const before = service.health
    service.health = { id: service.declared.id, status: worst.status, output: worst.output, address }
    if (before.status !== worst.status || before.address !== address) this.#options.changed(service.health)
  }
}

function time(text: string | undefined, otherwise: number): number {
  const ms = text === undefined ? null : parseDuration(text)
  return ms === null || ms <= 0 ? otherwise : ms
}
