// What the host says of itself: into the registry for `meshctl status`, and on the agent's socket.
import type { Clock, Timer } from '../clock.ts'
import { reason } from '../errors.ts'
import type { Log } from '../log.ts'
import { type HostReport, keys, type Registry } from '../registry/registry.ts'

const everyMs = 60_000
/** Changes that come together are one report. */
const coalesceMs = 500

export interface ReporterOptions {
  readonly mesh: string
  readonly host: string
  readonly registry: Registry
  readonly clock: Clock
  readonly log: Log
  readonly make: () => HostReport
}

export class Reporter {
  readonly #options: ReporterOptions
  #timers: Timer[] = []
  #soon: Timer | null = null
  #last = ''
  #failing = false
  #stopped = false
  #writing: Promise<void> = Promise.resolve()

  constructor(options: ReporterOptions) {
    this.#options = options
  }

  start(): void {
    this.#timers = [this.#options.clock.every(everyMs, () => this.#write(true))]
    this.changed()
  }

  /** Something a report would show may have changed. */
  changed(): void {
    if (this.#stopped) return
    this.#soon ??= this.#options.clock.after(coalesceMs, () => {
      this.#soon = null
      this.#write(false)
    })
  }

  async stop(): Promise<void> {
    this.#stopped = true
    for (const timer of this.#timers) timer.cancel()
    this.#soon?.cancel()
    await this.#writing
  }

  #write(always: boolean): void {
    const { registry, mesh, host, log, make } = this.#options
    const report = make()
    // The time alone is no news.
    const content = JSON.stringify({ ...report, at: '' })
    if (!always && content === this.#last) return
    this.#writing = this.#writing.then(async () => {
      if (this.#stopped) return
      try {
        await registry.put(`${keys.reports(mesh)}${host}`, JSON.stringify(report))
        this.#last = content
        this.#failing = false
      } catch (error) {
        if (!this.#failing) log.debug({ error: reason(error) }, 'report not written')
        this.#failing = true
      }
    })
  }
}

/** One line per thing that is not as it should be; empty: all is well. */
export function findingsOf(report: HostReport, now: number): string[] {
  const findings: string[] = []
  if (report.proxy !== 'ok') findings.push(`proxy ${report.proxy}`)
  if (report.capture === 'drifted' || report.capture === 'failed') findings.push(`capture ${report.capture}`)
  if (report.dns === 'failed') findings.push('dns failed')
  for (const service of report.services) {
    if (service.status !== 'passing')
      findings.push(`service ${service.name}.${service.namespace} ${service.status}`)
  }
  if (report.certificateNotAfter <= now) findings.push('certificate expired')
  return [...findings, ...report.problems]
}
