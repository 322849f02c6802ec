// The certificates of this host: loads them, asks control for new ones from half of their life on, hands them on.
import { connectSigner, type Signer } from '../api/client.ts'
import type { Clock, Timer } from '../clock.ts'
import { MeshError, reason } from '../errors.ts'
import type { Log } from '../log.ts'
import type { HostConfig } from '../model/host.ts'
import { backoff } from '../net/backoff.ts'
import { makeRequest } from '../pki/csr.ts'
import { backdateMs } from '../pki/issue.ts'
import { makeKey } from '../pki/key.ts'
import type { Secrets } from '../snapshot/types.ts'
import { type Holder, holdersOf, type Keyring, type Leaf, secretsOf } from './keyring.ts'

const retry = { base: 2000, max: 300_000 }
/** Up to this part of a life after its half: hosts that joined together do not renew together. */
const spread = 0.1
const lookMs = 300_000

export interface IdentityOptions {
  readonly config: Pick<HostConfig, 'trustDomain' | 'host' | 'services' | 'signers'>
  readonly keyring: Keyring
  readonly clock: Clock
  readonly log: Log
  /** Called with what the proxy shall use, after each change. */
  readonly changed: (secrets: Secrets) => void
  readonly connect?: typeof connectSigner
  readonly random?: () => number
}

export class Identity {
  readonly #options: IdentityOptions
  readonly #holders: readonly Holder[]
  readonly #leafs = new Map<string, Leaf>()
  #roots = ''
  #timer: Timer | null = null
  #failures = 0
  #stopped = false
  #running: Promise<void> | null = null
  #problem: string | null = null

  constructor(options: IdentityOptions) {
    this.#options = options
    const { trustDomain, host, services } = options.config
    this.#holders = holdersOf(trustDomain, host, services)
  }

