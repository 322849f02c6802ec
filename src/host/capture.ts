// The kernel's redirection of connections to the proxy: what is wanted (CapturePlan), and the verbs that bring a host
// there and back. docs/architecture.md, "Capture", has the drawing.
import { MeshError, reason } from '../errors.ts'
import { pathsUnder } from '../paths.ts'
import { quote, type Host } from './host.ts'
import { allSets, createSets, fillInstances, heartbeat, sets } from './ipset.ts'
import {
  drift,
  identityInput,
  removal,
  render,
  restoration,
  vipRange,
  type CallerMatch,
  type Family,
  type ResolvedCapture,
} from './iptables.ts'
import { ruleFile, ruleFolder, unitName, unitStates, type UnitState } from './units.ts'

/** What the kernel shall redirect, in the words of host.json; names are resolved when it is applied. */
export interface CapturePlan {
  readonly outbound: 'mesh' | 'all' | 'off'
  /** Declared ports of local services; `closed` keeps refusing while nothing of ours is alive. */
  readonly inbound: readonly { readonly port: number; readonly onFailure: 'open' | 'closed' }[]
  readonly identities: readonly CaptureIdentity[]
  /** The user whose own connections are never captured. */
  readonly proxyUser: string
  /** Units whose own connections are never captured (the agent: its health checks must reach the application itself). */
  readonly exemptUnits: readonly string[]
  /** sshd's ports; neither inbound nor outbound are they ever captured. */
  readonly sshPorts: readonly number[]
  readonly excludePorts: readonly number[]
  readonly excludeCidrs: readonly string[]
}

export interface CaptureIdentity {
  /** 15101… */
  readonly capturePort: number
  /** A systemd unit (service, slice or scope), or a user name; neither: nobody calls out as it. */
  readonly unit: string | null
  readonly user: string | null
}

const paths = pathsUnder()

/** Where virtual addresses are routed: to the host itself, so that no default route is needed and none ever leaves. */
const route = `${vipRange} dev lo`

/**
 * Brings the rules of both families to the plan: sets first, then each table in one transaction. When any step fails
 * the rules are put back as they were and MSH0601 is thrown. Idempotent. Nothing is redirected before the first `beat`.
 */
export async function applyCapture(host: Host, plan: CapturePlan): Promise<void> {
  const families = await activeFamilies(host)
  const before = await saved(host, families)
  const resolved = await resolveCapture(host, plan)
  const done: Family[] = []
  try {
    await restoreSets(host, families.map(createSets).join(''))
    await writeRuleFiles(host, plan, resolved.units, families)
    await command(host, `ip route replace ${route}`)
    for (const family of families) {
      done.push(family)
      await restoreRules(host, family, render(resolved.capture, family, before[family]))
    }
  } catch (error) {
    await rollBack(host, done, before)
    throw error instanceof MeshError ? error : new MeshError('MSH0601', reason(error), { cause: error })
  }
}

/** What is not as the plan wants it, one line each; empty: all is in place. Cheap: it reads, it does not write. */
export async function captureDrift(host: Host, plan: CapturePlan): Promise<string[]> {
  const families = await activeFamilies(host)
  const present = await saved(host, families)
  const { capture } = await resolveCapture(host, plan)
  const out = families.flatMap((family) => drift(capture, family, present[family]))
  const there = await host.run(`ip route show ${vipRange}; echo @@; ipset list -n`, { root: true })
  const [routes = '', names = ''] = there.stdout.split('@@')
  if (!routes.includes('dev lo')) out.push(`route ${route} is gone`)
  const kept = new Set(names.trim().split('\n'))
  for (const family of families) {
    for (const name of Object.values<string>({ ...sets(family) }))
      if (!kept.has(name)) out.push(`ipset ${name} is gone`)
  }
  return out
}

/** Removes every rule, chain, set, route and rule file of ours. Idempotent. Drop-ins belong to join. */
export async function removeCapture(host: Host): Promise<void> {
  for (const family of [4, 6] as const) {
    const save = await host.run(`${program(family)}-save`, { root: true })
    if (save.status === 0) await restoreRules(host, family, removal(save.stdout))
  }
  // The kernel lets go of a removed rule's set a moment later.
  await host.run(
    `ip route del ${route} 2>/dev/null; rm -rf ${ruleFolder}; for set in ${allSets.join(' ')}; do ` +
      'for try in 1 2 3 4 5 6 7 8 9; do ipset list -n $set >/dev/null 2>&1 || break; ' +
      'ipset destroy $set 2>/dev/null || sleep 0.2; done; done; true',
    { root: true },
  )
}

/** Replaces the registered instances, `address,port` of both families, in one step each. */
export async function setInstances(host: Host, instances: readonly string[]): Promise<void> {
  await restoreSets(
    host,
    ([4, 6] as const).map((family) => createSets(family) + fillInstances(family, instances)).join(''),
  )
}

/** Keeps the rules in force for so many seconds from now; 0 ends it at once. */
export async function beat(host: Host, seconds: number): Promise<void> {
  await restoreSets(
    host,
    ([4, 6] as const).map((family) => createSets(family) + heartbeat(family, seconds)).join(''),
  )
}

interface Resolution {
  readonly capture: ResolvedCapture
  readonly units: readonly UnitState[]
}

