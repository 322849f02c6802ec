// What a joined host has already: nothing is done twice, and a grant is asked for only where its services change.
import { prepareRelease, currentRelease, releaseFolder } from '../../host/release.ts'
import type { HostConfig } from '../../model/host.ts'
import { areNamesHeld, changedUnits, hasUnwanted, unitOptions } from './install.ts'
import type { Job } from './job.ts'
import { agentReady } from './probe.ts'
import { hostUnits } from './unitfiles.ts'

/** Whether the host has all of this already and works. */
export async function isCurrent(job: Job): Promise<boolean> {
  const { host, options, previous } = job
  if (previous === null) return false
  job.release = await prepareRelease(options.release ?? releaseFolder(), job.facts.arch)
  if ((await currentRelease(host)) !== job.release.release.hash) return false
  if (bare(previous) !== bare(job.config)) return false
  const wanted = unitOptions(job.config, { facts: job.facts, timers: options.timers })
  if ((await changedUnits(host, await hostUnits(job.release.folder, wanted))).length > 0) return false
  if (await hasUnwanted(host, wanted)) return false
  if (wanted.dns && !(await areNamesHeld(host))) return false
  return (await agentReady(host, job.config)) === true
}

/** A config without what only the host holds. */
function bare(config: HostConfig): string {
  return JSON.stringify({ ...config, registry: { ...config.registry, token: null } })
}

/** What a host's certificates depend on. */
export function entitled(config: HostConfig): string {
  const services = config.services.map(({ name, namespace }) => `${namespace}/${name}`).toSorted()
  return JSON.stringify([
    config.mesh,
    config.trustDomain,
    config.host,
    config.signers,
    [...new Set(services)],
  ])
}
