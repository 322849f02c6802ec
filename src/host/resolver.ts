// How the host looks names up, and how names of the mesh come to us: a drop-in of systemd-resolved, or one line in
// /etc/resolv.conf. Everything else goes to the resolver that was there, and removal puts back the very bytes.
import { MeshError } from '../errors.ts'
import { pathsUnder } from '../paths.ts'
import { quote, type Host } from './host.ts'

/**
 * Where the agent answers the host's resolver. A port below 1024: while the agent restarts no other user can take its place,
 * as any could on port 15053. And resolv.conf knows no ports.
 */
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
  /** /etc/resolv.conf is a link: its text lies elsewhere. */
  readonly linked: boolean
  readonly immutable: boolean
  /** Something already listens on port 53 of every address. */
  readonly port53: boolean
  /** The program that has the agent's own port, '' when unknown; null: none. */
  readonly holder: string | null
  /** Ports as low as 53 are anybody's (net.ipv4.ip_unprivileged_port_start). */
  readonly isOpenToAll: boolean
  /** The servers that were there, ours left out, in order. */
  readonly servers: readonly string[]
  /** Ours is in place. */
  readonly installed: boolean
  /** The journal says that ours has been put in place and not been taken away. */
  readonly recorded: boolean
}

const resolvConf = '/etc/resolv.conf'
const dropIn = '/etc/systemd/resolved.conf.d/50-meshctl.conf'
const dropInFolder = dropIn.slice(0, dropIn.lastIndexOf('/'))
const paths = pathsUnder()
const journal = `${paths.journal}/resolver`
const marker = '# added by meshctl; everything but *.mesh goes on to the servers below'
const ours = `nameserver ${plainListen.address}`

/** Part of the facts script; the sections that `parseResolver` reads. */
export const resolverProbe = `
section resolv; cat ${resolvConf} 2>/dev/null
section resolvlink; readlink -f ${resolvConf}
section resolved; systemctl is-active systemd-resolved 2>/dev/null
section resolvectl; resolvectl dns 2>/dev/null
section lowest; cat /proc/sys/net/ipv4/ip_unprivileged_port_start 2>/dev/null
section immutable; lsattr -d ${resolvConf} 2>/dev/null | cut -d' ' -f1
section dropin; cat ${dropIn} 2>/dev/null
section configured; systemd-analyze cat-config systemd/resolved.conf 2>/dev/null
section original; cat ${journal}/servers 2>/dev/null
section recorded; ls -d ${journal} 2>/dev/null`

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
    .filter((server) => server !== '' && server !== plainListen.address)
  // A drop-in of ours resets the global servers: those of the other files are asked, which may have changed since, and
  // the journal where they cannot be read.
  const kept = configured(sections.get('configured') ?? '') ?? words(sections.get('original') ?? '')
  const held = sockets.find((line) => line.includes(` ${plainListen.address}:${plainListen.port} `))
  const servers = stub
    ? [...new Set([...behind, ...kept])]
    : listed.filter((server) => server !== plainListen.address)
  return {
    kind: stub ? 'resolved' : manager(target, conf) !== '' ? 'managed' : 'plain',
    by: stub ? 'systemd-resolved' : manager(target, conf),
    immutable: (sections.get('immutable') ?? '').includes('i'),
    port53: sockets.some((line) => /(^|\s)(0\.0\.0\.0|\*|\[::\]):53\s/.test(line)),
    holder: held === undefined ? null : (/users:\(\("([^"]+)"/.exec(held)?.[1] ?? ''),
    isOpenToAll: Number((sections.get('lowest') ?? '').trim() || 1024) <= plainListen.port,
    servers,
    installed: stub
      ? /^DNS=127\.0\.0\.153$/m.test(sections.get('dropin') ?? '')
      : listed[0] === plainListen.address,
    recorded: (sections.get('recorded') ?? '').trim() !== '',
    linked: target !== '' && target !== resolvConf,
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
  return (state.kind === 'plain' || !state.linked) && !state.immutable ? 'resolv.conf' : 'off'
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
      `# meshctl: names of the mesh\n[Resolve]\nDNS=\nDNS=${plainListen.address}\nDomains=~mesh\n`,
      { mode: 0o644 },
    )
    await must(host, 'systemctl reload-or-restart systemd-resolved')
    return
  }
  // Others may write the file (the agent puts ours back after them), but not keep it elsewhere.
  if (state.kind !== 'plain' && state.linked)
    throw refused(`/etc/resolv.conf is kept by ${state.by}`, '--dns off')
  if (state.immutable) throw refused('/etc/resolv.conf is immutable', 'chattr -i /etc/resolv.conf')
  if (state.installed) return
  // It may have become a link to another program's file since it was looked at.
  const still = state.linked ? '' : `[ ! -L ${resolvConf} ] || { echo 'it has become a link' >&2; exit 1; }\n`
  await must(host, still + installScript)
}

/** What the file says without our lines. */
const stripped = `grep -vxF -e ${quote(marker)} -e ${quote(ours)}`

