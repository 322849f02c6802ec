// The embedded registry: the part of the Consul HTTP API that meshctl needs, on one SQLite file, inside `meshctl
// control`. What it does not have it refuses by name.
import { createServer } from 'node:http'
import type { Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { Server as TlsServer } from 'node:https'
import type { Socket } from 'node:net'
import type { SecureVersion } from 'node:tls'
import type { Clock } from '../../clock.ts'
import { MeshError, reason } from '../../errors.ts'
import type { Log } from '../../log.ts'
import { defaultNamespace } from '../../model/name.ts'
import { metaKeys } from '../../model/service.ts'
import { Strangers } from '../../net/strangers.ts'
import { Access, speaksFor } from './access.ts'
import type { EntitlementOf } from './access.ts'
import { LocalAgent } from './agent.ts'
import { catalogRoutes } from './catalog.ts'
import { Catalogue } from './catalogue.ts'
import { Database } from './database.ts'
import { healthRoutes } from './health.ts'
import { handler } from './http.ts'
import { KeyValue } from './keyvalue.ts'
import { kvRoutes } from './kv.ts'
import { Places } from './places.ts'
import { nodeCheckId, sessionRoutes } from './session.ts'
import { Sessions } from './sessions.ts'
import { statusRoutes } from './status.ts'
import { txnRoutes } from './txn.ts'
import { Waits } from './waits.ts'

export interface EmbeddedTls {
  readonly cert: string | Buffer
  readonly key: string | Buffer
  /** Default TLSv1.3. */
  readonly minVersion?: SecureVersion
}

export interface EmbeddedOptions {
  /** The SQLite file; `:memory:` in tests. Its folder must exist. */
  readonly dbPath: string
  readonly host: string
  readonly port: number
  /** Without it plain HTTP is spoken: for loopback only. */
  readonly tls?: EmbeddedTls
  readonly managementToken: string
  /** Which services a host may register, and at which address; asked at every write of a host's token. */
  readonly entitlementOf: EntitlementOf
  readonly log: Log
  readonly clock: Clock
  /** Names by which clients call this server, besides addresses, localhost and the machine's own name. */
  readonly names?: readonly string[]
  /** This server's own node in the catalogue; by default a name that no joined host has. */
  readonly nodeName?: string
  /** Consul's session_ttl_min; default 10 s. */
  readonly minSessionTtlMs?: number
  /** How long a client may take to send its request; default 15 s. */
  readonly requestTimeoutMs?: number
  /** Connections of one address on which no token was shown; default 1024. */
  readonly maxStrangers?: number
  /** Connections that the tokens of one host have open; default 2048. */
  readonly maxPerHost?: number
}

export interface Embedded {
  readonly port: number
  /** How many blocking queries wait. */
  readonly waiting: () => number
  close(): Promise<void>
  setTls(tls: EmbeddedTls): void
  /** A token for a host: it reads its mesh's state and writes its own. Only its hash is stored. */
  createToken(of: { readonly host: string; readonly mesh: string }): Promise<string>
  revokeToken(host: string): Promise<void>
  /** Takes out of the catalogue what the host registered while it was entitled to more. */
  prune(host: string): Promise<void>
}

const maxConnections = 8192
/** Of one address: above what a host opens at once after a restart, which is one query per service. */
const maxStrangers = 1024
/** Of one host: a query per service, and what it writes. */
const maxPerHost = 2048

export async function startEmbedded(options: EmbeddedOptions): Promise<Embedded> {
  const { clock, log } = options
  const nodeName = options.nodeName ?? 'meshctl-registry'
  const db = open(options.dbPath)
  const failed = (error: unknown): void => log.error({ error: reason(error) }, 'registry write failed')

  const access = new Access(db, options.managementToken, options.entitlementOf)
  const waits = new Waits(clock)
  db.committed((topics) => waits.wake(topics))
  const catalogue = new Catalogue(db)
  const kv = new KeyValue(db, clock)
  const sessions = new Sessions(db, kv, catalogue, clock, failed)
  const agent = new LocalAgent(db, catalogue, clock, nodeName, failed)
  const server = makeServer(options)
  const address = (): string =>
    `${options.host.includes(':') ? `[${options.host}]` : options.host}:${portOf(server)}`
  const routes = [
    ...catalogRoutes(db, catalogue),
    ...healthRoutes(db, catalogue),
    ...kvRoutes(db, kv),
    ...txnRoutes(db, kv),
    ...sessionRoutes(db, catalogue, sessions, { nodeName, minTtlMs: options.minSessionTtlMs ?? 10_000 }),
    ...agent.routes(),
    ...statusRoutes(nodeName, address),
  ]
  const strangers = new Strangers(options.maxStrangers ?? maxStrangers)
  server.on('connection', (socket: Socket) => strangers.admit(socket))
  const proven = (socket: Socket): void => strangers.proven(socket)
  const places = new Places(options.maxPerHost ?? maxPerHost)
  const names = options.names ?? []
  server.on('request', handler({ db, access, waits, routes, clock, log, places, proven, names }))

  const stop = (): void => {
    sessions.close()
    agent.close()
    db.close()
  }
  try {
    await registerSelf(db, catalogue, nodeName, options.host)
    await listen(server, options)
  } catch (error) {
    stop()
    throw error
  }
  let closing: Promise<void> | null = null
  const end = async (): Promise<void> => {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()))
    waits.flush()
    server.closeIdleConnections()
    // Answers that are on their way get one moment; whoever does not read them does not hold us.
    const timer = clock.after(200, () => server.closeAllConnections())
    await closed
    timer.cancel()
    stop()
  }
  log.info({ address: address(), index: db.index }, 'registry is up')
  return {
    port: portOf(server),
    waiting: () => waits.size,
    close: () => (closing ??= end()),
    setTls(tls) {
      if (!('setSecureContext' in server)) throw new Error('the registry was started without TLS')
      ;(server as TlsServer).setSecureContext(secure(tls))
    },
    createToken: ({ host, mesh }) => access.create(host, mesh),
    async revokeToken(host) {
      await access.revoke(host)
      waits.flush()
    },
    prune: (host) =>
      db.write((write) => {
        const entitlement = options.entitlementOf(host)
        for (const { id, name, meta } of catalogue.servicesOf(host)) {
          const namespace = meta?.[metaKeys.namespace] ?? defaultNamespace
          if (entitlement === null || !speaksFor(entitlement, name, namespace)) {
            catalogue.removeService(write, host, id)
          }
        }
      }),
  }
}

