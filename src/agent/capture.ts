// Capture on this host: builds the plan, keeps the rules in place, and beats for as long as the proxy answers.
import type { Clock, Timer } from '../clock.ts'
import { identitiesOf } from '../compile/identities.ts'
import { reason } from '../errors.ts'
import { applyCapture, beat, captureDrift, type CapturePlan, setInstances } from '../host/capture.ts'
import type { Host } from '../host/host.ts'
import { heartbeatSeconds } from '../host/ipset.ts'
import { vipRange } from '../host/iptables.ts'
import type { Log } from '../log.ts'
import type { HostConfig } from '../model/host.ts'
import { listens } from '../model/service.ts'
import { units, users } from '../paths.ts'

const checkMs = 5000
const beatMs = 2000
/** Every so many checks the rules are read in full, whatever the quick look says. */
const fullEvery = 12
/** All that `captureDrift` looks at, without counters and dates: the same text, the same rules. */
const quickLook = `PATH=$PATH:/usr/sbin:/sbin
{ iptables-save; ip6tables-save; } 2>/dev/null | grep -v '^[#:]'
ipset list -n; ip route show ${vipRange}; exit 0`
/** A proxy that has not answered for this long is not to be sent connections. */
const aliveMs = 4000

export type CaptureState = 'ok' | 'drifted' | 'off' | 'failed'

export interface CaptureOptions {
  readonly config: HostConfig
  readonly host: Host
  readonly clock: Clock
  readonly log: Log
  readonly changed: () => void
}

/** What of host.json the kernel has to know. */
export function planOf(config: HostConfig, sshPorts: readonly number[]): CapturePlan {
  const inbound = new Map<number, 'open' | 'closed'>()
  if (config.capture.inbound) {
    for (const { port, onFailure } of config.services.filter(listens)) {
      if (!inbound.has(port)) inbound.set(port, onFailure)
    }
  }
  return {
    outbound: config.capture.outbound,
    inbound: [...inbound].map(([port, onFailure]) => ({ port, onFailure })),
    identities: identitiesOf(config).callers.filter(({ unit, user }) => unit !== null || user !== null),
    proxyUser: users.proxy,
    exemptUnits: [units.agent],
    sshPorts,
    excludePorts: config.capture.excludePorts,
    excludeCidrs: config.capture.excludeCidrs,
  }
}

/** Where sshd really listens; the kernel's rules must never touch these. */
export async function sshPortsOf(host: Host): Promise<number[]> {
  const script = `PATH=$PATH:/usr/sbin:/sbin
sshd -T 2>/dev/null | awk '$1=="port"{print $2}'
systemctl show ssh.socket sshd.socket -p Listen 2>/dev/null | sed -n 's/^Listen=.*:\\([0-9][0-9]*\\) (Stream)$/\\1/p'
ss -Hltnp 2>/dev/null | grep '"sshd"' | awk '{print $4}' | sed 's/.*://'
exit 0`
  const { stdout } = await host.run('sh -s', { root: true, input: script, timeoutMs: 10_000 })
  const found = stdout
    .split('\n')
    .map(Number)
    .filter((port) => Number.isInteger(port) && port > 0)
  return [...new Set(found)].toSorted((a, b) => a - b)
}

export class Capture {
  readonly #options: CaptureOptions
  readonly #off: boolean
  readonly #timers: Timer[] = []
  #plan: CapturePlan | null = null
  #instances: readonly string[] = []
  /** Monotonic time of the proxy's last sign of life. */
  #aliveAt = -Infinity
  #state: CaptureState
  #problem: string | null = null
  #stopped = false
  #queue: Promise<void> = Promise.resolve()
  /** What the quick look showed when the rules were last known to be right; null: not known. */
  #right: string | null = null
  #checks = 0

  constructor(options: CaptureOptions) {
    this.#options = options
    this.#off = options.config.capture.outbound === 'off' && !options.config.capture.inbound
    this.#state = this.#off ? 'off' : 'failed'
  }

