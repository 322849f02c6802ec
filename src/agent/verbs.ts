// The one-shot verbs, fit for cron and systemd timers: quiet when all is well, one line and a status when not.
import type { Clock } from '../clock.ts'
import { MeshError, reason } from '../errors.ts'
import type { Host } from '../host/host.ts'
import { resolverDrift } from '../host/resolver.ts'
import type { Log } from '../log.ts'
import type { HostConfig } from '../model/host.ts'
import type { Paths } from '../paths.ts'
import { Capture } from './capture.ts'
import { Identity } from './identity.ts'
import { Keyring } from './keyring.ts'
import { ProxyLink } from './push.ts'
import { findingsOf } from './report.ts'
import { askAgent } from './socket.ts'
import { verifyDns, verifyServed, type VerifyOptions } from './verify.ts'

export interface VerbContext {
  readonly config: HostConfig
  readonly paths: Paths
  readonly host: Host
  readonly clock: Clock
  readonly log: Log
  /** For --verbose: what is looked at and found to be well. */
  readonly tell: (line: string) => void
  readonly link?: NonNullable<VerifyOptions['link']>
  readonly dnsPort?: number
}

/** Asks the running agent, or does it itself where there is none. Nothing is done before half of life, but by force. */
export async function renew(context: VerbContext, force: boolean): Promise<void> {
  const { paths, tell, clock } = context
  try {
    const { renewed, notAfter } = await askAgent<'renew'>(paths.agentSocket, { verb: 'renew', force }, 60_000)
    tell(`${renewed ? 'renewed' : 'nothing is due'}; valid until ${new Date(notAfter).toISOString()}`)
    return
  } catch (error) {
    if (!(error instanceof MeshError) || error.code !== 'MSH0604') throw patient(error, null)
    tell('the agent is not running; renewing without it')
  }
  const link = new ProxyLink({ ...context, alive: () => undefined, changed: () => undefined })
  const identity = new Identity({
    ...context,
    keyring: new Keyring(paths),
    changed: (secrets) => link.setSecrets(secrets),
  })
  await identity.load()
  if (!force && !identity.due()) {
    tell(`nothing is due; valid until ${new Date(identity.notAfter()).toISOString()}`)
    return
  }
  try {
    await identity.renew()
  } catch (error) {
    throw patient(error, identity.notAfter() - clock.now())
  }
  // The proxy has what it was given; what it boots with is on its disk either way.
  link.setSecrets(identity.secrets())
  const state = await link.once()
  tell(`renewed without the agent; proxy ${state}`)
}

/** Handshakes with the own proxy, and looks at DNS, capture and the agent. Throws MSH0606 with the findings. */
export async function verify(context: VerbContext): Promise<void> {
  const { config, paths, tell, clock } = context
  const findings: string[] = []
  const look = async (what: string, run: () => Promise<readonly string[]>): Promise<void> => {
    const found = await run().catch((error: unknown) => [`${what}: ${reason(error)}`])
    if (found.length === 0) tell(`${what}: ok`)
    findings.push(...found)
  }
  await look('certificates', () =>
    verifyServed({
      config,
      keyring: new Keyring(paths),
      now: clock.now(),
      ...(context.link === undefined ? {} : { link: context.link }),
    }),
  )
  if (config.dns !== 'off') {
    await look('dns', async () => {
      const finding = await verifyDns(context.dnsPort)
      return finding === null ? [] : [finding]
    })
  }
  const { dns } = config
  if (dns !== 'off') await look('resolver', () => resolverDrift(context.host, dns))
  await look('capture', async () => {
    const drift = await new Capture({ ...context, changed: () => undefined }).drift()
    return drift.map((line) => `capture: ${line}`)
  })
  await look('agent', async () => {
    const { report } = await askAgent<'status'>(paths.agentSocket, { verb: 'status' })
    return report.proxy === 'ok' ? [] : [`proxy ${report.proxy}`]
  })
  conclude(findings)
}

/** The agent's own summary. Throws MSH0604 where there is no agent, MSH0606 with the findings. */
export async function report({ paths, tell, clock }: VerbContext): Promise<void> {
  const {
    report: said,
    registry,
    certificates,
  } = await askAgent<'status'>(paths.agentSocket, { verb: 'status' })
  tell(`host ${said.host} (${said.address}), meshctl ${said.version}`)
  tell(`proxy ${said.proxy}, snapshot ${said.snapshot.slice(0, 12)}`)
  tell(`capture ${said.capture}, dns ${said.dns}, registry ${registry.connected ? 'connected' : 'away'}`)
  for (const service of said.services) tell(`service ${service.name}.${service.namespace} ${service.status}`)
  for (const leaf of certificates) tell(`${leaf.spiffe} until ${new Date(leaf.notAfter).toISOString()}`)
  conclude(findingsOf(said, clock.now()))
}

function conclude(findings: readonly string[]): void {
  const [first, ...more] = findings
  if (first === undefined) return
  const rest = more.length === 0 ? '' : ` (and ${more.length} more)`
  throw new MeshError('MSH0606', `${first}${rest}`, { details: findings })
}

/** Control away is no emergency while there is time: cron tries again (75), and says so only when it gets late (69). */
function patient(error: unknown, leftMs: number | null): unknown {
  const away = error instanceof MeshError && error.code === 'MSH0401'
  if (!away || (leftMs !== null && leftMs < 3_600_000)) return error
  return new MeshError('MSH0607', error.message, { hint: error.hint, cause: error })
}
