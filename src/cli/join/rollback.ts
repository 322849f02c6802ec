// When a join fails: the host is put back as it was, and what the mesh was told about it is taken back.
import { MeshError, reason } from '../../errors.ts'
import type { Host } from '../../host/host.ts'
import { compareInventory, takeInventory } from '../../host/inventory.ts'
import { undo, unlock } from './guard.ts'
import type { Job } from './job.ts'

/** Undoes what was done; the error says what failed and how the host is now. Never throws. */
export async function rollBack(job: Job, error: unknown): Promise<MeshError> {
  const { did, host, phase } = job
  const cause = error instanceof MeshError ? error : new MeshError('MSH0507', reason(error), { cause: error })
  if (!did.armed) {
    if (did.lock) await unlock(host, job.id).catch(() => null)
    return cause
  }
  job.report(phase, 'undo', '')
  const details = [...cause.details, ...(await putBack(job)), ...(await takeBack(job))]
  job.report(phase, 'undo', details.at(-1) ?? '')
  const plain = cause.message.replace(`${host.label}: `, '')
  return new MeshError('MSH0506', `${host.label}: ${phase}: ${plain}`, {
    hint: cause.hint,
    details,
    cause: error,
  })
}

/** Puts the host back; what is to be said about it. */
async function putBack(job: Job): Promise<string[]> {
  const isFirst = job.previous === null
  try {
    const host = await reachable(job)
    const complaints = await undo(host, isFirst ? 'all' : 'previous')
    const differences = isFirst ? compareInventory(job.before ?? {}, await takeInventory(host)) : []
    if (host !== job.host) host.close()
    if (differences.length > 0) return [...complaints, 'the host differs from how it was:', ...differences]
    if (complaints.length > 0) return complaints
    return [isFirst ? 'the host is as it was' : 'the installation from before is back']
  } catch (error) {
    return [
      `the host could not be reached for undoing (${reason(error)}); its dead-man timer undoes everything within a minute or two`,
    ]
  }
}

/** Takes back what registry and control know of it; what could not be. */
async function takeBack(job: Job): Promise<string[]> {
  const { did, options, previous } = job
  const steps: [string, () => Promise<void>][] = []
  if (previous === null) {
    if (did.started) steps.push(['removing it from the registry', options.deregister])
    if (did.granted) steps.push(['revoking its grant', options.revoke])
  } else if (did.granted) {
    const { services } = previous
    steps.push(['restoring what it may speak for', async () => await options.entitle?.(services)])
  }
  const failures: string[] = []
  for (const [what, run] of steps) {
    await run().catch((error: unknown) => {
      // Control that has never heard of the host has nothing to take back.
      const isUnknown = error instanceof MeshError && error.code === 'MSH0410'
      if (!isUnknown) failures.push(`${what} failed: ${reason(error)}`)
    })
  }
  return failures
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