/**
 * POSIX sh. Keeps what is there now, whoever wrote it, as what removal puts back; then ours comes in, whole or not at
 * all: a plug pulled in between must not leave an empty file. Join and agent may both be at it.
 */
const installScript = `set -e; umask 022; mkdir -p ${journal}; exec 8< ${journal}; flock -w 20 8
[ "$(sed -n 's/^nameserver *//p' ${resolvConf} | head -n1)" != ${plainListen.address} ] || exit 0
target=$(readlink -f ${resolvConf}); cd ${journal}
cp -p $target resolv.conf.new
if grep -qxF -e ${quote(ours)} $target; then ${stripped} $target > resolv.conf.new || true; fi
{ echo ${quote(marker)}; echo ${quote(ours)}; cat resolv.conf.new; } > resolv.conf.ours.new
sync resolv.conf.new resolv.conf.ours.new 2>/dev/null || true
mv resolv.conf.ours.new resolv.conf.ours; mv resolv.conf.new resolv.conf
if cp -a $target $target.meshctl && cat resolv.conf.ours > $target.meshctl && sync $target.meshctl && mv -f $target.meshctl $target
then :; else rm -f $target.meshctl; cat resolv.conf.ours > $target; fi`

/** Puts back what was there. Idempotent. A file that others have rewritten since only loses our lines. */
export async function removeResolver(host: Host): Promise<void> {
  await must(host, removeResolverScript)
}

/** POSIX sh; undo.sh in templates/ holds the same steps. */
const removeResolverScript = `
place() {
  target=$(readlink -f ${resolvConf})
  if cp -a "$1" "$target.meshctl" && sync "$target.meshctl" && mv -f "$target.meshctl" "$target"; then return; fi
  rm -f "$target.meshctl"; cat "$1" > "$target" && touch -r "$1" "$target"
}
if [ -e ${dropIn} ]; then
  rm -f ${dropIn}; [ ! -e ${journal}/made ] || rmdir ${dropInFolder} 2>/dev/null
  systemctl reload-or-restart systemd-resolved
fi
rm -f ${resolvConf}.meshctl
if [ -e ${journal}/resolv.conf.ours ] && [ -e ${journal}/resolv.conf ] && cmp -s ${resolvConf} ${journal}/resolv.conf.ours; then
  place ${journal}/resolv.conf
elif [ ! -L ${resolvConf} ] && grep -qxF '${ours}' ${resolvConf} 2>/dev/null; then
  mkdir -p ${journal}; cp -a ${resolvConf} ${journal}/stripped; ${stripped} ${resolvConf} > ${journal}/stripped
  place ${journal}/stripped
fi
rm -rf ${journal}
`

/**
 * The entry of /etc/resolv.conf in an inventory (`0644 root:root 1f3a…`) after a removal now: what was there last, be it
 * from before the join or from others since; null: the file is not ours to change.
 */
export async function resolverAfterRemoval(host: Host): Promise<string | null> {
  const script = `[ -e ${resolvConf} ] && [ ! -L ${resolvConf} ] || exit 1
if cmp -s ${resolvConf} ${journal}/resolv.conf.ours && [ -e ${journal}/resolv.conf ]; then
  stat -c '%a %U:%G' ${journal}/resolv.conf; sha256sum < ${journal}/resolv.conf
elif grep -qxF ${quote(ours)} ${resolvConf}; then stat -c '%a %U:%G' ${resolvConf}; ${stripped} ${resolvConf} | sha256sum
else stat -c '%a %U:%G' ${resolvConf}; sha256sum < ${resolvConf}; fi`
  const result = await host.run(script, { root: true })
  const found = /^(\d+) (\S+)\n([0-9a-f]{16})/.exec(result.stdout)
  if (result.status !== 0 || found === null) return null
  return `${(found[1] ?? '').padStart(4, '0')} ${found[2] ?? ''} ${found[3] ?? ''}`
}

/** The text of the files that decide whom the host asks; cheap, to see that nothing changed. */
export async function resolverFiles(host: Host, mode: ResolverMode): Promise<string> {
  const files = mode === 'resolved' ? [resolvConf, dropIn] : [resolvConf]
  const texts = await Promise.all(files.map((file) => host.get(file, { root: true })))
  return texts.map(String).join('\0')
}

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

/** The global servers in the output of `systemd-analyze cat-config`, our own file left out; null: it printed nothing. */
function configured(text: string): string[] | null {
  if (text.trim() === '') return null
  let servers: string[] = []
  let skip = false
  for (const line of text.split('\n')) {
    const file = /^# (\/\S+)$/.exec(line)?.[1]
    if (file !== undefined) skip = file === dropIn
    const value = skip ? undefined : /^\s*DNS\s*=(.*)$/.exec(line)?.[1]
    if (value !== undefined) servers = value.trim() === '' ? [] : [...servers, ...words(value)]
  }
  return servers
}

function words(text: string): string[] {
  return text
    .trim()
    .split(/\s+/)
    .filter((word) => word !== '')
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
