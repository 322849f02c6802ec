// Taking a host out of the mesh: others stop using it, everything of ours goes, and a comparison proves it.
import { randomBytes } from 'node:crypto'
import { MeshError, reason } from '../../errors.ts'
import type { Host } from '../../host/host.ts'
import { attribute, compareInventory, takeInventory, type Inventory } from '../../host/inventory.ts'
import { resolverAfterRemoval } from '../../host/resolver.ts'
import { releaseFolder } from '../../host/release.ts'
import { pathsUnder } from '../../paths.ts'
import { lock, undoForSure, unlock } from './guard.ts'
import { makeJournal } from './install.ts'
import { askAgent } from './probe.ts'
import type { LeaveOptions, LeavePhase, LeaveResult, Report } from './types.ts'

const { journal, opt, etc } = pathsUnder()
const defaultDrainSeconds = 5

/** Idempotent: a host without meshctl is left alone. Throws MSH0508 (somebody else is at it) or MSH0511 (remains). */
export async function leaveHost(
  host: Host,
  options: LeaveOptions,
  report: Report<LeavePhase>,
): Promise<LeaveResult> {
  const warnings: string[] = []
  report('connect', 'start', '')
  const there = await host.run(`[ -e ${opt} ] || [ -e ${etc} ] || [ -e ${journal} ]`, {
    root: true,
    timeoutMs: 20_000,
  })
  if (there.status !== 0) {
    report('connect', 'done', 'nothing of meshctl is there')
    // The host may have been installed anew while the mesh still knows it.
    await elsewhere(options, report, warnings)
    return { left: false, differences: [], others: [], warnings }
  }
  const id = randomBytes(8).toString('hex')
  await lock(host, id)
  report('connect', 'done', host.label)
  try {
    // The last moment to turn back; a host half taken out is of no use to anybody, so what follows is finished.
    if (options.signal?.aborted === true)
      throw new MeshError('MSH0102', `${host.label}: interrupted, nothing was changed`)
    let before = await readBefore(host)
    if (before === null) warnings.push('there is no record of how the host was before: it cannot be compared')
    await drain(host, options, report, warnings)
    await elsewhere(options, report, warnings)

    report('undo', 'start', '')
    before = await rewritten(host, before, warnings)
    await makeJournal(host)
    const complaints = await undoForSure(host, options.release ?? releaseFolder(), 'all')
    if (complaints.length > 0) {
      report('undo', 'failed', complaints[0] ?? '')
      throw new MeshError('MSH0511', `${host.label}: not everything could be removed`, {
        details: complaints,
      })
    }
    report('undo', 'done', '')

    report('compare', 'start', '')
    const all = before === null ? [] : compareInventory(before, await takeInventory(host))
    const { ours: differences, others } = attribute(all)
    report(
      'compare',
      'done',
      before === null
        ? 'not possible'
        : differences.length === 0
          ? 'the host is as it was'
          : `${differences.length} differences`,
    )
    return { left: true, differences, others, warnings }
  } catch (error) {
    await unlock(host, id).catch(() => null)
    throw error
  }
}

/** Deregisters, waits until others have heard it, lets open requests end. A dead agent cannot keep a host in. */
async function drain(
  host: Host,
  options: LeaveOptions,
  report: Report<LeavePhase>,
  warnings: string[],
): Promise<void> {
  const ms = (options.drainSeconds ?? defaultDrainSeconds) * 1000
  report('drain', 'start', '')
  try {
    const { open } = await askAgent<{ open: number }>(host, { verb: 'drain', timeoutMs: ms }, ms + 15_000)
    await askAgent(host, { verb: 'leave' }, 15_000)
    report('drain', 'done', open === 0 ? 'no connection is open' : `${open} connections were still open`)
  } catch (error) {
    if (error instanceof MeshError && error.code === 'MSH0501') throw error
    warnings.push(`not drained: ${reason(error)}`)
    report('drain', 'skipped', reason(error))
  }
}

async function elsewhere(
  options: LeaveOptions,
  report: Report<LeavePhase>,
  warnings: string[],
): Promise<void> {
  report('revoke', 'start', '')
  const before = warnings.length
  for (const [what, run] of [
    ['the registry still lists it', options.deregister],
    ['control still trusts it', options.revoke],
  ] as const) {
    if (run === null) continue
    await run().catch((error: unknown) => warnings.push(`${what}: ${reason(error)}`))
  }
  report('revoke', warnings.length === before ? 'done' : 'failed', warnings[before] ?? '')
}

/** DHCP and people rewrite resolv.conf while a host is joined: what they wrote is what has to be there afterwards. */
async function rewritten(
  host: Host,
  before: Inventory | null,
  warnings: string[],
): Promise<Inventory | null> {
  const entry = 'file /etc/resolv.conf'
  const expected = before?.[entry] === undefined ? null : await resolverAfterRemoval(host)
  if (before === null || expected === null || before[entry] === expected) return before
  warnings.push('/etc/resolv.conf was rewritten by others since the join; it stays as they want it')
  return { ...before, [entry]: expected }
}

async function readBefore(host: Host): Promise<Inventory | null> {
  const text = await host.get(`${journal}/before.json`, { root: true })
  if (text === null) return null
  try {
    return JSON.parse(text.toString()) as Inventory
  } catch {
    return null
  }
}
