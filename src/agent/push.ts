// The agent's hold on the proxy: last good state on its disk, snapshots and secrets over its socket, pings.
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { open, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock, Timer } from '../clock.ts'
import { reason } from '../errors.ts'
import type { Log } from '../log.ts'
import { backoff } from '../net/backoff.ts'
import type { Paths } from '../paths.ts'
import { connectPush, type PushConnection } from '../snapshot/push.ts'
import type { PushReply, Secrets, Snapshot } from '../snapshot/types.ts'

export const pingMs = 1000
const pingTimeoutMs = 3000
const applyTimeoutMs = 15_000
const retry = { base: 200, max: 5000 }

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
  #sent: { snapshot: string | null; secrets: Secrets | null } = { snapshot: null, secrets: null }
  #rejected: { readonly hash: string; readonly reason: string } | null = null
  /** Content of snapshot.json that the proxy accepted, put back when it rejects the next. */
  #good: string | null = null
  #state: ProxyState = 'down'
  #inForce = ''
  #connection: PushConnection | null = null
  #timer: Timer | null = null
  #failures = 0
  #stopped = false
  #turn: Promise<void> | null = null
  #again = false
  #saved = { snapshot: '', secrets: '' }

  constructor(options: ProxyLinkOptions) {
    this.#options = options
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
    try {
      await this.#save(turn)
    } catch (error) {
      // A full disk must not keep the running proxy from the new state.
      this.#options.log.error({ error: reason(error) }, "the proxy's state was not saved")
    }
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
    if (
      snapshot !== null &&
      this.#sent.snapshot !== snapshot.hash &&
      this.#rejected?.hash !== snapshot.hash
    ) {
      const reply = await connection.send({ type: 'snapshot', snapshot }, applyTimeoutMs)
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

  #applied(snapshot: Snapshot): void {
    this.#sent.snapshot = snapshot.hash
    this.#rejected = null
    this.#good = JSON.stringify(snapshot)
    this.#options.log.info({ snapshot: snapshot.hash.slice(0, 12) }, 'snapshot applied')
  }

  /** The proxy goes on with the one before; so must the one that boots from disk. */
  async #refused(snapshot: Snapshot, why: string): Promise<void> {
    this.#rejected = { hash: snapshot.hash, reason: why }
    this.#options.log.error(
      { snapshot: snapshot.hash.slice(0, 12), reason: why },
      'snapshot rejected by the proxy',
    )
    if (this.#good === null) return
    await this.#write('snapshot.json', this.#good)
    this.#saved.snapshot = this.#good
  }

  #become(state: ProxyState, inForce: string): void {
    if (state === this.#state && inForce === this.#inForce) return
    this.#state = state
    this.#inForce = inForce
    this.#options.changed()
  }

  /** Before pushing, so that a proxy that starts at any moment finds what it needs. */
  async #save({ snapshot, secrets }: Turn): Promise<void> {
    const { paths } = this.#options
    if (this.#good === null) {
      this.#good = await readForeign(join(paths.proxyState, 'snapshot.json')).catch(() => null)
    }
    if (secrets !== null) {
      const text = JSON.stringify(secrets)
      if (text !== this.#saved.secrets) await this.#write('secrets.json', text)
      this.#saved.secrets = text
    }
    if (snapshot !== null && this.#rejected?.hash !== snapshot.hash) {
      const text = JSON.stringify(snapshot)
      if (text !== this.#saved.snapshot) await this.#write('snapshot.json', text)
      this.#saved.snapshot = text
    }
  }

  /**
   * Atomic, 0600, owned by whoever owns the folder: the proxy's user. The folder is that user's, so nothing in it is
   * trusted: the new file is made exclusively (which follows no links) and then takes the old one's place.
   */
  async #write(name: string, text: string): Promise<void> {
    const folder = this.#options.paths.proxyState
    const { uid, gid } = await stat(folder)
    const temporary = join(folder, `.${name}.${randomBytes(6).toString('hex')}`)
    const file = await open(temporary, 'wx', 0o600)
    try {
      await file.writeFile(text)
      if (process.getuid?.() === 0) await file.chown(uid, gid)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, join(folder, name)).catch(async (error: unknown) => {
      await rm(temporary, { force: true })
      throw error
    })
  }
}

/**
 * A file of the proxy's folder. What it says may be put back later, readable by the proxy's user: were it a link, that
 * user would be given any file of root's. A pipe would never end.
 */
async function readForeign(path: string): Promise<string | null> {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants
  const file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  try {
    const found = await file.stat()
    return found.isFile() && found.nlink === 1 ? await file.readFile('utf8') : null
  } finally {
    await file.close()
  }
}

function failure(reply: PushReply): string {
  return 'reason' in reply ? reply.reason : reply.type
}