/** Names → what the kernel compares. A user that does not exist is an error, a unit that does not run is not. */
async function resolveCapture(host: Host, plan: CapturePlan): Promise<Resolution> {
  const names = [
    plan.proxyUser,
    ...plan.identities.flatMap(({ user, unit }) => (unit === null && user !== null ? [user] : [])),
  ]
  const ids = await host.run(
    names.map((name) => `id -u -- ${quote(name)} 2>/dev/null || echo none`).join('\n'),
  )
  const uids = ids.stdout.trim().split('\n')
  const uid = (name: string): number => {
    const found = Number(uids[names.indexOf(name)])
    if (!Number.isInteger(found)) throw new MeshError('MSH0601', `there is no user "${name}" on the host`)
    return found
  }
  const units = await unitStates(host, [
    ...plan.exemptUnits,
    ...plan.identities.flatMap(({ unit }) => (unit === null ? [] : [unit])),
  ])
  const state = (unit: string): UnitState | undefined => units.find((one) => one.unit === unitName(unit))
  const match = ({ unit, user }: CaptureIdentity): CallerMatch | null => {
    if (unit === null) return user === null ? null : { uid: uid(user) }
    const found = state(unit)
    return found?.present === true ? { cgroup: found.cgroup } : null
  }
  return {
    units,
    capture: {
      outbound: plan.outbound,
      inbound: plan.inbound.filter(
        ({ port }) => !plan.sshPorts.includes(port) && !plan.excludePorts.includes(port),
      ),
      identities: plan.identities.map((identity) => ({
        capturePort: identity.capturePort,
        match: match(identity),
      })),
      proxyUid: uid(plan.proxyUser),
      exemptCgroups: plan.exemptUnits.flatMap((unit) =>
        state(unit)?.present === true ? [state(unit)?.cgroup ?? ''] : [],
      ),
      // Port 22 stays free even where sshd could not be found.
      sshPorts: plan.sshPorts.length === 0 ? [22] : plan.sshPorts,
      excludePorts: plan.excludePorts,
      excludeCidrs: plan.excludeCidrs,
    },
  }
}

/** The files that drop-ins feed to iptables-restore at each start of their unit. */
async function writeRuleFiles(
  host: Host,
  plan: CapturePlan,
  units: readonly UnitState[],
  families: readonly Family[],
): Promise<void> {
  const wanted = new Map<string, string>()
  for (const { unit, capturePort } of plan.outbound === 'off' ? [] : plan.identities) {
    const state = unit === null ? undefined : units.find((one) => one.unit === unitName(unit))
    if (state === undefined) continue
    for (const family of families)
      wanted.set(ruleFile(state.unit, family), identityInput(capturePort, { cgroup: state.cgroup }))
  }
  await command(host, `mkdir -p -m 0755 ${paths.run} && mkdir -p -m 0700 ${ruleFolder}`)
  const listed = await host.run(`ls ${ruleFolder}`, { root: true })
  const gone = listed.stdout
    .split('\n')
    .filter((name) => name !== '' && !wanted.has(`${ruleFolder}/${name}`))
    .map((name) => quote(`${ruleFolder}/${name}`))
  if (gone.length > 0) await command(host, `rm -f ${gone.join(' ')}`)
  for (const [path, text] of wanted) await host.put(path, text, { mode: 0o600 })
}

type Saved = Record<Family, string>

async function saved(host: Host, families: readonly Family[]): Promise<Saved> {
  const out: Saved = { 4: '', 6: '' }
  for (const family of families) out[family] = await command(host, `${program(family)}-save`)
  return out
}

async function rollBack(host: Host, families: readonly Family[], before: Saved): Promise<void> {
  for (const family of families) {
    const now = await host.run(`${program(family)}-save`, { root: true })
    const input = restoration(before[family], now.stdout)
    if (input !== '') await host.run(`${program(family)}-restore -w 5 --noflush`, { root: true, input })
  }
  if (!Object.values(before).some((save) => save.includes('MESHCTL_'))) await removeCapture(host)
}

async function restoreRules(host: Host, family: Family, input: string): Promise<void> {
  if (input === '') return
  const result = await host.run(`${program(family)}-restore -w 5 --noflush`, {
    root: true,
    input,
    timeoutMs: 20_000,
  })
  if (result.status === 0) return
  const line = Number(/line:? (\d+)/.exec(result.stderr)?.[1])
  const rule = Number.isInteger(line) ? (input.split('\n')[line - 1] ?? '') : ''
  throw new MeshError('MSH0601', `${program(family)}-restore: ${result.stderr.trim().split('\n')[0] ?? ''}`, {
    details: rule === '' ? [] : [rule],
  })
}

async function restoreSets(host: Host, input: string): Promise<void> {
  const result = await host.run('ipset restore', { root: true, input, timeoutMs: 20_000 })
  if (result.status !== 0)
    throw new MeshError('MSH0601', `ipset: ${result.stderr.trim().split('\n').at(-1) ?? ''}`)
}

/** IPv6 rules are left out only where the host has IPv6 switched off. */
async function activeFamilies(host: Host): Promise<Family[]> {
  const off = await host.run(
    '[ ! -e /proc/net/if_inet6 ] || [ "$(cat /proc/sys/net/ipv6/conf/all/disable_ipv6)" = 1 ]',
  )
  return off.status === 0 ? [4] : [4, 6]
}

function program(family: Family): string {
  return family === 4 ? 'iptables' : 'ip6tables'
}

async function command(host: Host, line: string): Promise<string> {
  const result = await host.run(line, { root: true, timeoutMs: 20_000 })
  if (result.status !== 0) {
    throw new MeshError(
      'MSH0601',
      `${line.split(' ')[0] ?? ''}: ${result.stderr.trim().split('\n').at(-1) ?? ''}`,
    )
  }
  return result.stdout
}
