// The transaction that puts a host into the mesh: phases in order, each undone when a later one fails. The host's own
// dead-man timer does the same when this process or the link dies.
import { createHash, randomBytes } from 'node:crypto'
import { systemClock } from '../../clock.ts'
import { MeshError, reason } from '../../errors.ts'
import { gatherFacts, type HostFacts } from '../../host/facts.ts'
import type { Host } from '../../host/host.ts'
import { compareInventory, takeInventory, type Inventory } from '../../host/inventory.ts'
import { must } from '../../host/local.ts'
import { failed, preflight, unfit, type Finding } from '../../host/preflight.ts'
import {
  currentRelease,
  prepareRelease,
  pruneReleases,
  releaseFolder,
  sendRelease,
  useRelease,
  type Release,
} from '../../host/release.ts'
import { installResolver, removeResolver } from '../../host/resolver.ts'
import type { HostConfig } from '../../model/host.ts'
import { listens } from '../../model/service.ts'
import { pathsUnder } from '../../paths.ts'
import { arm, disarm, lock, undo, unlock, whileAlive, type UndoKind } from './guard.ts'
import {
  changedUnits,
  enroll,
  hasTimers,
  makeJournal,
  makeUser,
  readConfig,
  savePrevious,
  startUnits,
  writeConfig,
  writeUnits,
} from './install.ts'
import {
  abortReason,
  agentReady,
  freshLogin,
  meshName,
  outsideName,
  stillResolves,
  until,
  verifyHost,
} from './probe.ts'
import { joinPhases, type JoinOptions, type JoinPhase, type JoinResult, type Report } from './types.ts'
import { cronLines, hostUnits } from './unitfiles.ts'

const { journal } = pathsUnder()
const defaultTimeoutSeconds = 60

/** What the phases hand on to each other. */
interface Job {
  host: Host
  readonly options: JoinOptions
  readonly report: Report<JoinPhase>
  readonly id: string
  phase: JoinPhase
  config: HostConfig
  facts: HostFacts
  findings: Finding[]
  release: Release | null
  /** host.json of the joined host that this updates; null: a first join. */
  previous: HostConfig | null
  /** How the host is before anything; null until `snapshot`. */
  before: Inventory | null
  outside: string | null
  grant: { grant: string; roots: string } | null
  socketChanged: boolean
  /** How far it came, for the undoing. */
  readonly did: { lock: boolean; armed: boolean; granted: boolean; started: boolean }
}

/**
 * Puts a host into the mesh, or brings a joined one up to date. Throws MSH0504 (preflight, nothing changed), MSH0508
 * (somebody else is at it) or MSH0506 (failed and undone; `details` tell whether the host is as it was).
 */
export async function joinHost(
  host: Host,
  options: JoinOptions,
  report: Report<JoinPhase>,
): Promise<JoinResult> {
  const began = systemClock.monotonic()
  const job: Job = {
    host,
    options,
    report,
    id: randomBytes(8).toString('hex'),
    phase: 'connect',
    config: options.config,
    facts: options.facts as HostFacts,
    findings: [],
    release: null,
    previous: null,
    before: null,
    outside: null,
    grant: null,
    socketChanged: false,
    did: { lock: false, armed: false, granted: false, started: false },
  }
  const result = (outcome: JoinResult['outcome']): JoinResult => ({
    outcome,
    findings: job.findings,
    cron: options.timers ? [] : cronLines(options.config.host),
    seconds: (systemClock.monotonic() - began) / 1000,
  })
  try {
    await step(job, 'connect', connect)
    await step(job, 'preflight', check)
    await step(job, 'snapshot', snapshot)
    if (options.force !== true && (await upToDate(job))) {
      await unlock(host, job.id)
      for (const phase of joinPhases.slice(joinPhases.indexOf('dead-man'))) report(phase, 'skipped', '')
      return result('unchanged')
    }
    await step(job, 'dead-man', protect)
    const kind: UndoKind = job.previous === null ? 'all' : 'previous'
    await whileAlive(host, { id: job.id, kind, signal: options.signal }, async (signal) => {
      await step(job, 'upload', upload, signal)
      await step(job, 'prepare', prepare, signal)
      await step(job, 'grant', askGrant, signal)
      await step(job, 'enroll', enrolHost, signal)
      await step(job, 'units', units, signal)
      await step(job, 'start', start, signal)
      await step(job, 'capture', capture, signal)
      await step(job, 'probe', probe, signal)
    })
    await step(job, 'finish', finish)
    return result(job.previous === null ? 'joined' : 'updated')
  } catch (error) {
    report(job.phase, 'failed', reason(error))
    throw await rollBack(job, error)
  }
}

