// What a machine is: gathered by one script in one round trip, parsed here.
import { MeshError, reason } from '../errors.ts'
import { systemClock, type Clock } from '../clock.ts'
import type { Host } from './host.ts'
import { parseResolver, resolverProbe, type ResolverState } from './resolver.ts'

export interface Listener {
  readonly address: string
  readonly port: number
  /** The program's name, '' when unknown. */
  readonly process: string
}

export interface HostFacts {
  readonly os: { readonly id: string; readonly like: string; readonly version: string; readonly name: string }
  /** Node's names: x64, arm64; others as uname says. */
  readonly arch: string
  readonly kernel: string
  readonly hostname: string
  readonly addresses: readonly string[]
  readonly bootId: string
  readonly root: boolean
  /** Why not root, '' when root. */
  readonly rootReason: string
  readonly systemd: { readonly version: number; readonly state: string } | null
  readonly iptables: {
    readonly version: string
    readonly flavour: 'nft' | 'legacy'
    readonly mixed: boolean
  } | null
  readonly ip6tables: boolean
  /** IPv6 is switched on. */
  readonly ipv6: boolean
  readonly ipset: boolean
  readonly matches: {
    readonly set: boolean
    readonly cgroup: boolean
    readonly owner: boolean
    readonly redirect: boolean
    readonly conntrack: boolean
  }
  readonly cgroup: 'v2' | 'hybrid' | 'v1'
  readonly sshPorts: readonly number[]
  /** Address of the machine this session comes from; null: not over SSH. */
  readonly sessionPeer: string | null
  readonly listeners: readonly Listener[]
  /** Positive: the host's clock is ahead. */
  readonly clockSkewMs: number
  readonly diskFreeMb: Readonly<Record<string, number>>
  readonly memoryMb: number
  /** Folders that join writes to and root cannot; meaningless without root. */
  readonly readOnly: readonly string[]
  readonly resolver: ResolverState
  /** An earlier meshctl: names '' when a join was not finished. */
  readonly installed: { readonly mesh: string; readonly host: string; readonly release: string } | null
  /** A Consul agent listens on 127.0.0.1:8500. */
  readonly consulAgent: boolean
  readonly users: readonly string[]
  /** Systemd's units: files, and what runs without one. */
  readonly units: readonly string[]
  readonly missingTools: readonly string[]
  readonly selinux: string
}

const tools =
  'systemctl systemd-run ss ip gzip sha256sum timeout getent useradd userdel flock readlink stat mktemp sync'.split(
    ' ',
  )

