// All parts of control, started in order and stopped in reverse: store, own certificate, registry, signer, reaper.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { ControlStatus } from '../api/signer.ts'
import { controlSpiffe } from '../api/signer.ts'
import type { Clock } from '../clock.ts'
import { MeshError, reason } from '../errors.ts'
import type { Log } from '../log.ts'
import { connectRegistry } from '../registry/client.ts'
import type { Registry } from '../registry/registry.ts'
import { startEmbedded } from '../registry/embedded/server.ts'
import type { Embedded } from '../registry/embedded/server.ts'
import { version } from '../version.ts'
import { ServerCertificate } from './certificate.ts'
import type { ControlSetup } from './config.ts'
import { Reaper } from './lease.ts'
import { ReaperLock } from './lock.ts'
import { SignerServer } from './server.ts'
import { Signer } from './signer.ts'
import type { Tokens } from './signer.ts'
import { Store } from './store.ts'

export interface Control {
  readonly signerPort: number
  /** Null with a real Consul. */
  readonly registryPort: number | null
  close(): Promise<void>
}

/** A registry that takes longer says nothing useful about leases. */
const registryTimeoutMs = 3000

/** Throws when a port is taken or a file cannot be opened; nothing is left running then. */
export async function startControl(
  setup: ControlSetup,
  { clock, log }: { clock: Clock; log: Log },
): Promise<Control> {
  const { config, dir } = setup
  // In the order of starting; closed in reverse.
  const started: { close(): unknown }[] = []
  const stop = async (): Promise<void> => {
    for (const part of started.splice(0).toReversed()) {
      try {
        await part.close()
      } catch (error) {
        log.error({ event: 'stop', error: reason(error) }, 'a part did not stop cleanly')
      }
    }
  }
  const keep = <T extends { close(): unknown }>(part: T): T => {
    started.push(part)
    return part
  }
  try {
    mkdirSync(join(dir, 'state'), { recursive: true, mode: 0o700 })
    const store = keep(new Store(join(dir, 'state/control.db')))
    const certificate = keep(new ServerCertificate(setup, clock, log))
    const embedded =
      config.embedded === null ? null : keep(await openEmbedded(setup, certificate, store, { clock, log }))
    const registry = keep(openRegistry(setup, embedded))
    const signer = new Signer({
      setup,
      store,
      tokens: embedded && hostTokens(embedded, config.mesh),
      clock,
      log,
    })
    const server = keep(
      new SignerServer({
        signer,
        certificate,
        trustDomain: config.trustDomain,
        roots: setup.roots,
        issuer: setup.issuer.certificate,
        status: statusOf(setup, store, clock),
        clock,
        log,
      }),
    )
    const signerPort = await server.listen(config.listen, config.signerPort)
    const lock = new ReaperLock({ registry, store, mesh: config.mesh, clock })
    keep(new Reaper({ registry, lock, mesh: config.mesh, clock, log })).start()
    return { signerPort, registryPort: embedded?.port ?? null, close: stop }
  } catch (error) {
    await stop()
    if (error instanceof MeshError) throw error
    throw new MeshError('MSH0415', `control cannot start: ${reason(error)}`, { cause: error })
  }
}

async function openEmbedded(
  { config, dir }: ControlSetup,
  certificate: ServerCertificate,
  store: Store,
  { clock, log }: { clock: Clock; log: Log },
): Promise<Embedded> {
  const { port, token } = config.embedded ?? { port: 0, token: '' }
  const embedded = await startEmbedded({
    dbPath: join(dir, 'state/registry.db'),
    host: config.listen,
    port,
    tls: certificate.current(),
    managementToken: token,
    entitlementOf: (host) => {
      const record = store.host(host)
      return record === null || record.revoked ? null : record
    },
    names: config.names,
    log,
    clock,
  })
  certificate.onRenewal((pair) => embedded.setTls(pair))
  return embedded
}

/** The reaper's way to the registry: the same client and protocol as any host's. */
function openRegistry({ config, roots }: ControlSetup, embedded: Embedded | null): Registry {
  if (embedded !== null && config.embedded !== null) {
    const host = ['0.0.0.0', '::'].includes(config.listen) ? '127.0.0.1' : config.listen
    return connectRegistry(
      {
        url: `https://${host.includes(':') ? `[${host}]` : host}:${embedded.port}`,
        token: config.embedded.token,
        ca: roots,
        spiffe: controlSpiffe(config.trustDomain),
        localAgent: null,
      },
      { timeoutMs: registryTimeoutMs },
    )
  }
  const { url, token, ca } = config.consul ?? { url: '', token: null, ca: null }
  return connectRegistry({ url, token, ca, spiffe: null, localAgent: null }, { timeoutMs: registryTimeoutMs })
}

function hostTokens(embedded: Embedded, mesh: string): Tokens {
  return {
    create: (host) => embedded.createToken({ host, mesh }),
    revoke: (host) => embedded.revokeToken(host),
    prune: (host) => embedded.prune(host),
  }
}

function statusOf(
  { config, issuer, rootCertificates }: ControlSetup,
  store: Store,
  clock: Clock,
): () => ControlStatus {
  const startedAt = new Date(clock.now()).toISOString()
  // The root that ends last: with it the mesh ends.
  const rootEnd = Math.max(...rootCertificates.map(({ notAfter }) => notAfter))
  return () => ({
    version,
    mesh: config.mesh,
    trustDomain: config.trustDomain,
    registry: config.embedded === null ? 'consul' : 'embedded',
    startedAt,
    issuingNotAfter: new Date(issuer.certificate.notAfter).toISOString(),
    rootNotAfter: new Date(rootEnd).toISOString(),
    hosts: store.countHosts(),
  })
}