  /** Reads what is on disk. A damaged service leaf is replaced by asking anew; without the host's own nothing works. */
  async load(): Promise<void> {
    const { keyring, log } = this.#options
    this.#roots = await keyring.roots()
    for (const holder of this.#holders) {
      try {
        const leaf = await keyring.load(holder)
        if (leaf !== null) this.#leafs.set(holder.file, leaf)
      } catch (error) {
        if (holder === this.#holders[0]) throw error
        log.warn(
          { holder: holder.spiffe, error: reason(error) },
          'certificate cannot be read; asking for a new one',
        )
      }
    }
    if (!this.#leafs.has('host')) throw new MeshError('MSH0603', 'this host has no certificate of its own')
  }

  secrets(): Secrets {
    return secretsOf(this.#roots, [...this.#leafs.values()])
  }

  host(): Leaf | null {
    return this.#leafs.get('host') ?? null
  }

  get roots(): string {
    return this.#roots
  }

  leafs(): readonly Leaf[] {
    return [...this.#leafs.values()]
  }

  /** Earliest end, ms since the epoch; 0: there is none. */
  notAfter(): number {
    const ends = this.leafs().map((leaf) => leaf.notAfter)
    return ends.length === 0 ? 0 : Math.min(...ends)
  }

  /** What keeps certificates from being renewed, for the report; null: nothing. */
  problem(): string | null {
    const { clock } = this.#options
    const missing = this.#holders
      .filter((holder) => !this.#leafs.has(holder.file))
      .map(({ spiffe }) => spiffe)
    const ended = this.leafs()
      .filter((leaf) => leaf.notAfter <= clock.now())
      .map(({ spiffe }) => spiffe)
    if (ended.length > 0) return `expired: ${ended.join(', ')}${this.#because()}`
    if (missing.length > 0) return `no certificate for ${missing.join(', ')}${this.#because()}`
    // Failures matter once a renewal that comes every half life has been missed for a quarter of it.
    const late = this.leafs().some((leaf) => clock.now() > issuedAt(leaf) + lifeOf(leaf) * 0.75)
    return late ? `certificates are due and not renewed${this.#because()}` : null
  }

  start(): void {
    this.#schedule()
  }

  stop(): void {
    this.#stopped = true
    this.#timer?.cancel()
  }

  /** Whether something is due: half of its life is over, or it is missing. */
  due(): boolean {
    return this.#delay() <= 0
  }

  /** Renews all now; one run at a time. Throws what control said. */
  async renew(): Promise<void> {
    this.#running ??= this.#renew().finally(() => {
      this.#running = null
    })
    await this.#running
  }

  #because(): string {
    return this.#problem === null ? '' : `: ${this.#problem}`
  }

  /** Milliseconds until something is due. */
  #delay(): number {
    if (this.#holders.some((holder) => !this.#leafs.has(holder.file))) return 0
    const due = this.leafs().map((leaf) => issuedAt(leaf) + lifeOf(leaf) / 2)
    return Math.min(...due) - this.#options.clock.now()
  }

  #schedule(): void {
    if (this.#stopped) return
    this.#timer?.cancel()
    const { clock, random = Math.random } = this.#options
    const lives = this.leafs().map(lifeOf)
    const wait =
      this.#failures > 0
        ? Math.min(backoff(retry, this.#failures - 1, random()), this.#patience())
        : Math.max(0, this.#delay()) + Math.min(...lives, 86_400_000) * spread * random()
    this.#sleepUntil(clock.now() + wait)
  }

  /** No pause may eat up what is left of a certificate; where nothing is left, there is no hurry. */
  #patience(): number {
    const left = this.notAfter() - this.#options.clock.now()
    return left > 0 ? Math.max(1000, left / 8) : retry.max
  }

  /** By the wall clock, looked at every few minutes: the monotonic one stands still while a machine sleeps. */
  #sleepUntil(at: number): void {
    if (this.#stopped) return
    const { clock } = this.#options
    const left = at - clock.now()
    this.#timer = clock.after(Math.min(Math.max(0, left), lookMs), () => {
      if (clock.now() < at) return this.#sleepUntil(at)
      this.renew().then(
        () => this.#schedule(),
        () => this.#schedule(),
      )
    })
  }

  async #renew(): Promise<void> {
    const { log } = this.#options
    try {
      const signer = this.#connect()
      try {
        await this.#sign(signer, this.#holders)
      } catch (error) {
        // One service that this host may not have must not keep the others from being renewed.
        if (!refused(error) || this.#holders.length === 1) throw error
        const refusals: unknown[] = []
        for (const holder of this.#holders) {
          await this.#sign(signer, [holder]).catch((cause: unknown) => refusals.push(cause))
        }
        if (refusals.length > 0) throw refusals[0]
      }
      if (this.#failures > 0) log.info('certificates renewed after failures')
      this.#failures = 0
      this.#problem = null
    } catch (error) {
      // Once at the beginning; a host without control for days must not fill its log.
      if (this.#problem !== reason(error)) {
        log.warn(
          { error: reason(error), until: new Date(this.notAfter()).toISOString() },
          'certificates not renewed',
        )
      }
      this.#failures++
      this.#problem = reason(error)
      throw error
    }
  }

  #connect(): Signer {
    const { config, connect = connectSigner } = this.#options
    const host = this.host()
    if (host === null) throw new MeshError('MSH0603', 'this host has no certificate of its own')
    return connect({
      urls: config.signers,
      roots: this.#roots,
      trustDomain: config.trustDomain,
      cert: host.chain,
      key: host.keyPem,
    })
  }

  async #sign(signer: Signer, holders: readonly Holder[]): Promise<void> {
    const { keyring, changed, log } = this.#options
    // A key lives as long as its certificate.
    const keys = holders.map(() => makeKey())
    const csrs = holders.map((holder, at) => makeRequest(keys[at] ?? makeKey(), holder.spiffe))
    const reply = await signer.sign({ csrs })
    if (reply.roots !== this.#roots) {
      await keyring.storeRoots(reply.roots)
      this.#roots = reply.roots
    }
    for (const [at, holder] of holders.entries()) {
      const key = keys[at]
      const chain = reply.chains[at]
      if (key === undefined || chain === undefined) {
        throw new MeshError('MSH0603', `control sent no certificate for ${holder.spiffe}`)
      }
      this.#leafs.set(holder.file, await keyring.store(holder, key, chain))
    }
    log.info(
      { count: holders.length, until: new Date(this.notAfter()).toISOString() },
      'certificates renewed',
    )
    changed(this.secrets())
  }
}

function refused(error: unknown): boolean {
  return error instanceof MeshError && (error.code === 'MSH0404' || error.code === 'MSH0405')
}

/** Leafs begin a little before they were issued, for clocks that are behind; that is no part of their life. */
function issuedAt({ notBefore }: Leaf): number {
  return notBefore + backdateMs
}

function lifeOf(leaf: Leaf): number {
  return leaf.notAfter - issuedAt(leaf)
}
