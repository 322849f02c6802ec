// The agent's hold on the proxy: snapshots, or what has changed in them, and secrets over its socket, pings.
import type { Clock, Timer } from '../clock.ts'
import { reason } from '../errors.ts'
import type { Log } from '../log.ts'
import { backoff } from '../net/backoff.ts'
import type { Paths } from '../paths.ts'
import { diff, patch, type Change } from '../snapshot/change.ts'
import { equal } from '../snapshot/equal.ts'
import { connectPush, type PushConnection } from '../snapshot/push.ts'
import type { PushReply, Secrets, Snapshot } from '../snapshot/types.ts'
import { LastGood } from './lastgood.ts'

export const pingMs = 1000
const pingTimeoutMs = 3000
const applyTimeoutMs = 15_000
const retry = { base: 200, max: 5000 }
/** A rejected snapshot gets one more try: the worker that was asked first may have ended over something else. */
const rejectedAgainMs = 10_000

export type ProxyState = 'ok' | 'down' | 'rejected'

export interface ProxyLinkOptions {
  readonly paths: Pick<Paths, 'proxyState' | 'proxySocket'>
  readonly clock: Clock
  readonly log: Log
  /** The proxy answered: it is alive now. */
  readonly alive: () => void
  /** The state or the snapshot in force changed. */
  readonly changed: () => void
  readonly connect?: typeof connectPush
}

/** What one turn saves and pushes. */
interface Turn {
  readonly snapshot: Snapshot | null
  readonly secrets: Secrets | null
}

export class ProxyLink {
  readonly #options: ProxyLinkOptions
  #snapshot: Snapshot | null = null
  #secrets: Secrets | null = null
  /** What the proxy on the other end of this connection has. */
  #sent: { snapshot: Snapshot | null; secrets: Secrets | null } = { snapshot: null, secrets: null }
  /** `again`: when it is tried once more, monotonic; Infinity: it was. */
  #rejected: { readonly hash: string; readonly reason: string; readonly again: number } | null = null
  #state: ProxyState = 'down'
  #inForce = ''
  #connection: PushConnection | null = null
  #timer: Timer | null = null
  #failures = 0
  #stopped = false
  #turn: Promise<void> | null = null
  #again = false
  readonly #disk: LastGood

  constructor(options: ProxyLinkOptions) {
    const { clock, log, paths } = options
    this.#options = options
    this.#disk = new LastGood({ folder: paths.proxyState, clock, log })
  }

  get state(): ProxyState {
    return this.#state
  }

  /** Hash of the snapshot that the proxy says it runs; '' while it is down. */
  get inForce(): string {
    return this.#inForce
  }

  get rejection(): string | null {
    return this.#rejected === null ? null : `snapshot rejected: ${this.#rejected.reason}`
  }