const script = `
PATH=$PATH:/usr/sbin:/sbin; export PATH; LC_ALL=C; export LC_ALL
section() { echo; echo "@@$1"; }
section os; cat /etc/os-release 2>/dev/null
section arch; uname -m
section kernel; uname -r
section hostname; cat /proc/sys/kernel/hostname
section addresses; ip -o addr show scope global 2>/dev/null | awk '{print $4}'
section boot; cat /proc/sys/kernel/random/boot_id
section uid; id -u
section systemd; if [ -d /run/systemd/system ]; then systemctl --version | head -1; systemctl is-system-running; fi
section iptables; iptables -V 2>/dev/null
section other
if iptables -V 2>/dev/null | grep -q nf_tables; then
  if [ -s /proc/net/ip_tables_names ] && command -v iptables-legacy-save >/dev/null; then iptables-legacy-save 2>/dev/null | grep -c '^-A'; fi
elif command -v iptables-nft-save >/dev/null; then iptables-nft-save 2>/dev/null | grep -c '^-A'; fi
section ipv6; if [ -e /proc/net/if_inet6 ]; then cat /proc/sys/net/ipv6/conf/all/disable_ipv6; fi
section ip6tables; ip6tables-save -t nat >/dev/null 2>&1 && ip6tables -w 5 -t nat -S >/dev/null 2>&1 && echo yes
section ipset; ipset --version 2>/dev/null
section matches
# Names with the process in them: two may ask at once, and what one that was broken off has left must not be in the way.
for old in $(iptables-save -t nat 2>/dev/null | sed -n 's/^:MESHTEST_\\([0-9]*\\) .*/\\1/p'); do
  [ -d /proc/$old ] || { iptables -w 5 -t nat -F MESHTEST_$old; iptables -w 5 -t nat -X MESHTEST_$old; ipset destroy meshtest_$old 2>/dev/null; }
done
chain=MESHTEST_$$; probe=meshtest_$$
if command -v iptables >/dev/null && iptables -w 5 -t nat -N $chain 2>/dev/null; then
  try() { iptables -w 5 -t nat -A $chain "$@" 2>/dev/null; }
  try -p tcp -j REDIRECT --to-ports 15001 && echo redirect
  try -m owner --uid-owner 0 -j RETURN && echo owner
  try -m conntrack --ctorigdstport 1 -p tcp -j RETURN && echo conntrack
  if ipset create $probe hash:net timeout 1 2>/dev/null; then
    try -m set --match-set $probe dst -j RETURN && echo set
  fi
  group=init.scope
  [ -d /sys/fs/cgroup/$group ] || [ -d /sys/fs/cgroup/unified/$group ] || group=/
  try -m cgroup --path $group -j RETURN && echo cgroup
  iptables -w 5 -t nat -F $chain; iptables -w 5 -t nat -X $chain
  for again in 1 2 3 4 5; do ipset destroy $probe 2>/dev/null && break; sleep 0.1 2>/dev/null || break; done
fi
section cgroup; if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then echo v2; elif [ -d /sys/fs/cgroup/unified ]; then echo hybrid; else echo v1; fi
section sshd; sshd -T 2>/dev/null | awk '$1=="port"{print $2}'
systemctl show ssh.socket sshd.socket -p Listen 2>/dev/null | sed -n 's/^Listen=.*:\\([0-9][0-9]*\\) (Stream)$/\\1/p'
section listeners; ss -Hltnp 2>/dev/null
section datagram; ss -Hlunp 2>/dev/null
section disk; df -Pk /opt /var/lib /etc 2>/dev/null | awk 'NR>1{print $6, $4}'
section readonly; for path in /opt /etc/systemd/system /usr/local/bin /var/lib /var/log; do
  at=$path; while [ ! -d $at ]; do at=$(dirname $at); done
  [ -w $at ] || echo $path
done
section memory; awk '$1=="MemTotal:"{print $2}' /proc/meminfo
section installed
# Beside control alone, /opt/meshctl is no remains of a join.
if [ -e /etc/meshctl ] || [ -e /var/lib/meshctl/journal ] ||
  { [ -e /opt/meshctl ] && [ ! -e /etc/systemd/system/meshctl-control.service ]; }; then
  echo "release=$(readlink /opt/meshctl/current 2>/dev/null)"
  cat /var/lib/meshctl/journal/joined 2>/dev/null
fi
section users; getent passwd | cut -d: -f1
section units; for list in list-unit-files 'list-units --all --plain'; do
  systemctl $list --no-legend --no-pager 2>/dev/null | awk '{print $1}'
done
section tools; for tool in ${tools.join(' ')}; do command -v $tool >/dev/null || echo $tool; done
section selinux; getenforce 2>/dev/null
${resolverProbe}
section time; date +%s%N
`

/** One script as root (as the user where that is not possible), two short commands beside it. */
export async function gatherFacts(host: Host, clock: Clock = systemClock): Promise<HostFacts> {
  const session = await host.run('echo "${SSH_CONNECTION:-}"')
  let root = true
  let why = ''
  try {
    const who = await host.run('id -u', { root: true })
    root = who.status === 0 && who.stdout.trim() === '0'
    if (!root) why = who.stderr.trim().split('\n').at(-1) ?? ''
  } catch (error) {
    if (error instanceof MeshError && error.code === 'MSH0501') throw error
    root = false
    why = reason(error)
  }
  const before = clock.now()
  const result = await host.run('sh -s', { root, input: script, timeoutMs: 60_000 })
  const after = clock.now()
  if (result.status !== 0) {
    throw new MeshError(
      'MSH0507',
      `${host.label}: facts could not be read: ${result.stderr.trim().slice(0, 300)}`,
    )
  }
  return parseFacts(result.stdout, { root, why, session: session.stdout, before, after })
}

export interface FactsContext {
  readonly root: boolean
  readonly why: string
  readonly session: string
  /** Wall clock around the script, ms. */
  readonly before: number
  readonly after: number
}