function open(path: string): Database {
  try {
    return new Database(path)
  } catch (error) {
    throw new MeshError('MSH0306', `cannot open the registry's database ${path}: ${reason(error)}`)
  }
}

function secure(tls: EmbeddedTls): {
  cert: string | Buffer
  key: string | Buffer
  minVersion: SecureVersion
} {
  return { cert: tls.cert, key: tls.key, minVersion: tls.minVersion ?? 'TLSv1.3' }
}

function makeServer(options: EmbeddedOptions): Server | TlsServer {
  const timeoutMs = options.requestTimeoutMs ?? 15_000
  const limits = {
    requestTimeout: timeoutMs,
    headersTimeout: Math.min(timeoutMs, 10_000),
    connectionsCheckingInterval: Math.min(timeoutMs, 2000),
    // Longer than the pause between two lease renewals, so that a host keeps its connection.
    keepAliveTimeout: 60_000,
    maxHeaderSize: 16 * 1024,
  }
  const server =
    options.tls === undefined
      ? createServer(limits)
      : createTlsServer({ ...limits, ...secure(options.tls), handshakeTimeout: 10_000 })
  server.maxConnections = maxConnections
  return server
}

function listen(server: Server | TlsServer, { host, port }: EmbeddedOptions): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', (error) => {
    reject(new MeshError('MSH0306', `cannot listen on ${host}:${port}: ${reason(error)}`))
  })
  server.listen({ host, port, backlog: 511 }, resolve)
  return promise
}

function portOf(server: Server | TlsServer): number {
  const address = server.address()
  return address !== null && typeof address === 'object' ? address.port : 0
}

/** The server is a node of its own catalogue, with the check that sessions lean on, as a Consul server is. */
function registerSelf(db: Database, catalogue: Catalogue, node: string, address: string): Promise<void> {
  return db.write((write) => {
    const own = catalogue.node(node)
    catalogue.putNode(write, {
      node,
      id: own?.id ?? '',
      address: ['0.0.0.0', '::', ''].includes(address) ? '127.0.0.1' : address,
      tagged: own?.tagged ?? null,
      meta: own?.meta ?? null,
    })
    catalogue.putCheck(write, {
      node,
      id: nodeCheckId,
      name: 'Registry Health Status',
      status: 'passing',
      notes: '',
      output: 'The registry runs here',
      serviceId: '',
      type: '',
    })
  })
}
