// Facts of a host → whether it can join. Pure: the same facts give the same findings.
import { ports } from '../paths.ts'
import type { HostFacts } from './facts.ts'
import { error, ok, warn, type Finding } from './finding.ts'
import { plainListen } from './resolver.ts'

export interface Wanted {
  /** Ports that local services declare. */
  readonly servicePorts: readonly number[]
  readonly dns: 'resolved' | 'resolv.conf' | 'off'
  readonly capture: boolean
  /** Users and units that services name. */
  readonly users: readonly string[]
  readonly units: readonly string[]
  /** Name and mesh to be joined, to tell a re-join from a host of another mesh. */
  readonly mesh: string
  readonly host: string
}

const minSystemd = 245
const minDiskMb = 400
const minMemoryMb = 200
const maxSkewMs = 30_000
const warnSkewMs = 5_000

/** Every check, errors first; a host may join when none is an error. */
export function preflight(facts: HostFacts, wanted: Wanted): Finding[] {
  const findings = [
    ...machine(facts),
    ...(wanted.capture ? capture(facts) : []),
    ...tools(facts),
    ...clock(facts),
    ...room(facts),
    ...listeners(facts, wanted),
    ...resolver(facts, wanted),
    ...lowPorts(facts, wanted),
    ...earlier(facts, wanted),
    ...callers(facts, wanted),
  ]
  const rank = { error: 0, warn: 1, ok: 2 }
  return findings.toSorted((a, b) => rank[a.level] - rank[b.level])
}

/** The command that installs packages on this distribution. */
export function installHint(os: HostFacts['os'], packages: readonly string[]): string {
  const family = `${os.id} ${os.like}`
  if (/debian|ubuntu/.test(family)) return `sudo apt-get install -y ${packages.join(' ')}`
  if (/rhel|fedora|centos|rocky|alma/.test(family)) return `sudo dnf install -y ${packages.join(' ')}`
  if (/suse/.test(family)) return `sudo zypper install -y ${packages.join(' ')}`
  return `install ${packages.join(', ')} with the system's package manager`
}

function machine(facts: HostFacts): Finding[] {
  const out: Finding[] = []
  out.push(
    facts.root
      ? ok('root', 'commands run as root')
      : error(
          'root',
          `no root rights: ${facts.rootReason}`,
          'log in as root or as a user with sudo; --sudo-password asks for its password',
        ),
  )
  out.push(
    facts.arch === 'x64' || facts.arch === 'arm64'
      ? ok('machine', `${facts.os.name || 'linux'}, ${facts.arch}, kernel ${facts.kernel}`)
      : error('machine', `architecture ${facts.arch} has no runtime`, 'meshctl runs on x86_64 and aarch64'),
  )
  if (facts.systemd === null) {
    out.push(
      error(
        'systemd',
        'the host does not run systemd',
        'meshctl installs systemd units; join hosts that boot with systemd',
      ),
    )
  } else if (facts.systemd.version < minSystemd) {
    out.push(
      error(
        'systemd',
        `version ${facts.systemd.version} is too old`,
        `systemd ${minSystemd} or newer is needed`,
      ),
    )
  } else if (facts.systemd.state === 'degraded') {
    out.push(warn('systemd', 'some units have failed (degraded)', 'systemctl --failed'))
  } else if (facts.systemd.state !== 'running') {
    out.push(
      warn(
        'systemd',
        `state is ${facts.systemd.state || 'unknown'}`,
        'wait until the host has finished booting',
      ),
    )
  } else {
    out.push(ok('systemd', `version ${facts.systemd.version}, running`))
  }
  if (facts.selinux === 'enforcing') {
    out.push(
      warn(
        'selinux',
        'selinux is enforcing; meshctl has no policy of its own',
        'watch `ausearch -m avc` after the join',
      ),
    )
  }
  return out
}