  setSnapshot(snapshot: Snapshot): void {
    if (snapshot.hash === this.#snapshot?.hash) return
    this.#snapshot = snapshot
    this.#wake()
  }

  setSecrets(secrets: Secrets): void {
    this.#secrets = secrets
    this.#wake()
  }

  start(): void {
    this.#wake()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.cancel()
    this.#connection?.close()
    await this.#turn
    await this.#disk.stop()
  }

  /** Saves and pushes once, for a verb that runs while the agent is down. */
  async once(): Promise<ProxyState> {
    await this.#work()
    await this.stop()
    return this.#state
  }

  /** Refuses new connections and waits for old ones, up to the time given. Gives how many are left. Throws MSH0702. */
  async drain(timeoutMs: number): Promise<number> {
    const connection = (this.#options.connect ?? connectPush)(this.#options.paths.proxySocket)
    try {
      const reply = await connection.send({ type: 'drain', timeout: timeoutMs }, timeoutMs + 5000)
      return reply.type === 'drained' ? reply.open : 0
    } finally {
      connection.close()
    }
  }

  /** One turn at a time: save, connect, push what is new, ping; then again after a while. */
  #wake(): void {
    if (this.#stopped) return
    if (this.#turn !== null) {
      this.#again = true
      return
    }
    this.#timer?.cancel()
    this.#turn = this.#work().finally(() => {
      this.#turn = null
      if (this.#stopped) return
      if (this.#again) {
        this.#again = false
        this.#wake()
        return
      }
      const wait = this.#failures === 0 ? pingMs : backoff(retry, this.#failures - 1)
      this.#timer = this.#options.clock.after(wait, () => this.#wake())
    })
  }

  async #work(): Promise<void> {
    // Taken once: what changes meanwhile waits for the next turn, so that nothing is pushed that was not saved.
    const turn = { snapshot: this.#snapshot, secrets: this.#secrets }
    const { snapshot, secrets } = turn
    if (secrets !== null) await this.#save(() => this.#disk.putSecrets(secrets))
    // A proxy that runs gets its changes first; one that is away must find all of them when it starts.
    if (snapshot !== null && this.#sent.snapshot === null && this.#mayTry(snapshot))
      await this.#save(() => this.#disk.put(snapshot))
    try {
      await this.#push(turn)
      if (this.#failures > 0) this.#options.log.info('proxy connected')
      this.#failures = 0
    } catch (error) {
      this.#connection?.close()
      this.#connection = null
      this.#sent = { snapshot: null, secrets: null }
      if (this.#stopped) return
      if (this.#failures === 0) this.#options.log.warn({ error: reason(error) }, 'proxy away')
      this.#failures++
      this.#become('down', '')
    }
  }

  async #push({ snapshot, secrets }: Turn): Promise<void> {
    const { connect = connectPush, paths, log } = this.#options
    this.#connection ??= connect(paths.proxySocket)
    const connection = this.#connection
    // Secrets first: a snapshot may name an identity that is new.
    if (secrets !== null && this.#sent.secrets !== secrets) {
      const reply = await connection.send({ type: 'secrets', secrets }, applyTimeoutMs)
      // Sent again only when they change or the proxy comes back: it would say the same.
      this.#sent.secrets = secrets
      if (reply.type !== 'applied')
        log.error({ reason: failure(reply) }, 'the proxy refused its certificates')
    }
    if (snapshot !== null && this.#sent.snapshot?.hash !== snapshot.hash && this.#mayTry(snapshot)) {
      const reply = await this.#deliver(connection, snapshot)
      if (reply.type === 'applied') this.#applied(snapshot)
      else await this.#refused(snapshot, failure(reply))
    }
    const pong = await connection.send({ type: 'ping' }, pingTimeoutMs)
    if (pong.type !== 'pong') throw new Error(`the proxy answered a ping with ${failure(pong)}`)
    // A proxy without a snapshot must not be sent connections.
    if (pong.hash !== '') this.#options.alive()
    const current = this.#rejected !== null && this.#rejected.hash === this.#snapshot?.hash
    this.#become(current ? 'rejected' : 'ok', pong.hash)
  }

  /** Only what has changed, where the proxy has the one before and takes patches. */
  async #deliver(connection: PushConnection, snapshot: Snapshot): Promise<PushReply> {
    const base = this.#sent.snapshot
    const change = base === null ? null : changeOf(base, snapshot)
    if (base !== null && change !== null) {
      const patching = { type: 'patch', base: base.hash, hash: snapshot.hash, change } as const
      const reply = await connection.send(patching, applyTimeoutMs)
      if (reply.type === 'applied' || reply.type === 'rejected') return reply
      this.#options.log.info({ reason: failure(reply) }, 'the proxy did not take a patch and gets the whole')
    }
    await this.#save(() => this.#disk.put(snapshot))
    return connection.send({ type: 'snapshot', snapshot }, applyTimeoutMs)
  }

  #applied(snapshot: Snapshot): void {
    this.#sent.snapshot = snapshot
    this.#rejected = null
    this.#disk.accepted(snapshot)
    this.#options.log.info({ snapshot: snapshot.hash.slice(0, 12) }, 'snapshot applied')
  }

  #mayTry({ hash }: Snapshot): boolean {
    const rejected = this.#rejected
    return rejected?.hash !== hash || this.#options.clock.monotonic() >= rejected.again
  }

  async #refused(snapshot: Snapshot, why: string): Promise<void> {
    const { clock } = this.#options
    const isFirst = this.#rejected?.hash !== snapshot.hash
    const again = isFirst ? clock.monotonic() + rejectedAgainMs : Infinity
    this.#rejected = { hash: snapshot.hash, reason: why, again }
    this.#options.log.error(
      { snapshot: snapshot.hash.slice(0, 12), reason: why },
      'snapshot rejected by the proxy',
    )
    await this.#disk.rejected(snapshot)
  }

  /** A full disk must not keep the running proxy from the new state. */
  async #save(run: () => Promise<void>): Promise<void> {
    await run().catch((error: unknown) => {
      this.#options.log.error({ error: reason(error) }, "the proxy's state was not saved")
    })
  }

  #become(state: ProxyState, inForce: string): void {
    if (state === this.#state && inForce === this.#inForce) return
    this.#state = state
    this.#inForce = inForce
    this.#options.changed()
  }
}

/**
 * What makes `next` of `base`. Null: the whole must be sent, since the patch, tried here with the code that the proxy runs,
 * does not give it.
 */
function changeOf(base: Snapshot, next: Snapshot): Change | null {
  const change = diff(base, next)
  return change !== null && equal(patch(base, change), next) ? change : null
}

function failure(reply: PushReply): string {
  return 'reason' in reply ? reply.reason : reply.type
}