type Phase = (job: Job, signal: AbortSignal) => Promise<string | null>

/** Runs one phase; its answer is a detail to show, null: there was nothing to do. */
async function step(job: Job, phase: JoinPhase, run: Phase, signal?: AbortSignal): Promise<void> {
  const abort = signal ?? job.options.signal ?? new AbortController().signal
  job.phase = phase
  stopIfAborted(abort)
  job.report(phase, 'start', '')
  const detail = await run(job, abort)
  if (job.options.failAt === phase) throw new MeshError('MSH0506', `made to fail at ${phase}`)
  stopIfAborted(abort)
  job.report(phase, detail === null ? 'skipped' : 'done', detail ?? '')
}

function stopIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw abortReason(signal)
}

async function connect(job: Job): Promise<string> {
  await job.host.run('true', { timeoutMs: 20_000 })
  return job.host.label
}

async function check(job: Job): Promise<string> {
  const { host, options, config } = job
  job.facts = options.facts ?? (await gatherFacts(host))
  job.findings = preflight(job.facts, {
    servicePorts: config.services.filter(listens).map(({ port }) => port),
    dns: config.dns,
    capture: config.capture.outbound !== 'off' || config.capture.inbound,
    users: config.services.flatMap(({ user }) => (user === null ? [] : [user])),
    mesh: config.mesh,
    host: config.host,
  })
  if (failed(job.findings)) throw unfit(host.label, job.findings)
  const warnings = job.findings.filter(({ level }) => level === 'warn')
  return warnings.length === 0
    ? 'all well'
    : warnings.map(({ subject, message }) => `${subject}: ${message}`).join('; ')
}

async function snapshot(job: Job): Promise<string> {
  const { host, facts } = job
  await lock(host, job.id)
  job.did.lock = true
  const unfinished = facts.installed !== null && facts.installed.host === ''
  if (unfinished) {
    // What is there is nobody's any more: back to the beginning before the beginning is looked at.
    const folder = job.options.release ?? releaseFolder()
    await makeJournal(host)
    await arm(host, folder, 'all')
    const complaints = await undo(host, 'all')
    if (complaints.length > 0)
      throw new MeshError('MSH0511', `remains of an earlier join: ${complaints[0] ?? ''}`)
    await lock(host, job.id)
  }
  job.previous = facts.installed === null || unfinished ? null : await readConfig(host)
  job.before = job.previous === null ? await takeInventory(host) : {}
  job.outside = await outsideName(host, job.options.outsideName)
  return job.previous === null ? `${Object.keys(job.before).length} entries` : 'an update of a joined host'
}

/** Whether the host has all of this already and works. */
async function upToDate(job: Job): Promise<boolean> {
  const { host, options, previous } = job
  if (previous === null) return false
  job.release = await prepareRelease(options.release ?? releaseFolder(), job.facts.arch)
  if ((await currentRelease(host)) !== job.release.release.hash) return false
  if (bare(previous) !== bare(job.config)) return false
  const wanted = await hostUnits(job.release.folder, {
    ipv6: job.facts.ipv6,
    timers: options.timers,
    workers: job.config.workers,
  })
  if ((await changedUnits(host, wanted)).length > 0) return false
  // Those wanted are among the units above; those not wanted must be gone.
  if (!options.timers && (await hasTimers(host))) return false
  return (await agentReady(host, job.config)) === true
}

/** A config without what only the host holds. */
function bare(config: HostConfig): string {
  return JSON.stringify({ ...config, registry: { ...config.registry, token: null } })
}

