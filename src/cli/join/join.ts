// The transaction that puts a host into the mesh: phases in order, each undone when a later one fails. The host's own
// dead-man timer does the same when this process or the link dies.
import { systemClock } from '../../clock.ts'
import { MeshError, reason } from '../../errors.ts'
import { gatherFacts } from '../../host/facts.ts'
import type { Host } from '../../host/host.ts'
import { takeInventory } from '../../host/inventory.ts'
import { failed, unfit } from '../../host/finding.ts'
import { preflight } from '../../host/preflight.ts'
import { prepareRelease, pruneReleases, releaseFolder, sendRelease, useRelease } from '../../host/release.ts'
import { installResolver, removeResolver } from '../../host/resolver.ts'
import { listens } from '../../model/service.ts'
import { pathsUnder } from '../../paths.ts'
import { entitled, isCurrent } from './current.ts'
import { arm, disarm, lock, undo, unlock, whileAlive, type UndoKind } from './guard.ts'
import { ownHostKey } from './hostkey.ts'
import {
  enroll,
  makeJournal,
  makeUser,
  readConfig,
  savePrevious,
  startUnits,
  writeConfig,
  writeUnits,
} from './install.ts'
import { makeJob, type Job } from './job.ts'
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
import { rollBack } from './rollback.ts'
import { joinPhases, type JoinOptions, type JoinPhase, type JoinResult, type Report } from './types.ts'
import { cronLines } from './unitfiles.ts'

const { journal } = pathsUnder()
const defaultTimeoutSeconds = 60

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
  const job = makeJob(host, options, report)
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
    if (options.force !== true && (await isCurrent(job))) {
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
    users: config.services.flatMap(({ user }) => user ?? []),
    units: config.services.flatMap(({ unit }) => unit ?? []),
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
  job.changed = await writeUnits(host, release, job.config, { facts, timers: options.timers })
  return options.timers ? 'with timers' : 'without timers'
}

async function start(job: Job): Promise<string> {
  job.did.started = true
  await startUnits(job.host, {
    ...job.changed,
    update: job.previous !== null,
    timers: job.options.timers,
    dns: job.config.dns !== 'off',
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