/** The script's output → facts. */
export function parseFacts(text: string, context: FactsContext): HostFacts {
  const sections = split(text)
  const lines = (name: string): string[] =>
    (sections.get(name) ?? '').split('\n').filter((line) => line !== '')
  const first = (name: string): string => lines(name)[0]?.trim() ?? ''
  const os = release(lines('os'))
  const listeners = lines('listeners')
    .map(listener)
    .filter((found) => found !== null)
  const session = context.session.trim().split(/\s+/)
  const kinds = new Set(lines('matches').map((line) => line.trim()))
  const installed = new Map(lines('installed').map((line) => splitOnce(line, '=')))
  const machine = first('arch')
  return {
    os,
    arch: { x86_64: 'x64', aarch64: 'arm64' }[machine] ?? machine,
    kernel: first('kernel'),
    hostname: first('hostname'),
    addresses: lines('addresses').map((line) => line.trim().split('/')[0] ?? ''),
    bootId: first('boot'),
    root: context.root,
    rootReason: context.why,
    systemd: systemd(lines('systemd')),
    iptables: iptables(first('iptables'), first('other')),
    ip6tables: first('ip6tables') === 'yes',
    ipv6: first('ipv6') === '0',
    ipset: first('ipset') !== '',
    matches: {
      set: kinds.has('set'),
      cgroup: kinds.has('cgroup'),
      owner: kinds.has('owner'),
      redirect: kinds.has('redirect'),
      conntrack: kinds.has('conntrack'),
    },
    cgroup: first('cgroup') === 'v2' ? 'v2' : first('cgroup') === 'hybrid' ? 'hybrid' : 'v1',
    sshPorts: sshPorts(lines('sshd'), listeners, session),
    sessionPeer: session.length === 4 ? (session[0] ?? null) : null,
    listeners,
    clockSkewMs: skew(first('time'), context),
    diskFreeMb: Object.fromEntries(
      lines('disk').map((line): [string, number] => {
        const [path, kb] = splitOnce(line.trim(), ' ')
        return [path, Math.floor(Number(kb) / 1024)]
      }),
    ),
    readOnly: lines('readonly'),
    memoryMb: Math.floor(Number(first('memory')) / 1024),
    resolver: parseResolver(sections, [...lines('listeners'), ...lines('datagram')]),
    installed:
      installed.size === 0
        ? null
        : {
            mesh: installed.get('mesh') ?? '',
            host: installed.get('host') ?? '',
            release: installed.get('release') ?? '',
          },
    consulAgent: listeners.some((found) => found.port === 8500 && reachableLocally(found.address)),
    users: lines('users'),
    units: lines('units'),
    missingTools: lines('tools'),
    selinux: first('selinux').toLowerCase(),
  }
}

function split(text: string): Map<string, string> {
  const sections = new Map<string, string>()
  for (const part of text.split(/^@@/m).slice(1)) {
    const [name, body] = splitOnce(part, '\n')
    sections.set(name.trim(), body)
  }
  return sections
}

function release(lines: string[]): HostFacts['os'] {
  const values = new Map(
    lines.map((line): [string, string] => {
      const [key, value] = splitOnce(line, '=')
      return [key, value.trim().replace(/^(["'])(.*)\1$/, '$2')]
    }),
  )
  return {
    id: values.get('ID') ?? '',
    like: values.get('ID_LIKE') ?? '',
    version: values.get('VERSION_ID') ?? '',
    name: values.get('PRETTY_NAME') ?? '',
  }
}

function systemd(lines: string[]): HostFacts['systemd'] {
  const version = /^systemd (\d+)/.exec(lines[0] ?? '')?.[1]
  return version === undefined ? null : { version: Number(version), state: lines[1]?.trim() ?? '' }
}

function iptables(version: string, otherRules: string): HostFacts['iptables'] {
  const number = /v(\d[\w.]*)/.exec(version)?.[1]
  if (number === undefined) return null
  return {
    version: number,
    flavour: version.includes('nf_tables') ? 'nft' : 'legacy',
    mixed: Number(otherRules) > 0,
  }
}

/** `LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=1,fd=3))` */
function listener(line: string): Listener | null {
  const fields = line.trim().split(/\s+/)
  const local = fields[3] ?? ''
  const at = local.lastIndexOf(':')
  const port = Number(local.slice(at + 1))
  if (at < 0 || !Number.isInteger(port)) return null
  return {
    address: local
      .slice(0, at)
      .replace(/^\[|\]$/g, '')
      .replace(/%.*$/, ''),
    port,
    process: /users:\(\("([^"]+)"/.exec(line)?.[1] ?? '',
  }
}

/** From its config, from the kernel, and the one this session came in by. */
function sshPorts(configured: string[], listeners: Listener[], session: string[]): number[] {
  const found = new Set<number>()
  for (const line of configured) found.add(Number(line.trim()))
  for (const one of listeners) if (one.process === 'sshd') found.add(one.port)
  if (session.length === 4) found.add(Number(session[3]))
  return [...found].filter((port) => Number.isInteger(port) && port > 0).toSorted((a, b) => a - b)
}

/** The script reads the host's clock at its very end, so the comparison is with the moment the answer came. */
function skew(nanoseconds: string, context: FactsContext): number {
  const there = Number(nanoseconds.slice(0, -6))
  if (!Number.isFinite(there) || there === 0) return 0
  if (there > context.after) return there - context.after
  if (there < context.before) return there - context.before
  return 0
}

function reachableLocally(address: string): boolean {
  return ['127.0.0.1', '0.0.0.0', '*', '::', '::1'].includes(address)
}

function splitOnce(text: string, mark: string): [string, string] {
  const at = text.indexOf(mark)
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + mark.length)]
}