async function protect(job: Job): Promise<string> {
  const { host, before, previous } = job
  const folder = job.options.release ?? releaseFolder()
  await makeJournal(host)
  if (previous === null) await host.put(`${journal}/before.json`, JSON.stringify(before), { mode: 0o600 })
  else await savePrevious(host)
  await arm(host, folder, previous === null ? 'all' : 'previous')
  job.did.armed = true
  return 'the host undoes everything by itself should this machine or the link die'
}

async function upload(job: Job): Promise<string | null> {
  const { host, options } = job
  job.release ??= await prepareRelease(options.release ?? releaseFolder(), job.facts.arch)
  let shown = -1
  const sent = await sendRelease(host, job.release, (done, total) => {
    const percent = Math.floor((done / total) * 100)
    if (percent === shown) return
    shown = percent
    job.report('upload', 'progress', `${(done / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`)
  })
  return sent ? `release ${job.release.version}` : null
}

async function prepare(job: Job): Promise<string> {
  await makeUser(job.host)
  return 'user and folders'
}

async function askGrant(job: Job): Promise<string | null> {
  const { host, options, previous } = job
  if (previous !== null && options.force !== true && entitled(previous) === entitled(job.config)) return null
  const key = options.sshHostKey === '' ? await ownHostKey(host) : options.sshHostKey
  job.grant = await options.requestGrant(key)
  job.did.granted = true
  return 'single use'
}

/** What a host's certificates depend on. */
function entitled(config: HostConfig): string {
  const services = config.services.map(({ name, namespace }) => `${namespace}/${name}`).toSorted()
  return JSON.stringify([
    config.mesh,
    config.trustDomain,
    config.host,
    config.signers,
    [...new Set(services)],
  ])
}

async function enrolHost(job: Job): Promise<string | null> {
  const { host, grant, release, previous } = job
  if (release === null) throw new Error('no release')
  const token = grant === null ? null : await enroll(host, release, job.config, grant)
  const kept = job.config.registry.token ?? token ?? previous?.registry.token ?? null
  await writeConfig(host, { ...job.config, registry: { ...job.config.registry, token: kept } })
  return grant === null ? null : 'keys made on the host'
}

async function units(job: Job): Promise<string> {
  const { host, release, options, facts } = job
  if (release === null) throw new Error('no release')
  await useRelease(host, release)
  const { socket } = await writeUnits(host, release, job.config, { facts, timers: options.timers })
  job.socketChanged = socket
  return options.timers ? 'with timers' : 'without timers'
}

async function start(job: Job): Promise<string> {
  job.did.started = true
  await startUnits(job.host, {
    update: job.previous !== null,
    socket: job.socketChanged,
    timers: job.options.timers,
  })
  return 'proxy and agent'
}

async function capture(job: Job, signal: AbortSignal): Promise<string> {
  const { host, config } = job
  await until('the agent is not ready', timing(job, signal), () => agentReady(host, config))
  const before = job.previous?.dns ?? 'off'
  if (before !== 'off' && before !== config.dns) await removeResolver(host)
  if (config.dns !== 'off') await installResolver(host, config.dns)
  return config.dns === 'off' ? 'rules' : 'rules and names'
}

async function probe(job: Job, signal: AbortSignal): Promise<string> {
  const { host, options, config } = job
  const time = timing(job, signal)
  const proved: string[] = []
  if (options.reconnect !== null) {
    const { reconnect } = options
    await until('ssh', { ...time, timeoutMs: 20_000 }, () => freshLogin(reconnect))
    proved.push('new SSH login')
  }
  await until('registry', time, async () =>
    (await options.registered()) ? true : 'the services are not in the registry',
  )
  const first = config.services.find(listens)
  if (config.dns !== 'off' && first !== undefined) {
    await until('dns', time, () => meshName(host, `${first.name}.${first.namespace}.mesh`))
    proved.push(`${first.name}.${first.namespace}.mesh`)
  }
  const { outside } = job
  if (outside !== null) {
    await until('dns', { ...time, timeoutMs: 20_000 }, () => stillResolves(host, outside))
    proved.push(outside)
  }
  await until('mTLS', time, () => verifyHost(host))
  proved.push('mTLS')
  return proved.join(', ')
}