  get state(): CaptureState {
    return this.#state
  }

  get problem(): string | null {
    return this.#problem
  }

  async start(): Promise<void> {
    if (this.#off) return
    const { clock } = this.#options
    await this.#run(() => this.#apply())
    this.#timers.push(
      clock.every(checkMs, () => void this.#run(() => this.#check())),
      clock.every(beatMs, () => void this.#run(() => this.#beat())),
    )
  }

  /** The rules stay; the heartbeat runs out by itself and with it the redirection. */
  async stop(): Promise<void> {
    this.#stopped = true
    for (const timer of this.#timers.splice(0)) timer.cancel()
    await this.#queue
  }

  /** Redirection ends now: the host is drained. */
  async release(): Promise<void> {
    await this.stop()
    if (!this.#off) await beat(this.#options.host, 0)
  }

  /** The proxy answered. */
  alive(): void {
    const first = this.#aliveAt === -Infinity
    this.#aliveAt = this.#options.clock.monotonic()
    // Capture begins with the proxy's first answer, not up to two seconds later.
    if (first) void this.#run(() => this.#beat())
  }

  /** `address,port` of all instances of the mesh. */
  setInstances(instances: readonly string[]): void {
    const sorted = [...new Set(instances)].toSorted()
    if (this.#off || sorted.join(' ') === this.#instances.join(' ')) return
    this.#instances = sorted
    void this.#run(() => setInstances(this.#options.host, this.#instances))
  }

  /** For `verify`: what is not in place right now. */
  async drift(): Promise<string[]> {
    if (this.#off) return []
    return await captureDrift(this.#options.host, await this.#planned())
  }

  async #planned(): Promise<CapturePlan> {
    this.#plan ??= planOf(this.#options.config, await sshPortsOf(this.#options.host))
    return this.#plan
  }

  /** One after another: iptables takes a lock, and a check must not look at rules half made. */
  #run(step: () => Promise<void>): Promise<void> {
    this.#queue = this.#queue.then(async () => {
      if (this.#stopped) return
      try {
        await step()
      } catch (error) {
        const text = reason(error)
        if (text !== this.#problem) this.#options.log.error({ error: text }, 'capture failed')
        this.#become('failed', text)
      }
    })
    return this.#queue
  }

  async #apply(): Promise<void> {
    const { host } = this.#options
    // sshd may have moved since.
    this.#plan = planOf(this.#options.config, await sshPortsOf(host))
    await applyCapture(host, this.#plan)
    await setInstances(host, this.#instances)
    await this.#beat()
    this.#become('ok', null)
  }

  async #check(): Promise<void> {
    if (this.#state === 'failed') return await this.#apply()
    // Five programs instead of a dozen, most of the time.
    const look = await this.#look()
    if (look === this.#right && ++this.#checks % fullEvery !== 0) return
    const drift = await captureDrift(this.#options.host, await this.#planned())
    if (drift.length === 0) {
      this.#right = look
      return
    }
    this.#right = null
    this.#options.log.warn({ drift: drift.slice(0, 10) }, 'capture rules were changed; putting them back')
    this.#become('drifted', `capture rules were changed: ${drift[0] ?? ''}`)
    await this.#apply()
  }

  async #look(): Promise<string> {
    const { stdout } = await this.#options.host.run('sh -s', {
      root: true,
      input: quickLook,
      timeoutMs: 10_000,
    })
    return stdout
  }

  async #beat(): Promise<void> {
    if (this.#options.clock.monotonic() - this.#aliveAt > aliveMs) return
    await beat(this.#options.host, heartbeatSeconds)
  }

  #become(state: CaptureState, problem: string | null): void {
    const before = this.#state
    this.#state = state
    this.#problem = problem
    if (before !== state) this.#options.changed()
  }
}
