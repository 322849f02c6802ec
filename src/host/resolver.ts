// How the host looks names up, and how names of the mesh come to us: a drop-in of systemd-resolved, or one line in
// /etc/resolv.conf. Everything else goes to the resolver that was there, and removal puts back the very bytes.
import { MeshError } from '../errors.ts'
import { pathsUnder, ports } from '../paths.ts'
import { quote, type Host } from './host.ts'

/** Where the agent answers for hosts with a plain resolv.conf, which knows no ports. */
export const plainListen = { address: '127.0.0.153', port: 53 } as const

export type ResolverMode = 'resolved' | 'resolv.conf'

export interface ResolverState {
  /**
   * `resolved`: resolv.conf points at systemd-resolved's stub; `plain`: a file of its own; `managed`: another program
   * writes it.
   */
  readonly kind: 'resolved' | 'plain' | 'managed'
  /** Who manages it, '' otherwise. */
  readonly by: string
  readonly immutable: boolean
  /** Something already listens on port 53 of every address. */
  readonly port53: boolean
  /** The servers that were there, ours left out, in order. */
  readonly servers: readonly string[]
  /** Ours is in place. */
  readonly installed: boolean
}

const resolvConf = '/etc/resolv.conf'
const dropIn = '/etc/systemd/resolved.conf.d/50-meshctl.conf'
const dropInFolder = dropIn.slice(0, dropIn.lastIndexOf('/'))
const paths = pathsUnder()
const journal = `${paths.journal}/resolver`
const marker = '# added by meshctl; everything but *.mesh goes on to the servers below'
const ours = `nameserver ${plainListen.address}`

/** Part of the facts script: sections `resolv`, `resolvlink`, `resolved`, `resolvectl`, `immutable`, `dropin`. */
export const resolverProbe = `
section resolv; cat ${resolvConf} 2>/dev/null
section resolvlink; readlink -f ${resolvConf}
section resolved; systemctl is-active systemd-resolved 2>/dev/null
section resolvectl; resolvectl dns 2>/dev/null
section immutable; lsattr -d ${resolvConf} 2>/dev/null | cut -d' ' -f1
section dropin; cat ${dropIn} 2>/dev/null
section original; cat ${journal}/servers 2>/dev/null`

/** From the sections of `resolverProbe` and the lines of `ss`. */
export function parseResolver(
  sections: ReadonlyMap<string, string>,
  sockets: readonly string[],
): ResolverState {
  const conf = sections.get('resolv') ?? ''
  const target = (sections.get('resolvlink') ?? '').trim()
  const active = (sections.get('resolved') ?? '').trim() === 'active'
  const listed = nameservers(conf)
  const stub =
    active &&
    listed.length > 0 &&
    listed.every((server) => server === '127.0.0.53' || server === '127.0.0.54')
  const behind = (sections.get('resolvectl') ?? '')
    .split('\n')
    .flatMap((line) =>
      line
        .slice(line.indexOf(':') + 1)
        .trim()
        .split(/\s+/),
    )
    .filter((server) => server !== '' && !server.startsWith(`127.0.0.1:${ports.dns}`))
  const kept = (sections.get('original') ?? '')
    .trim()
    .split(/\s+/)
    .filter((server) => server !== '')
  // A drop-in of ours resets the global servers, so they are only in the journal.
  const servers = stub
    ? [...new Set([...behind, ...kept])]
    : listed.filter((server) => server !== plainListen.address)
  return {
    kind: stub ? 'resolved' : manager(target, conf) !== '' ? 'managed' : 'plain',
    by: stub ? 'systemd-resolved' : manager(target, conf),
    immutable: (sections.get('immutable') ?? '').includes('i'),
    port53: sockets.some((line) => /(^|\s)(0\.0\.0\.0|\*|\[::\]):53\s/.test(line)),
    servers,
    installed: stub
      ? (sections.get('dropin') ?? '').includes(`127.0.0.1:${ports.dns}`)
      : listed[0] === plainListen.address,
  }
}

/** The resolver as it is now. */
export async function detectResolver(host: Host): Promise<ResolverState> {
  const script = `section() { echo; echo "@@$1"; }\n${resolverProbe}\nsection sockets; ss -Hltn; ss -Hlun`
  const result = await host.run('sh -s', { root: true, input: script })
  const sections = new Map<string, string>()
  for (const part of result.stdout.split(/^@@/m).slice(1)) {
    const end = part.indexOf('\n')
    sections.set(part.slice(0, end).trim(), part.slice(end + 1))
  }
  return parseResolver(sections, (sections.get('sockets') ?? '').split('\n'))
}

/** The mode that fits the host by itself. */
export function resolverMode(state: ResolverState): ResolverMode | 'off' {
  if (state.kind === 'resolved') return 'resolved'
  return state.kind === 'plain' && !state.immutable ? 'resolv.conf' : 'off'
}

/** The servers that were there before ours; the agent sends everything outside the mesh to them. */
export async function originalResolvers(host: Host): Promise<string[]> {
  return [...(await detectResolver(host)).servers]
}