async function finish(job: Job): Promise<string> {
  const { host, config, release } = job
  await host.put(`${journal}/joined`, `mesh=${config.mesh}\nhost=${config.host}\n`, { mode: 0o600 })
  await disarm(host)
  // From here on the host is joined; what follows is tidying.
  job.did.armed = false
  await host.run(`rm -rf ${journal}/previous`, { root: true }).catch(() => null)
  await pruneReleases(host, [release?.release.hash ?? '']).catch(() => null)
  await unlock(host, job.id).catch(() => null)
  return config.host
}

function timing(job: Job, signal: AbortSignal): { timeoutMs: number; signal: AbortSignal } {
  return { timeoutMs: (job.options.timeoutSeconds ?? defaultTimeoutSeconds) * 1000, signal }
}

/** Undoes what was done and says in the error how the host is now. */
async function rollBack(job: Job, error: unknown): Promise<MeshError> {
  const { did, options, phase } = job
  const cause = error instanceof MeshError ? error : new MeshError('MSH0507', reason(error), { cause: error })
  if (!did.armed) {
    if (did.lock) await unlock(job.host, job.id).catch(() => null)
    return cause
  }
  job.report(phase, 'undo', '')
  const details: string[] = [...cause.details]
  const first = job.previous === null
  try {
    const host = await reachable(job)
    const complaints = await undo(host, first ? 'all' : 'previous')
    if (complaints.length > 0) details.push(...complaints)
    const differences = first ? compareInventory(job.before ?? {}, await takeInventory(host)) : []
    if (differences.length > 0) details.push('the host differs from how it was:', ...differences)
    else if (complaints.length === 0)
      details.push(first ? 'the host is as it was' : 'the installation from before is back')
    if (host !== job.host) host.close()
  } catch (undoing) {
    details.push(
      `the host could not be reached for undoing (${reason(undoing)}); its dead-man timer undoes everything within a minute or two`,
    )
  }
  const elsewhere: [boolean, string, () => Promise<void>][] = [
    [first && did.started, 'removing it from the registry', options.deregister],
    [first && did.granted, 'revoking its grant', options.revoke],
    [
      !first && did.granted,
      'restoring what it may speak for',
      async () => await options.entitle?.(job.previous?.services ?? []),
    ],
  ]
  for (const [needed, what, run] of elsewhere) {
    if (!needed) continue
    await run().catch((failure: unknown) => {
      // Control that has never heard of the host has nothing to take back.
      const unknown = failure instanceof MeshError && failure.code === 'MSH0410'
      if (!unknown) details.push(`${what} failed: ${reason(failure)}`)
    })
  }
  job.report(phase, 'undo', details.at(-1) ?? '')
  const plain = cause.message.replace(`${job.host.label}: `, '')
  return new MeshError('MSH0506', `${job.host.label}: ${phase}: ${plain}`, {
    hint: cause.hint,
    details,
    cause: error,
  })
}

/** The connection, or a new one where it was lost. */
async function reachable(job: Job): Promise<Host> {
  try {
    await job.host.run('true', { timeoutMs: 10_000 })
    return job.host
  } catch (error) {
    if (job.options.reconnect === null) throw error
    return await job.options.reconnect()
  }
}

/**
 * The host's own public SSH key, for this machine. A machine without sshd is pinned by a key made of its machine id:
 * nobody can log in with it, it only tells whether a later join is the same machine.
 */
async function ownHostKey(host: Host): Promise<string> {
  const text = await must(
    host,
    'read the host key',
    'cat /etc/ssh/ssh_host_ed25519_key.pub 2>/dev/null || cat /etc/machine-id',
  )
  if (text.startsWith('ssh-')) return text.trim().split(' ').slice(0, 2).join(' ')
  const part = (bytes: Buffer): Buffer => Buffer.concat([Buffer.from([0, 0, 0, bytes.length]), bytes])
  const digest = createHash('sha256').update(`meshctl ${text.trim()}`).digest()
  return `ssh-ed25519 ${Buffer.concat([part(Buffer.from('ssh-ed25519')), part(digest)]).toString('base64')}`
}
