// Two hops in one process: engines with real sockets and real certificates, one for the caller and one per instance of
// `web`. Only the kernel's redirection is missing: the original destination is given by hand.
import net from 'node:net'
import type { TestContext } from 'node:test'
import { systemClock } from '../../src/clock.ts'
import type { Clock } from '../../src/clock.ts'
import { makeLog } from '../../src/log.ts'
import { readCertificate } from '../../src/pki/cert.ts'
import { makeIssuing, makeLeaf, makeRoot } from '../../src/pki/issue.ts'
import type { Issuer } from '../../src/pki/issue.ts'
import { keyPem, makeKey, publicOf } from '../../src/pki/key.ts'
import { Engine } from '../../src/proxy/engine.ts'
import { Stats } from '../../src/proxy/stats.ts'
import { isOpaque, serverName } from '../../src/snapshot/types.ts'
import type {
  Cluster,
  Endpoint,
  Identity,
  InboundService,
  OutboundPort,
  Protocol,
  Route,
  Secrets,
  Settings,
  Snapshot,
} from '../../src/snapshot/types.ts'

export const trustDomain = 'mesh.test'
export const webId = `spiffe://${trustDomain}/ns/default/sa/web`
export const shopId = `spiffe://${trustDomain}/ns/default/sa/shop`
export const vip = '240.240.1.1'

export class Authority {
  readonly roots: string
  readonly #issuer: Issuer
  readonly #chain: string

