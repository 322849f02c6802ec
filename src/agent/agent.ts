// The running agent: its parts and how what one learns reaches the others.
import { readFileSync } from 'node:fs'
import type { Clock, Timer } from '../clock.ts'
import { compile } from '../compile/compile.ts'
import type { CompileProblem } from '../compile/input.ts'
import { reason } from '../errors.ts'
import type { Host } from '../host/host.ts'
import type { Log } from '../log.ts'
import type { HostConfig } from '../model/host.ts'
import { listens } from '../model/service.ts'
import type { Paths } from '../paths.ts'
import { connectRegistry } from '../registry/client.ts'
import type { HostReport, MachineFacts, Registry } from '../registry/registry.ts'
import type { Snapshot } from '../snapshot/types.ts'
import { version } from '../version.ts'
import { Capture } from './capture.ts'
import { Checks, type CheckOptions } from './checks.ts'
import { Identity, type IdentityOptions } from './identity.ts'
import { Keyring } from './keyring.ts'
import { readMachine } from './machine.ts'
import { Names, type NamesOptions } from './names.ts'
import { ProxyLink } from './push.ts'
import { Registrar } from './register.ts'
import { Reporter } from './report.ts'
import { type AgentStatus, type Answers, serveAgent } from './socket.ts'
import { Sync } from './sync.ts'
import { emptyView, instancesOf, type View, ViewFile } from './view.ts'

/** How long the first round of checks may hold up the first snapshot. */
const firstChecksMs = 3000
/** Without registry and without a view on disk the host's own services must be served all the same. */
const aloneMs = 5000
const confirmMs = 60_000
/** Time for others to hear that this host drains: their watches answer within a second. */
const heardMs = 2000

export interface AgentOptions {
  readonly config: HostConfig
  readonly paths: Paths
  readonly host: Host
  readonly clock: Clock
  readonly log: Log
  /** What systemd passed. */
  readonly passed?: NonNullable<NamesOptions['passed']>
  /** Seams of tests. */
  readonly registry?: Registry
  readonly connectSigner?: NonNullable<IdentityOptions['connect']>
  readonly dnsListen?: NonNullable<NamesOptions['listen']>
  readonly locate?: NonNullable<CheckOptions['locate']>
}

export class Agent implements Answers {
  readonly #options: AgentOptions
  readonly #registry: Registry
  readonly #identity: Identity
  readonly #names: Names
  readonly #link: ProxyLink
  readonly #capture: Capture
  readonly #checks: Checks
  readonly #sync: Sync
  readonly #registrar: Registrar
  readonly #reporter: Reporter
  readonly #timers: Timer[] = []
  readonly #bootId = readBootId()
  #view: View | null = null
  #problems: readonly CompileProblem[] = []
  #machine: MachineFacts | null = null
  /** What the proxy is to run. */
  #snapshot: Snapshot | null = null
  #checked = false
  #stopped = false
  #socket: { close(): void } | null = null