/**
 * Points names of the mesh at the agent. Idempotent. The agent must answer already: nothing is switched over before,
 * and with the agent down a plain resolv.conf goes on to the next server in the list.
 */
export async function installResolver(host: Host, mode: ResolverMode): Promise<void> {
  const state = await detectResolver(host)
  if (mode === 'resolved') {
    if (state.kind !== 'resolved')
      throw refused('systemd-resolved does not serve this host', '--dns resolv.conf')
    if (state.installed) return
    // Global servers and ours would be one list to resolved, which might ask the wrong one for a mesh name: the list is
    // replaced, and the agent passes the rest on to the servers of the journal.
    await must(
      host,
      `mkdir -p ${journal} && { [ -d ${dropInFolder} ] || { mkdir -p ${dropInFolder} && touch ${journal}/made; }; } && ` +
        `{ [ -e ${journal}/servers ] || resolvectl dns | sed -n 's/^Global://p' > ${journal}/servers; }`,
    )
    await host.put(
      dropIn,
      `# meshctl: names of the mesh\n[Resolve]\nDNS=\nDNS=127.0.0.1:${ports.dns}\nDomains=~mesh\n`,
      { mode: 0o644 },
    )
    await must(host, 'systemctl reload-or-restart systemd-resolved')
    return
  }
  if (state.kind === 'managed') throw refused(`/etc/resolv.conf is written by ${state.by}`, '--dns off')
  if (state.immutable) throw refused('/etc/resolv.conf is immutable', 'chattr -i /etc/resolv.conf')
  if (state.installed) return
  // Written over in place, so that owner, mode and a bind mount stay; the copy keeps the very bytes for removal.
  await must(
    host,
    `set -e; mkdir -p ${journal}; cp -p ${resolvConf} ${journal}/resolv.conf.new; ` +
      `{ echo ${quote(marker)}; echo ${quote(ours)}; grep -vxF -e ${quote(marker)} -e ${quote(ours)} ${resolvConf} || true; } > ${journal}/resolv.conf.ours; ` +
      `mv ${journal}/resolv.conf.new ${journal}/resolv.conf; cat ${journal}/resolv.conf.ours > ${resolvConf}`,
  )
}

/** Puts back what was there. Idempotent. A file that others have rewritten since only loses our lines. */
export async function removeResolver(host: Host): Promise<void> {
  await must(host, removeResolverScript)
}

/** POSIX sh; undo.sh in templates/ holds the same steps. */
const removeResolverScript = `
if [ -e ${dropIn} ]; then
  rm -f ${dropIn}; [ ! -e ${journal}/made ] || rmdir ${dropInFolder} 2>/dev/null
  systemctl reload-or-restart systemd-resolved
fi
if [ -e ${journal}/resolv.conf.ours ] && [ -e ${journal}/resolv.conf ] && cmp -s ${resolvConf} ${journal}/resolv.conf.ours; then
  cat ${journal}/resolv.conf > ${resolvConf} && touch -r ${journal}/resolv.conf ${resolvConf}
elif [ ! -L ${resolvConf} ] && grep -qxF '${ours}' ${resolvConf} 2>/dev/null; then
  grep -vxF -e '${marker}' -e '${ours}' ${resolvConf} > ${paths.run}/resolv.conf.$$ || true
  cat ${paths.run}/resolv.conf.$$ > ${resolvConf}; rm -f ${paths.run}/resolv.conf.$$
fi
rm -rf ${journal}
`

/** What is no longer as `installResolver` left it; empty: nothing. */
export async function resolverDrift(host: Host, mode: ResolverMode): Promise<string[]> {
  const state = await detectResolver(host)
  if (state.installed) return []
  if (mode === 'resolved') {
    return [
      state.kind === 'resolved'
        ? 'the drop-in of systemd-resolved is gone'
        : '/etc/resolv.conf no longer points at systemd-resolved',
    ]
  }
  return ['/etc/resolv.conf was rewritten and no longer asks the mesh first']
}

/** Programs that write resolv.conf, by what their link points to or what they leave in it. */
function manager(target: string, conf: string): string {
  if (target.includes('/systemd/resolve')) return 'systemd-resolved'
  if (target.includes('NetworkManager') || /Generated by NetworkManager/.test(conf)) return 'NetworkManager'
  if (target.includes('resolvconf') || /generated by resolvconf|resolvconf\(8\)/i.test(conf))
    return 'resolvconf'
  if (target.includes('/run/') || target.includes('/mnt/wsl')) return target
  return ''
}

function nameservers(conf: string): string[] {
  return conf
    .split('\n')
    .map((line) => /^\s*nameserver\s+(\S+)/.exec(line)?.[1] ?? '')
    .filter((server) => server !== '')
}

function refused(why: string, hint: string): MeshError {
  return new MeshError('MSH0509', why, { hint })
}

async function must(host: Host, command: string): Promise<void> {
  const result = await host.run(command, { root: true })
  if (result.status !== 0) {
    throw new MeshError('MSH0509', `${host.label}: ${result.stderr.trim().split('\n').at(-1) ?? 'failed'}`)
  }
}