  constructor(domain: string = trustDomain) {
    const now = Date.now()
    const rootKey = makeKey()
    this.roots = makeRoot({ key: rootKey, trustDomain: domain, now })
    const key = makeKey()
    this.#chain = makeIssuing({
      root: { certificate: readCertificate(this.roots), key: rootKey },
      publicKey: publicOf(key),
      trustDomain: domain,
      now,
    })
    this.#issuer = { certificate: readCertificate(this.#chain), key }
  }

  leaf(spiffe: string, options: { now?: number; lifeSeconds?: number } = {}): { chain: string; key: string } {
    const key = makeKey()
    const now = options.now ?? Date.now()
    const lifeSeconds = options.lifeSeconds ?? 3600
    const leaf = makeLeaf({ issuer: this.#issuer, publicKey: publicOf(key), spiffe, now, lifeSeconds })
    return { chain: leaf + this.#chain, key: keyPem(key) }
  }

  secrets(...spiffes: string[]): Secrets {
    return {
      roots: this.roots,
      leafs: spiffes.map((spiffe) => ({ spiffe, ...this.leaf(spiffe), notAfter: Date.now() + 3_600_000 })),
    }
  }
}

export const settings: Settings = {
  maxHeadBytes: 16_384,
  maxHeaders: 100,
  headTimeout: 5000,
  idleTimeout: 60_000,
  drainTimeout: 1000,
  accessLog: true,
  unknownDestinations: 'refuse',
}

let generation = 0

export function snapshotOf(parts: Partial<Snapshot>): Snapshot {
  return {
    schema: 1,
    hash: String(++generation),
    host: 'vm1',
    mesh: 'test',
    trustDomain,
    identities: [hostIdentity],
    inbound: [],
    outbound: [],
    clusters: [],
    settings,
    ...parts,
  }
}

const hostIdentity: Identity = {
  spiffe: `spiffe://${trustDomain}/host/vm1`,
  service: 'vm1',
  namespace: '',
  version: '',
  capturePort: 15001,
}

const shop: Identity = {
  spiffe: shopId,
  service: 'shop',
  namespace: 'default',
  version: 'v1',
  capturePort: 15101,
}

export interface Line {
  readonly reporter: string
  readonly protocol: string
  readonly method: string
  readonly path: string
  readonly status: number
  readonly grpc_status?: number
  readonly flags: string
  readonly reason?: string
  readonly detail?: string
  readonly client?: string
  readonly source: string
  readonly destination: string
  readonly version: string
  readonly upstream: string
  readonly mtls: boolean
  readonly upstream_mtls: boolean
  readonly bytes_in: number
  readonly bytes_out: number
  readonly tries: number
  readonly request_id: string
  readonly user_agent: string
}

export class Node {
  readonly engine: Engine
  readonly stats: Stats
  readonly lines: Line[]
  /** What the kernel would say; null: not redirected. */
  destination: { address: string; port: number } | null

  constructor(t: TestContext, clock: Clock = systemClock) {
    this.stats = new Stats()
    this.lines = []
    this.destination = null
    this.engine = new Engine({
      clock,
      log: makeLog('test', process.env['MESHCTL_LOG'] ?? 'silent'),
      stats: this.stats,
      accessLog: (lines) =>
        this.lines.push(
          ...lines
            .toString()
            .trim()
            .split('\n')
            .map((line) => JSON.parse(line) as Line),
        ),
      originalDestination: () => this.destination,
    })
    t.after(() => this.engine.close())
  }

  metrics(): string {
    return Stats.text(this.stats.dump())
  }
}

export interface InstanceOptions {
  readonly version?: string
  readonly protocol?: Protocol
  readonly mtls?: 'permissive' | 'strict'
  readonly proxyProtocol?: { readonly accept: boolean; readonly send: boolean }
  readonly spiffe?: string
  readonly secrets?: Secrets
  readonly settings?: Partial<Settings>
  readonly clock?: Clock
}

/** One host with one instance of `web`. */
export class Instance extends Node {
  readonly appPort: number
  linkPort: number
  /** Plain inbound capture. */
  inboundPort: number
  readonly options: InstanceOptions

  constructor(t: TestContext, appPort: number, options: InstanceOptions) {
    super(t, options.clock)
    this.appPort = appPort
    this.linkPort = 0
    this.inboundPort = 0
    this.options = options
  }

  async start(authority: Authority): Promise<this> {
    const spiffe = this.options.spiffe ?? webId
    this.engine.setSecrets(this.options.secrets ?? authority.secrets(spiffe))
    this.engine.apply(this.snapshot())
    this.linkPort = (await this.engine.listenLink({ host: '127.0.0.1', port: 0 })).port
    this.inboundPort = (await this.engine.listenInbound({ host: '127.0.0.1', port: 0 })).port
    this.destination = { address: '127.0.0.1', port: this.appPort }
    return this
  }

  snapshot(): Snapshot {
    const identity: Identity = {
      spiffe: this.options.spiffe ?? webId,
      service: 'web',
      namespace: 'default',
      version: this.options.version ?? 'v1',
      capturePort: 15101,
    }
    const inbound: InboundService = {
      service: 'web',
      namespace: 'default',
      version: identity.version,
      identity: 1,
      serverName: serverName('web', 'default', 8080),
      port: this.appPort,
      address: '127.0.0.1',
      protocol: this.options.protocol ?? 'http',
      mtls: this.options.mtls ?? 'permissive',
      ...(this.options.proxyProtocol === undefined ? {} : { proxyProtocol: this.options.proxyProtocol }),
    }
    return snapshotOf({
      identities: [hostIdentity, identity],
      inbound: [inbound],
      settings: { ...settings, ...this.options.settings },
    })
  }

  endpoint(): Endpoint {
    return {
      address: '127.0.0.1',
      port: this.appPort,
      host: `vm-${this.appPort}`,
      version: this.options.version ?? 'v1',
      weight: 1,
      via: 'link',
      linkPort: this.linkPort,
    }
  }
}

export interface Calls {
  readonly protocol?: Protocol
  /** Endpoints per subset, with the weight of the subset. */
  readonly subsets: readonly {
    readonly name: string
    readonly weight: number
    readonly endpoints: readonly Endpoint[]
  }[]
  readonly cluster?: Partial<Cluster>
  readonly route?: Partial<Route>
  readonly routes?: (clusters: readonly Cluster[]) => Route[]
  /** Server names, in order, and the index of the subset that takes them. */
  readonly tlsRoutes?: readonly { readonly sniHosts: readonly string[]; readonly subset: number }[]
  readonly settings?: Partial<Settings>
  readonly spiffe?: string
}

/** The caller's host: service `shop` calls `web` on 8080. */
export class Caller extends Node {
  port = 0

  async start(authority: Authority, calls: Calls, secrets?: Secrets): Promise<this> {
    this.engine.setSecrets(secrets ?? authority.secrets(shopId))
    this.apply(calls)
    this.port = (await this.engine.listenOutbound({ host: '127.0.0.1', port: 0 }, shop.capturePort)).port
    this.destination = { address: vip, port: 8080 }
    return this
  }

  apply(calls: Calls): void {
    this.engine.apply(callerSnapshot(calls))
  }
}

export function callerSnapshot(calls: Calls): Snapshot {
  const clusters = calls.subsets.map((subset): Cluster => ({
    name: `outbound|8080|${subset.name}|web.default.mesh`,
    service: 'web',
    namespace: 'default',
    subset: subset.name,
    spiffe: calls.spiffe ?? webId,
    serverName: serverName('web', 'default', 8080),
    balancer: 'least-request',
    connectTimeout: 1000,
    maxConnections: 0,
    maxPending: 1024,
    outlier: { consecutiveErrors: 0, baseEjection: 30_000, maxEjectionPercent: 100 },
    endpoints: subset.endpoints,
    ...calls.cluster,
  }))
  const weighted = calls.subsets.map(({ weight }, cluster) => ({ cluster, weight }))
  const route: Route = {
    name: 'default',
    matches: [],
    clusters: weighted,
    timeout: 0,
    retry: {
      attempts: 2,
      perTryTimeout: 0,
      on: ['connect-failure', 'refused-stream', 'unavailable', 'retriable-status-codes', 'reset'],
      statuses: [503],
      methods: ['GET', 'HEAD', 'OPTIONS', 'TRACE'],
    },
    ...calls.route,
  }
  const protocol = calls.protocol ?? 'http'
  const port: OutboundPort = {
    port: 8080,
    protocol,
    instances: [],
    routes: isOpaque(protocol) ? [] : (calls.routes?.(clusters) ?? [route]),
    ...(calls.tlsRoutes === undefined
      ? {}
      : {
          tlsRoutes: calls.tlsRoutes.map(({ sniHosts, subset }) => ({
            sniHosts,
            clusters: [{ cluster: subset, weight: 1 }],
          })),
        }),
    tcp: protocol === 'tls' && calls.tlsRoutes !== undefined ? [] : weighted,
  }
  return snapshotOf({
    identities: [hostIdentity, shop],
    clusters,
    outbound: [{ service: 'web', namespace: 'default', fqdn: 'web.default.mesh', vip, ports: [port] }],
    settings: { ...settings, ...calls.settings },
  })
}

/** A server on a free port that ends with the test. */
export async function listen(t: TestContext, server: net.Server): Promise<number> {
  const sockets = new Set<net.Socket>()
  server.on('connection', (socket: net.Socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return (server.address() as net.AddressInfo).port
}

/** A raw client that collects what comes. */
export class Client {
  readonly socket: net.Socket
  received = Buffer.alloc(0)
  isEnded = false
  isClosed = false
  #waiting: (() => void)[] = []

  constructor(t: TestContext, port: number, localAddress: string = '127.0.0.1') {
    this.socket = net.connect({ port, host: '127.0.0.1', localAddress, allowHalfOpen: true })
    this.socket.on('error', () => {})
    this.socket.on('data', (chunk: Buffer) => {
      this.received = Buffer.concat([this.received, chunk])
      this.#wake()
    })
    this.socket.on('end', () => {
      this.isEnded = true
      this.#wake()
    })
    this.socket.on('close', () => {
      this.isClosed = true
      this.#wake()
    })
    t.after(() => this.socket.destroy())
  }

  get text(): string {
    return this.received.toString('latin1')
  }

  send(text: string | Buffer): this {
    this.socket.write(typeof text === 'string' ? Buffer.from(text, 'latin1') : text)
    return this
  }

  /** Waits until `done` holds; fails after half a minute with what came. */
  async until(done: (client: Client) => boolean, what: string): Promise<this> {
    const end = Date.now() + 30_000
    while (!done(this)) {
      const left = end - Date.now()
      if (left <= 0)
        throw new Error(`timed out waiting for ${what}; got ${JSON.stringify(this.text.slice(0, 500))}`)
      const timer = Promise.withResolvers<void>()
      const handle = setTimeout(timer.resolve, left)
      this.#waiting.push(timer.resolve)
      await timer.promise
      clearTimeout(handle)
    }
    return this
  }

  async untilText(text: string): Promise<this> {
    return this.until((client) => client.text.includes(text), JSON.stringify(text))
  }

  async untilClosed(): Promise<this> {
    return this.until((client) => client.isEnded || client.isClosed, 'the end')
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve()
  }
}

/** Waits until a number has stood still for a tenth of a second. */
export async function still(read: () => number, what: string): Promise<number> {
  let last = read()
  let since = performance.now()
  await eventually(() => {
    const now = read()
    if (now !== last) {
      last = now
      since = performance.now()
    }
    return now > 0 && performance.now() - since > 100
  }, what)
  return last
}

/** Waits for a condition that no event tells. */
export async function eventually(done: () => boolean, what: string, ms: number = 30_000): Promise<void> {
  const end = Date.now() + ms
  while (!done()) {
    if (Date.now() > end) throw new Error(`timed out waiting for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
