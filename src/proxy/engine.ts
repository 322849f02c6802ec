// The data plane of one worker: listeners, the one pointer to the linked snapshot, secrets, drain. Knows no process,
// file or signal; `worker.ts` does.
import net from 'node:net'
import type tls from 'node:tls'
import { MeshError, reason } from '../errors.ts'
import type { Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import type { Address } from '../net/addr.ts'
import { nobody } from '../net/channel.ts'
import type { Accepted, Ends } from '../net/channel.ts'
import { Connection } from '../net/connection.ts'
import { acceptHandles } from '../net/incoming.ts'
import { Wheel } from '../net/wheel.ts'
import { patch } from '../snapshot/change.ts'
import type { Change } from '../snapshot/change.ts'
import type { EndpointHealth, Secrets, Snapshot } from '../snapshot/types.ts'
import type { Core } from './core.ts'
import { Recorders } from './filter/metrics.ts'
import { Keep } from './keep.ts'
import { Lines } from './lines.ts'
import type { Sink } from './lines.ts'
import { link } from './link.ts'
import { Guests } from './listener/guests.ts'
import { acceptInbound } from './listener/inbound.ts'
import { acceptOutbound } from './listener/outbound.ts'
import { linkServer } from './listener/secure.ts'
import { SecretStore } from './secret.ts'
import type { Stats } from './stats.ts'

export interface EngineOptions {
  readonly clock: Clock
  readonly log: Log
  readonly stats: Stats
  readonly accessLog: Sink
  /** Where a captured connection was meant to go; null: it was not captured. See listener/origdst.ts. */
  readonly originalDestination: (socket: Ends) => Address | null
  /** A connection was taken from a listening socket. */
  readonly onTaken?: () => void
}

/** A bound or inherited socket, or an address to bind. */
export type ListenOn = { readonly fd: number } | { readonly host: string; readonly port: number }

export interface Listening {
  readonly port: number
}

/** How often a drain looks whether all is over. Milliseconds. */
const drainEvery = 50
/** A link that was idle for so long is closed at the start of a drain; a busier one ends with its next response. */
const drainIdle = 500
/** For so long a drain without guests waits for connections that are in their handshake. */
const handshakeMs = 1000

export class Engine {
  readonly #options: EngineOptions
  readonly #core: Core
  readonly #keep: Keep
  readonly #guests: Guests
  readonly #servers: (net.Server | tls.Server)[]
  /** Servers that accept no more and have connections left. */
  #closing: number
  /** When a drain gives up, monotonic. */
  #drainEnd: number

  constructor(options: EngineOptions) {
    this.#options = options
    this.#keep = new Keep()
    this.#guests = new Guests()
    this.#servers = []
    this.#closing = 0
    this.#drainEnd = Infinity
    const wheel = new Wheel(options.clock)
    this.#core = {
      clock: options.clock,
      wheel,
      log: options.log,
      recorders: new Recorders(options.stats),
      accessLog: new Lines(wheel, options.accessLog),
      secrets: new SecretStore(),
      learned: new Map(),
      live: null,
      draining: false,
    }
  }

  /** Links and swaps. Throws MSH0701 with the reason; then the old generation stays as it was. */
  apply(snapshot: Snapshot): void {
    const { live } = this.#core
    if (live?.snapshot.hash === snapshot.hash) return
    const linked = refusing(() => link(this.#core, this.#keep, snapshot, live))
    linked.adopt()
    this.#core.live = linked.live
  }

  /** The same for what has changed since the snapshot of the hash `base`; what has not is not looked at. */
  change(base: string, change: Change): void {
    const snapshot = this.#core.live?.snapshot
    if (snapshot?.hash !== base) throw new MeshError('MSH0701', `${base} is not the snapshot in force`)
    this.apply(refusing(() => patch(snapshot, change)))
  }

  /** Swapped in place: standing connections are kept. Throws MSH0704; then the old secrets stay. */
  setSecrets(secrets: Secrets): void {
    this.#core.secrets.set(secrets)
  }

  /** `capturePort`: the identity's port in the snapshot, where it is not the bound one. */
  async listenOutbound(on: ListenOn, capturePort?: number): Promise<Listening> {
    let port = capturePort ?? 0
    const listening = await this.#listenPlain(on, (connection) => {
      const original = this.#options.originalDestination(connection.socket)
      acceptOutbound(this.#core, this.#guests, connection, original, port)
    })
    if (capturePort === undefined) port = listening.port
    return listening
  }

  async listenInbound(on: ListenOn): Promise<Listening> {
    return this.#listenPlain(on, (connection) => {
      const original = this.#options.originalDestination(connection.socket)
      acceptInbound(this.#core, this.#guests, connection, original)
    })
  }

  async listenLink(on: ListenOn): Promise<Listening> {
    return this.#listen(linkServer(this.#core, this.#guests), on)
  }

  /**
   * Accepts no more, lets what runs finish, closes what is idle for `idleMs`, gives up at the deadline, which a second call
   * can bring forward. Resolves with what was still open then.
   */
  async drain(timeoutMs: number, idleMs: number = drainIdle): Promise<number> {
    const core = this.#core
    core.draining = true
    this.#stopAccepting()
    core.accessLog.flush()
    this.#drainEnd = Math.min(this.#drainEnd, core.clock.monotonic() + timeoutMs)
    let since = core.clock.monotonic()
    return new Promise((resolve) => {
      const look = (): boolean => {
        this.#guests.drain(idleMs)
        const open = this.#guests.size
        const now = core.clock.monotonic()
        if (open > 0) since = now
        // A connection in its handshake is no guest yet, but its server knows of it.
        const isOver = open === 0 && (this.#closing === 0 || now - since >= handshakeMs)
        if (!isOver && now < this.#drainEnd) return false
        core.accessLog.flush()
        resolve(open)
        return true
      }
      if (look()) return
      const timer = core.clock.every(drainEvery, () => {
        if (look()) timer.cancel()
      })
    })
  }

  /** Ends everything at once. */
  close(): void {
    this.#stopAccepting()
    this.#guests.destroy()
    this.#keep.close()
    this.#core.accessLog.flush()
    this.#core.wheel.close()
  }

  endpoints(): EndpointHealth[] {
    return this.#keep.health()
  }

  async #listenPlain(on: ListenOn, accept: (connection: Accepted) => void): Promise<Listening> {
    const server = net.createServer(
      { allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 },
      (socket) => accept(new Connection(socket, nobody, null)),
    )
    const listening = await this.#listen(server, on)
    const { onTaken } = this.#options
    acceptHandles(server, (connection) => {
      accept(connection)
      onTaken?.()
    })
    return listening
  }

  #listen(server: net.Server | tls.Server, on: ListenOn): Promise<Listening> {
    return new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen({ ...on, backlog: 4096 }, () => {
        server.off('error', reject)
        server.on('error', (error) => this.#core.log.error({ reason: error.message }, 'a listener failed'))
        this.#servers.push(server)
        if (this.#options.onTaken !== undefined) server.on('connection', this.#options.onTaken)
        const address = server.address()
        resolve({ port: address !== null && typeof address === 'object' ? address.port : 0 })
      })
    })
  }

  #stopAccepting(): void {
    for (const server of this.#servers.splice(0)) {
      this.#closing++
      server.close(() => this.#closing--)
    }
  }
}

/** Whatever cannot be linked is refused, for whatever reason. */
function refusing<T>(run: () => T): T {
  try {
    return run()
  } catch (error) {
    if (error instanceof MeshError) throw error
    throw new MeshError('MSH0701', reason(error), { cause: error })
  }
}