function capture(facts: HostFacts): Finding[] {
  const out: Finding[] = []
  const missing: string[] = []
  if (facts.iptables === null) missing.push('iptables')
  if (!facts.ipset) missing.push('ipset')
  if (missing.length > 0) {
    out.push(
      error(missing.join(', '), `not installed: ${missing.join(', ')}`, installHint(facts.os, missing)),
    )
  }
  if (facts.iptables === null) return out
  if (facts.iptables.mixed) {
    out.push(
      error(
        'iptables',
        'rules of both flavours, nft and legacy, are in the kernel',
        'move all rules to one flavour (`update-alternatives --config iptables`), then reboot or flush the other with iptables-legacy -F',
      ),
    )
  } else {
    out.push(ok('iptables', `${facts.iptables.version}, ${facts.iptables.flavour}`))
  }
  if (facts.ipv6 && !facts.ip6tables) {
    out.push(
      error(
        'ip6tables',
        'the host speaks IPv6, but ip6tables has no nat table',
        'load the kernel module ip6table_nat, or switch IPv6 off (sysctl net.ipv6.conf.all.disable_ipv6=1)',
      ),
    )
  }
  const lacks = Object.entries(facts.matches).filter(
    ([name, there]) => !there && (name !== 'set' || facts.ipset),
  )
  if (Object.values(facts.matches).every((there) => !there)) {
    out.push(
      error(
        'iptables',
        'no rule can be put into the nat table: its lock is held, or the kernel lacks it',
        'iptables -w 5 -t nat -S tells; then end the program that holds the lock, or load the module iptable_nat',
      ),
    )
    return out
  }
  for (const [name] of lacks) {
    out.push(
      error(
        'kernel',
        `iptables cannot use "${name}" here`,
        `load the kernel module ${modules[name] ?? `xt_${name}`}`,
      ),
    )
  }
  if (facts.cgroup === 'v1') {
    out.push(
      warn(
        'cgroup',
        'no cgroup v2: services cannot be told apart by their systemd unit',
        'declare services with a user instead of a unit',
      ),
    )
  }
  return out
}

const modules: Record<string, string> = {
  redirect: 'xt_REDIRECT',
  set: 'xt_set and ip_set',
  conntrack: 'nf_conntrack',
}

function tools(facts: HostFacts): Finding[] {
  return facts.missingTools.map((tool) =>
    error('tools', `${tool} is missing`, installHint(facts.os, [packageOf[tool] ?? tool])),
  )
}

const packageOf: Record<string, string> = {
  ss: 'iproute2',
  ip: 'iproute2',
  sha256sum: 'coreutils',
  timeout: 'coreutils',
  getent: 'libc-bin',
  useradd: 'passwd',
  userdel: 'passwd',
  flock: 'util-linux',
}

function clock(facts: HostFacts): Finding[] {
  const seconds = (Math.abs(facts.clockSkewMs) / 1000).toFixed(1)
  const side = facts.clockSkewMs > 0 ? 'ahead of' : 'behind'
  const text = `the host's clock is ${seconds} s ${side} this machine's`
  if (Math.abs(facts.clockSkewMs) > maxSkewMs) {
    return [
      error(
        'clock',
        `${text}; certificates would not be valid`,
        'switch time synchronisation on: timedatectl set-ntp true',
      ),
    ]
  }
  if (Math.abs(facts.clockSkewMs) > warnSkewMs) return [warn('clock', text, 'timedatectl set-ntp true')]
  return [ok('clock', `within ${seconds} s`)]
}

function room(facts: HostFacts): Finding[] {
  const out: Finding[] = []
  for (const [path, mb] of Object.entries(facts.diskFreeMb)) {
    if (mb < minDiskMb) out.push(error('disk', `${mb} MB free on ${path}`, `free ${minDiskMb} MB there`))
  }
  for (const path of facts.root ? facts.readOnly : [])
    out.push(error('disk', `${path} is read-only`, `mount -o remount,rw it for the join`))
  if (out.length === 0) out.push(ok('disk', 'room enough'))
  if (facts.memoryMb < minMemoryMb)
    out.push(error('memory', `${facts.memoryMb} MB`, `at least ${minMemoryMb} MB are needed`))
  return out
}

function listeners(facts: HostFacts, wanted: Wanted): Finding[] {
  const out: Finding[] = []
  // On a joined host they are ours.
  const inUse = facts.installed === null ? facts.listeners.filter((listener) => isOurs(listener.port)) : []
  for (const listener of inUse) {
    const who = listener.process === '' ? 'another program' : listener.process
    out.push(
      error(
        `port ${listener.port}`,
        `${who} listens on ${listener.address}:${listener.port}`,
        'stop it or give it another port',
      ),
    )
  }
  for (const port of wanted.servicePorts) {
    if (facts.sshPorts.includes(port)) {
      out.push(error(`port ${port}`, "this is sshd's port; it is never captured", 'declare another port'))
    } else if (isOurs(port)) {
      out.push(error(`port ${port}`, 'meshctl uses this port itself', 'declare another port'))
    } else if (!facts.listeners.some((listener) => listener.port === port)) {
      out.push(
        warn(
          `port ${port}`,
          'nothing listens there yet',
          'start the service; its check stays critical until then',
        ),
      )
    }
  }
  if (facts.sshPorts.length === 0)
    out.push(warn('sshd', 'the ports of sshd could not be found; 22 is assumed', ''))
  return out
}