  constructor(options: AgentOptions) {
    this.#options = options
    const { config, paths, host, clock, log } = options
    this.#registry = options.registry ?? connectRegistry(config.registry, { log })
    const changed = (): void => this.#reporter.changed()
    this.#identity = new Identity({
      config,
      keyring: new Keyring(paths),
      clock,
      log,
      changed: (secrets) => {
        this.#link.setSecrets(secrets)
        changed()
      },
      ...(options.connectSigner === undefined ? {} : { connect: options.connectSigner }),
    })
    this.#names = new Names({
      mode: config.dns,
      host,
      folder: paths.state,
      clock,
      log,
      changed,
      ...(options.passed === undefined ? {} : { passed: options.passed }),
      ...(options.dnsListen === undefined ? {} : { listen: options.dnsListen }),
    })
    this.#capture = new Capture({ config, host, clock, log, changed })
    this.#link = new ProxyLink({ paths, clock, log, alive: () => this.#capture.alive(), changed })
    this.#checks = new Checks(config.services, {
      clock,
      userOf,
      changed: () => {
        this.#registrar.update()
        this.#publish()
        changed()
      },
      ...(options.locate === undefined ? {} : { locate: options.locate }),
    })
    this.#sync = new Sync({
      config,
      registry: this.#registry,
      file: new ViewFile(paths.state),
      clock,
      log,
      changed: (view) => this.#take(view),
    })
    this.#registrar = new Registrar({
      config,
      registry: this.#registry,
      bootId: this.#bootId,
      clock,
      log,
      health: () => this.#checks.health(),
      reached: (isReached) => this.#sync.setWritable(isReached),
    })
    this.#reporter = new Reporter({
      mesh: config.mesh,
      host: config.host,
      registry: this.#registry,
      clock,
      log,
      make: () => this.#report(),
    })
  }

  /** The port on which DNS is answered; 0: it is not. */
  get dnsPort(): number {
    return this.#names.port
  }

  /** Throws only where the host has no identity; everything else that is missing is waited for. */
  async start(): Promise<void> {
    const { paths, clock } = this.#options
    await this.#identity.load()
    // First what the host itself depends on.
    await this.#names.start()
    this.#socket = await serveAgent(paths.agentSocket, this)
    this.#link.setSecrets(this.#identity.secrets())
    const view = await this.#sync.boot()
    if (view !== null) this.#take(view)
    this.#sync.start()
    const capture = this.#capture.start()
    await Promise.race([this.#checks.start(), this.#pause(firstChecksMs)])
    this.#checked = true
    this.#publish()
    this.#registrar.start()
    this.#identity.start()
    this.#reporter.start()
    void this.#lookAtMachine()
    this.#timers.push(
      clock.every(confirmMs, () => void this.#sync.confirm()),
      clock.after(aloneMs, () => {
        if (this.#view === null) this.#publish(emptyView)
      }),
    )
    await capture
  }

  /** Capture stays in place, without its heartbeat; the proxy goes on with what it has. */
  async stop(): Promise<void> {
    if (this.#stopped) return
    this.#stopped = true
    for (const timer of this.#timers) timer.cancel()
    this.#socket?.close()
    this.#checks.stop()
    this.#identity.stop()
    this.#registrar.stop()
    await Promise.all([this.#link.stop(), this.#capture.stop(), this.#sync.stop(), this.#reporter.stop()])
    await this.#names.stop()
    await this.#registrar.idle()
    this.#registry.close()
  }

  // --- what the agent's socket answers

  status(): AgentStatus {
    const { connected, age } = this.#sync.status()
    return {
      report: this.#report(),
      registry: { connected, ageMs: age, registered: this.#registrar.settled },
      certificates: this.#identity
        .leafs()
        .map(({ spiffe, notBefore, notAfter }) => ({ spiffe, notBefore, notAfter })),
      proxy: { snapshot: this.#link.inForce, wanted: this.#snapshot?.hash ?? '' },
    }
  }

  async renew(force: boolean): Promise<{ renewed: boolean; notAfter: number }> {
    const due = force || this.#identity.due()
    if (due) await this.#identity.renew()
    return { renewed: due, notAfter: this.#identity.notAfter() }
  }

  async drain(timeoutMs: number): Promise<{ open: number }> {
    const { log } = this.#options
    // A registry that is away cannot send anybody here either, once the lease has run out.
    await this.#registrar.drain().catch((error: unknown) => {
      log.warn({ error: reason(error) }, 'draining without the registry')
    })
    await this.#pause(Math.min(heardMs, timeoutMs))
    const open = await this.#link.drain(timeoutMs).catch((error: unknown) => {
      log.warn({ error: reason(error) }, 'the proxy could not be drained')
      return 0
    })
    await this.#capture.release()
    return { open }
  }

  async leave(): Promise<Record<string, never>> {
    await this.#reporter.stop()
    await this.#registrar.leave()
    return {}
  }

  // --- how things hang together

  #take(view: View): void {
    this.#view = view
    this.#names.setTable(view.vips)
    // Own chains must not be asked about instances without meshctl and without a virtual address: other programs'.
    const named = new Set(view.vips.map(({ service, namespace }) => `${namespace}/${service}`))
    this.#capture.setInstances(
      instancesOf(view)
        .filter(
          ({ linkPort, namespace, service }) => linkPort !== null || named.has(`${namespace}/${service}`),
        )
        .map(({ address, port }) => `${address},${port}`),
    )
    const { config } = this.#options
    const mine = instancesOf(view).filter(({ host }) => host === config.host)
    const lost = config.services
      .filter(listens)
      .some(
        ({ name, namespace, port }) =>
          !mine.some((each) => each.service === name && each.namespace === namespace && each.port === port),
      )
    if (lost && this.#registrar.settled) this.#registrar.recheck()
    this.#publish()
  }

  #publish(view: View | null = this.#view): void {
    // Before the first checks the host's own instances would all be left out.
    if (view === null || !this.#checked || this.#stopped) return
    const { config, log } = this.#options
    const { snapshot, problems } = compile(
      {
        config,
        local: this.#checks
          .health()
          .map(({ id, address, status }) => ({ id, address, healthy: status !== 'critical' })),
        resources: view.resources,
        instances: instancesOf(view),
        vips: view.vips,
      },
      this.#snapshot,
    )
    if (JSON.stringify(problems) !== JSON.stringify(this.#problems)) {
      for (const { where, message } of problems) log.warn({ where }, message)
    }
    this.#problems = problems
    this.#snapshot = snapshot
    this.#link.setSnapshot(snapshot)
    this.#reporter.changed()
  }

  #report(): HostReport {
    const { config, clock } = this.#options
    const { connected, age } = this.#sync.status()
    const away =
      connected || age === null ? null : `registry away; the view is ${Math.round(age / 1000 / 60)} min old`
    const health = this.#checks.health()
    return {
      schema: 1,
      host: config.host,
      address: config.address,
      version,
      bootId: this.#bootId,
      snapshot: this.#link.inForce,
      proxy: this.#link.state,
      capture: this.#capture.state,
      dns: this.#names.state,
      services: config.services.map((declared) => ({
        name: declared.name,
        namespace: declared.namespace,
        // One that only calls has nothing that could fail.
        status: listens(declared)
          ? (health.find(({ id }) => id === declared.id)?.status ?? 'critical')
          : 'passing',
      })),
      certificateNotAfter: this.#identity.notAfter(),
      problems: [
        away,
        this.#identity.problem(),
        this.#link.rejection,
        this.#capture.problem,
        this.#names.problem,
        ...(this.#view?.unreadable ?? []),
        ...this.#problems.map(({ where, message }) => `${where}: ${message}`),
      ].filter((problem) => problem !== null),
      machine: this.#machine,
      at: new Date(clock.now()).toISOString(),
    }
  }

  /** Facts are a courtesy to whoever reads the report: without them it says the rest. */
  async #lookAtMachine(): Promise<void> {
    try {
      this.#machine = await readMachine()
      this.#reporter.changed()
    } catch (error) {
      this.#options.log.debug({ error: reason(error) }, 'facts of the machine not read')
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((done) => void this.#timers.push(this.#options.clock.after(ms, done)))
  }
}

/** From /etc/passwd: users of checks are local ones. */
function userOf(name: string): { uid: number; gid: number } | null {
  try {
    const line = readFileSync('/etc/passwd', 'utf8')
      .split('\n')
      .find((entry) => entry.startsWith(`${name}:`))
    const [, , uid, gid] = (line ?? '').split(':').map(Number)
    return uid === undefined || gid === undefined ? null : { uid, gid }
  } catch {
    return null
  }
}

function readBootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    return ''
  }
}
