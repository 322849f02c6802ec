// An agent with everything around it in one process: the real embedded registry, a proxy that takes pushes on a real
// socket, a signer, a host on which nothing happens.
import { once } from 'node:events'
import { createServer, type AddressInfo, type Server } from 'node:net'
import { Agent, type AgentOptions } from '../../src/agent/agent.ts'
import { systemClock } from '../../src/clock.ts'
import { FakeHost } from '../../src/host/fake.ts'
import type { HostConfig } from '../../src/model/host.ts'
import { servePush } from '../../src/proxy/push.ts'
import { connectRegistry } from '../../src/registry/client.ts'
import { type Embedded, startEmbedded } from '../../src/registry/embedded/server.ts'
import { patch } from '../../src/snapshot/change.ts'
import { snapshotHash } from '../../src/snapshot/hash.ts'
import type { Registry } from '../../src/registry/registry.ts'
import type { Push, Secrets, Snapshot } from '../../src/snapshot/types.ts'
import { hostConfig } from '../compile/mesh.ts'
import { Authority } from '../pki/authority.ts'
import { FakeSigner, furnish, makePlace, type Place, silent } from './place.ts'

export const managementToken = 'management-token-of-the-test'

export async function until<T>(
  what: string,
  look: () => T | Promise<T>,
  timeoutMs: number = 30_000,
): Promise<NonNullable<T>> {
  const end = performance.now() + timeoutMs
  for (;;) {
    const found = await look()
    if (found !== null && found !== undefined && found !== false) return found as NonNullable<T>
    if (performance.now() > end) throw new Error(`did not happen in time: ${what}`)
    await new Promise((done) => void setTimeout(done, 10))
  }
}

/** What stands in for the proxy: keeps what it is given. */
export class ProxyStub {
  snapshots: Snapshot[] = []
  secrets: Secrets[] = []
  pings = 0
  drained: number[] = []
  /** How many of the snapshots came as what had changed. */
  patches = 0
  refuse: (snapshot: Snapshot) => string | null = () => null
  #server: { close(): void } | null = null

  async start(path: string): Promise<void> {
    this.#server = await servePush(path, silent, async (push: Push) => this.#handle(push))
  }

  stop(): void {
    this.#server?.close()
    this.#server = null
  }

  get hash(): string {
    return this.snapshots.at(-1)?.hash ?? ''
  }

  #handle(push: Push): Awaited<ReturnType<Parameters<typeof servePush>[2]>> {
    switch (push.type) {
      case 'snapshot': {
        const reason = this.refuse(push.snapshot)
        if (reason !== null) return { type: 'rejected', hash: push.snapshot.hash, reason }
        this.snapshots.push(push.snapshot)
        return { type: 'applied', hash: push.snapshot.hash }
      }
      case 'patch': {
        const { base, hash, change } = push
        const before = this.snapshots.at(-1)
        if (before?.hash !== base) return { type: 'mismatch', hash: this.hash }
        const snapshot = patch(before, change)
        if (snapshot.hash !== hash || snapshotHash(snapshot) !== hash)
          return { type: 'rejected', hash, reason: 'the patch gives something else' }
        const reason = this.refuse(snapshot)
        if (reason !== null) return { type: 'rejected', hash, reason }
        this.snapshots.push(snapshot)
        this.patches++
        return { type: 'applied', hash }
      }
      case 'secrets':
        this.secrets.push(push.secrets)
        return { type: 'applied', hash: '' }
      case 'ping':
        this.pings++
        return { type: 'pong', hash: this.hash, workers: 1, version: 'test' }
      case 'stats':
        return { type: 'stats', text: '', endpoints: [] }
      case 'drain':
        this.drained.push(push.timeout)
        return { type: 'drained', open: 0 }
    }
  }
}

export class World {
  readonly place: Place = makePlace()
  readonly authority = new Authority('demo.mesh')
  readonly signer = new FakeSigner(this.authority)
  readonly proxy = new ProxyStub()
  readonly host: FakeHost
  embedded: Embedded | null = null
  /** Root of the registry, for what other hosts and people do. */
  registry: Registry
  config: HostConfig
  agent: Agent | null = null
  readonly #servers: Server[] = []
  readonly #folders: Place[] = []
  readonly #dbPath: string

  private constructor(embedded: Embedded, dbPath: string, token: string, config: Partial<HostConfig>) {
    this.embedded = embedded
    this.#dbPath = dbPath
    const url = `http://127.0.0.1:${embedded.port}`
    this.registry = connectRegistry({ url, token: managementToken, ca: null, spiffe: null, localAgent: null })
    this.config = hostConfig({
      registry: { url, token, ca: null, spiffe: null, localAgent: null },
      signers: ['https://control:15012'],
      capture: { outbound: 'off', inbound: false, excludePorts: [], excludeCidrs: [] },
      dns: 'resolved',
      ...config,
    })
    this.host = new FakeHost('vm1')
  }

  static async make(config: Partial<HostConfig> = {}): Promise<World> {
    const folder = makePlace()
    const dbPath = `${folder.paths.state}/registry.sqlite`
    const embedded = await serve(dbPath, 0)
    const token = await embedded.createToken({ host: 'vm1', mesh: 'demo' })
    const world = new World(embedded, dbPath, token, config)
    world.#folders.push(folder)
    return world
  }

  /** The services of the host, with their certificates. */
  async declare(services: HostConfig['services']): Promise<void> {
    this.config = { ...this.config, services }
    await furnish(this.place.paths, this.authority, 'vm1', services)
  }

  async start(over: Partial<AgentOptions> = {}): Promise<Agent> {
    this.agent = new Agent({
      config: this.config,
      paths: this.place.paths,
      host: this.host,
      clock: systemClock,
      log: silent,
      connectSigner: this.signer.connect,
      dnsListen: [{ address: '127.0.0.1', port: 0 }],
      ...over,
    })
    await this.agent.start()
    return this.agent
  }

  async stopRegistry(): Promise<void> {
    await this.embedded?.close()
    this.embedded = null
  }

  /** On the same port, with the same data. */
  async startRegistry(): Promise<void> {
    this.embedded = await serve(this.#dbPath, Number(new URL(this.config.registry.url).port))
  }

  /** A TCP server that stands for an application; gives its port. */
  async app(): Promise<{ port: number; server: Server }> {
    const server = createServer((socket) => socket.destroy())
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    this.#servers.push(server)
    return { port: (server.address() as AddressInfo).port, server }
  }

  async end(): Promise<void> {
    await this.agent?.stop()
    this.proxy.stop()
    this.registry.close()
    await this.embedded?.close()
    for (const server of this.#servers) server.close()
    for (const folder of [this.place, ...this.#folders]) folder.remove()
  }
}

/** Address as in `hostConfig`. */
const entitlement = { address: hostConfig().address, services: [{ name: 'web', namespace: 'default' }] }

async function serve(dbPath: string, port: number): Promise<Embedded> {
  return await startEmbedded({
    dbPath,
    host: '127.0.0.1',
    port,
    managementToken,
    entitlementOf: () => entitlement,
    log: silent,
    clock: systemClock,
  })
}
