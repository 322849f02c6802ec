// The proxy of one host in the test's process: a real engine behind a real push socket, booting from what lies on disk,
// as the supervisor and its workers do. What the kernel says of a captured connection is told by the port it came to.
import { systemClock } from '../../src/clock.ts'
import { reason } from '../../src/errors.ts'
import type { Log } from '../../src/log.ts'
import type { Address } from '../../src/net/addr.ts'
import { printAddress } from '../../src/net/addr.ts'
import { type Paths, ports } from '../../src/paths.ts'
import { Engine } from '../../src/proxy/engine.ts'
import { readState } from '../../src/proxy/options.ts'
import { servePush } from '../../src/proxy/push.ts'
import { Stats } from '../../src/proxy/stats.ts'
import { snapshotHash } from '../../src/snapshot/hash.ts'
import type { Push, PushReply, Secrets, Snapshot } from '../../src/snapshot/types.ts'

export class MeshProxy {
  hash = ''
  /** Why the next snapshots are refused, as a proxy of another version might; null: they are not. */
  refusal: string | null = null
  readonly #paths: Paths
  readonly #address: string
  readonly #log: Log
  readonly #engine: Engine
  readonly #destinations = new Map<number, Address>()
  readonly #captures = new Map<string, Promise<number>>()
  #push: { close(): void } | null = null
  #listening: Promise<void> | null = null

  constructor(options: { paths: Paths; address: string; log: Log; access: (lines: Buffer) => void }) {
    this.#paths = options.paths
    this.#address = options.address
    this.#log = options.log
    this.#engine = new Engine({
      clock: systemClock,
      log: options.log,
      stats: new Stats(),
      accessLog: options.access,
      originalDestination: (socket) => this.#destinations.get(socket.localPort ?? 0) ?? null,
    })
  }

  async start(): Promise<void> {
    const warn = (why: string): void => this.#log.error({ reason: why }, 'state on disk cannot be read')
    const secrets = readState<Secrets>(`${this.#paths.proxyState}/secrets.json`, warn)
    const snapshot = readState<Snapshot>(`${this.#paths.proxyState}/snapshot.json`, warn)
    if (secrets !== null) this.#engine.setSecrets(secrets)
    if (snapshot !== null) await this.#apply(snapshot)
    this.#push = await servePush(this.#paths.proxySocket, this.#log, (push) => this.#handle(push))
  }

  /** At once, as when its host loses power. */
  kill(): void {
    this.#push?.close()
    this.#engine.close()
  }

  /** The port at which connections count as captured: made by the n-th local identity to this destination. */
  async capture(identity: number, destination: Address): Promise<number> {
    const key = `${identity} ${printAddress(destination.address, destination.port)}`
    let listening = this.#captures.get(key)
    if (listening === undefined) {
      const on = { host: '127.0.0.1', port: 0 }
      const capturePort = identity === 0 ? ports.outbound : ports.identity + identity
      listening = this.#engine.listenOutbound(on, capturePort).then(({ port }) => {
        this.#destinations.set(port, destination)
        return port
      })
      this.#captures.set(key, listening)
    }
    return await listening
  }

  async #apply(snapshot: Snapshot): Promise<void> {
    if (snapshotHash(snapshot) !== snapshot.hash) throw new Error('the hash does not match the content')
    this.#engine.apply(snapshot)
    this.#listening ??= this.#engine
      .listenLink({ host: this.#address, port: ports.link })
      .then(() => undefined)
    await this.#listening
    this.hash = snapshot.hash
  }

  async #handle(push: Push): Promise<PushReply> {
    switch (push.type) {
      case 'snapshot': {
        const { hash } = push.snapshot
        if (this.refusal !== null) return { type: 'rejected', hash, reason: this.refusal }
        try {
          await this.#apply(push.snapshot)
          return { type: 'applied', hash }
        } catch (error) {
          return { type: 'rejected', hash, reason: reason(error) }
        }
      }
      case 'patch': {
        if (push.base !== this.hash) return { type: 'mismatch', hash: this.hash }
        if (this.refusal !== null) return { type: 'rejected', hash: push.hash, reason: this.refusal }
        try {
          this.#engine.change(push.base, push.change)
          this.hash = push.hash
          return { type: 'applied', hash: push.hash }
        } catch (error) {
          return { type: 'rejected', hash: push.hash, reason: reason(error) }
        }
      }
      case 'secrets':
        this.#engine.setSecrets(push.secrets)
        return { type: 'applied', hash: this.hash }
      case 'ping':
        return { type: 'pong', hash: this.hash, workers: 1, version: 'test' }
      case 'stats':
        return { type: 'stats', text: '', endpoints: this.#engine.endpoints() }
      case 'drain':
        return { type: 'drained', open: await this.#engine.drain(push.timeout) }
    }
  }
}