/** The ports a joined host binds. */
function isOurs(port: number): boolean {
  return (
    port === ports.outbound ||
    port === ports.inbound ||
    port === ports.link ||
    port === ports.dns ||
    port === ports.health ||
    port === ports.prometheus ||
    (port > ports.identity && port <= ports.identity + 32)
  )
}

/** What is held at the agent's port of names could be joined there by any user, who would then answer for the mesh. */
function lowPorts(facts: HostFacts, wanted: Wanted): Finding[] {
  if (wanted.dns === 'off' || !facts.resolver.isOpenToAll) return []
  return [
    warn(
      'dns',
      `any user may listen on port ${plainListen.port} and answer lookups of this host`,
      'sysctl net.ipv4.ip_unprivileged_port_start=1024, or join with --dns off',
    ),
  ]
}

function resolver(facts: HostFacts, wanted: Wanted): Finding[] {
  if (wanted.dns === 'off') return [ok('dns', 'left alone')]
  const state = facts.resolver
  if (state.port53) {
    return [
      error(
        'dns',
        'something listens on port 53 of all addresses',
        'bind it to its own address, or join with --dns off',
      ),
    ]
  }
  // On a joined host it is ours.
  if (state.holder !== null && facts.installed === null) {
    return [
      error(
        'dns',
        `${state.holder || 'another program'} listens on ${plainListen.address}:${plainListen.port}`,
        'stop it or give it another address, or join with --dns off',
      ),
    ]
  }
  if (wanted.dns === 'resolved') {
    if (state.kind === 'resolved') return [ok('dns', 'systemd-resolved, by a drop-in')]
    return [
      error(
        'dns',
        'systemd-resolved does not answer on this host',
        'join with --dns resolv.conf, or --dns off',
      ),
    ]
  }
  if (state.kind !== 'plain' && state.linked) {
    return [
      error(
        'dns',
        `/etc/resolv.conf is kept by ${state.by}, which would undo the change`,
        'join with --dns off, or make it a plain file',
      ),
    ]
  }
  if (state.immutable)
    return [
      error('dns', '/etc/resolv.conf is immutable', 'chattr -i /etc/resolv.conf, or join with --dns off'),
    ]
  if (state.kind === 'managed') {
    return [
      warn(
        'dns',
        `${state.by} writes /etc/resolv.conf; the agent puts its line back each time`,
        'join with --dns off to leave it alone',
      ),
    ]
  }
  return [ok('dns', 'a line in /etc/resolv.conf')]
}

function earlier(facts: HostFacts, wanted: Wanted): Finding[] {
  const there = facts.installed
  if (there === null) return []
  if (there.mesh !== '' && there.mesh !== wanted.mesh) {
    return [error('meshctl', `the host is in mesh "${there.mesh}"`, `meshctl leave it there first`)]
  }
  if (there.host !== '' && there.host !== wanted.host) {
    return [
      error('meshctl', `the host is joined as "${there.host}"`, `use --name ${there.host}, or leave first`),
    ]
  }
  if (there.host === '') return [warn('meshctl', 'remains of an unfinished join; they are undone first', '')]
  return [ok('meshctl', `joined already as ${there.host}; this is an update`)]
}

function callers(facts: HostFacts, wanted: Wanted): Finding[] {
  const users = wanted.users
    .filter((user) => !facts.users.includes(user))
    .map((user) =>
      error(
        `user ${user}`,
        'there is no such user on the host',
        `useradd --system ${user}, or declare another user`,
      ),
    )
  // A unit may well be installed after the join: its drop-in is there already then.
  const units = wanted.units
    .filter((unit) => !facts.units.includes(unit) && !facts.units.includes(unit.replace(/@.*\./, '@.')))
    .map((unit) =>
      warn(
        `unit ${unit}`,
        'there is no such unit on the host yet; until there is, nobody speaks as its service',
        `look at: systemctl list-unit-files --type=${unit.slice(unit.lastIndexOf('.') + 1)}`,
      ),
    )
  return [...users, ...units]
}
