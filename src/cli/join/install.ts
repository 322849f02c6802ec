// The steps by which a host gets what join puts on it. Each is idempotent.
import { createHash } from 'node:crypto'
import { MeshError } from '../../errors.ts'
import type { HostFacts } from '../../host/facts.ts'
import { quote, type Host } from '../../host/host.ts'
import { must } from '../../host/local.ts'
import type { Release } from '../../host/release.ts'
import { plainListen } from '../../host/resolver.ts'
import { syncDropIns } from '../../host/units.ts'
import type { HostConfig } from '../../model/host.ts'
import { isRecord } from '../../model/problem.ts'
import { pathsUnder, units, users } from '../../paths.ts'
import { hostUnits, timerUnits, unwantedUnits, type UnitFile, type UnitOptions } from './unitfiles.ts'

const paths = pathsUnder()

/** The journal, and the folders that a join may be the first to need. */
export async function makeJournal(host: Host): Promise<void> {
  const wants = ['multi-user.target.wants', 'sockets.target.wants', 'timers.target.wants']
  const noted = [...wants.map((name) => `${paths.systemd}/${name}`), '/usr/local/bin', '/opt']
  await must(
    host,
    'make the journal',
    `umask 022; mkdir -p ${paths.lib} && mkdir -p -m 0700 ${paths.journal} && ` +
      noted
        .map(
          (folder) =>
            `{ [ -d ${folder} ] || { echo ${folder} >> ${paths.journal}/folders && mkdir -p ${folder}; }; }`,
        )
        .join(' && '),
  )
}

/** Keeps what an update is about to change, for `undo.sh previous`. */
export async function savePrevious(host: Host): Promise<void> {
  const saved = `${paths.journal}/previous`
  await must(
    host,
    'keep the installation that is there',
    `set -e; umask 077; rm -rf ${saved}; mkdir ${saved}; readlink ${paths.current} > ${saved}/release; cd /; ` +
      `{ for timer in ${timerUnits.join(' ')}; do systemctl is-enabled --quiet $timer 2>/dev/null && echo $timer; done; true; } > ${saved}/timers; ` +
      `tar -cpf ${saved}/saved.tar.new $(ls -d etc/meshctl var/lib/meshctl/identity usr/local/bin/meshctl ` +
      `etc/systemd/system/meshctl-agent.* etc/systemd/system/meshctl-proxy.* etc/systemd/system/meshctl-re* etc/systemd/system/meshctl-verify.* ` +
      `etc/systemd/system/*.d/50-meshctl.conf 2>/dev/null); mv ${saved}/saved.tar.new ${saved}/saved.tar`,
  )
}

/** The proxy's user, and the folders of the agent. */
export async function makeUser(host: Host): Promise<void> {
  const user = users.proxy
  await must(
    host,
    `make the user ${user}`,
    // Noted before it is made: undo must know even if this is the last thing that happens.
    `getent passwd ${user} >/dev/null || { touch ${paths.journal}/user && useradd --system --user-group --no-create-home ` +
      `--home-dir /nonexistent --shell "$(PATH=$PATH:/usr/sbin:/sbin command -v nologin || echo /bin/false)" ${user}; }`,
  )
  await must(
    host,
    'make the folders',
    `umask 022; mkdir -p -m 0755 ${paths.etc} && mkdir -p -m 0700 ${paths.identity} ${paths.state}`,
  )
}

export interface Enrolment {
  readonly grant: string
  readonly roots: string
}

/** Has the host make its keys and join at the signer; the registry token it got, null with a real Consul. */
export async function enroll(
  host: Host,
  release: Release,
  config: HostConfig,
  given: Enrolment,
): Promise<string | null> {
  const input = {
    grant: given.grant,
    signers: config.signers,
    roots: given.roots,
    mesh: config.mesh,
    trustDomain: config.trustDomain,
    host: config.host,
    services: config.services.map(({ name, namespace }) => ({ name, namespace })),
  }
  const folder = `${paths.opt}/release/${release.release.hash}`
  const result = await host.run(
    `LD_LIBRARY_PATH=${folder} ${folder}/node --disable-warning=ExperimentalWarning ${folder}/agent.js enroll`,
    { root: true, input: JSON.stringify(input), secret: true, timeoutMs: 60_000 },
  )
  if (result.status !== 0) {
    throw new MeshError('MSH0507', `${host.label}: enrolment failed: ${lastLine(result.stderr)}`, {
      hint: `the host must reach ${config.signers.join(', ')}`,
    })
  }
  const reply = JSON.parse(result.stdout.trim().split('\n').at(-1) ?? '{}') as {
    registryToken?: string | null
  }
  return reply.registryToken ?? null
}

/** host.json, root's alone: it may hold the registry's token. */
export async function writeConfig(host: Host, config: HostConfig): Promise<void> {
  await host.put(paths.hostConfig, `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600 })
}

/** The host.json that is there; null: none, or not readable as one. */
export async function readConfig(host: Host): Promise<HostConfig | null> {
  const text = await host.get(paths.hostConfig, { root: true })
  if (text === null) return null
  try {
    const found: unknown = JSON.parse(text.toString())
    return isRecord(found) && Array.isArray(found['services']) ? (found as unknown as HostConfig) : null
  } catch {
    return null
  }
}

/** Unit files whose text or mode differs on the host, or that are not there. One command for all. */
export async function changedUnits(host: Host, files: readonly UnitFile[]): Promise<UnitFile[]> {
  const paths = files.map(({ path }) => quote(path)).join(' ')
  const sums = await host.run(`sha256sum ${paths} 2>/dev/null; stat -c '%a %n' ${paths} 2>/dev/null`, {
    root: true,
  })
  const lines = new Set(sums.stdout.split('\n'))
  return files.filter(({ path, text, mode }) => {
    const sum = createHash('sha256').update(text).digest('hex')
    return !lines.has(`${sum}  ${path}`) || !lines.has(`${mode.toString(8)} ${path}`)
  })
}

/** Whether a unit of ours is there that the host is not to have. */
export async function hasUnwanted(
  host: Host,
  options: Parameters<typeof unwantedUnits>[0],
): Promise<boolean> {
  const there = unwantedUnits(options).map((name) => `[ -e ${paths.systemd}/${name} ]`)
  return (await host.run(['false', ...there].join(' || '), { root: true })).status === 0
}

/** Whether systemd has the port of names; it lets go of it for good when the agent dies too often, or cannot have it. */
export async function areNamesHeld(host: Host): Promise<boolean> {
  return (await host.run(`systemctl is-active --quiet ${units.agentSocket}`)).status === 0
}

export interface UnitChange {
  readonly socket: boolean
  readonly agentSocket: boolean
  /** The proxy's service: how it runs, not which release. */
  readonly proxy: boolean
}

/** Writes units, the command and the drop-ins of units with an identity. */
export async function writeUnits(
  host: Host,
  release: Release,
  config: HostConfig,
  options: { facts: HostFacts; timers: boolean },
): Promise<UnitChange> {
  const wanted = unitOptions(config, options)
  const changed = await changedUnits(host, await hostUnits(release.folder, wanted))
  await Promise.all(changed.map((file) => host.put(file.path, file.text, { mode: file.mode })))
  const unwanted = unwantedUnits(wanted)
  if (unwanted.length > 0) {
    await host.run(
      `systemctl disable --quiet --now ${unwanted.join(' ')}; systemctl reset-failed ${unwanted.join(' ')}; rm -f ${unwanted.map((name) => `${paths.systemd}/${name}`).join(' ')}`,
      { root: true },
    )
  }
  await syncDropIns(host, capturedUnits(config))
  await must(host, 'reload systemd', 'systemctl daemon-reload', { timeoutMs: 60_000 })
  const isChanged = (name: string): boolean => changed.some((file) => file.path.endsWith(`/${name}`))
  return {
    socket: isChanged(units.proxySocket),
    agentSocket: isChanged(units.agentSocket),
    proxy: isChanged(units.proxy),
  }
}

/** Which units a host is to have. */
export function unitOptions(
  config: HostConfig,
  { facts, timers }: { facts: HostFacts; timers: boolean },
): UnitOptions {
  return { ipv6: facts.ipv6, timers, dns: config.dns !== 'off', workers: config.workers }
}

/** Units whose processes speak as a service, as far as anything is captured. */
export function capturedUnits(config: HostConfig): string[] {
  if (config.capture.outbound === 'off') return []
  return config.services.flatMap(({ unit }) => (unit === null ? [] : [unit]))
}

/** Starts everything, or takes an update into use; the sockets stay open unless they changed. */
export async function startUnits(
  host: Host,
  change: UnitChange & { update: boolean; timers: boolean; dns: boolean },
): Promise<void> {
  const main = `${units.proxySocket} ${units.proxy} ${units.agent} ${change.dns ? units.agentSocket : ''}`
  await must(host, 'enable the units', `systemctl enable --quiet ${main}`, { timeoutMs: 60_000 })
  if (change.update && change.socket) {
    await must(
      host,
      'restart the sockets',
      `systemctl stop ${units.proxySocket} ${units.proxy} && systemctl start ${units.proxySocket}`,
      {
        timeoutMs: 120_000,
      },
    )
  }
  const verb = change.update ? 'restart' : 'start'
  // A reload serves new connections all the time. What is set for the service itself holds from a restart on only.
  const canReload = change.update && !change.socket && !change.proxy
  const takeProxy = `systemctl ${verb} ${units.proxy}`
  await must(
    host,
    'start the units',
    `systemctl start ${units.proxySocket} && ` +
      `${canReload ? `{ systemctl reload ${units.proxy} || ${takeProxy}; }` : takeProxy} && ` +
      `${change.dns ? `${holdNames(change.agentSocket)} && ` : ''}systemctl ${verb} ${units.agent}`,
    { timeoutMs: 120_000 },
  )
  if (change.timers)
    await must(host, 'start the timers', `systemctl enable --quiet --now ${timerUnits.map(quote).join(' ')}`)
}

/** A socket cannot start beside its running service; one that is as it should be stays, and keeps what waits in it. */
function holdNames(isChanged: boolean): string {
  const { address, port } = plainListen
  const taken = `systemd cannot have port ${port} of ${address}; ss -lntup "sport = ${port}" tells who has it`
  const anew =
    `systemctl stop ${units.agentSocket} ${units.agent} && ` +
    `{ systemctl start ${units.agentSocket} || { echo ${quote(taken)} >&2; false; }; }`
  return isChanged ? anew : `{ systemctl is-active --quiet ${units.agentSocket} || { ${anew}; }; }`
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1) ?? ''
}
