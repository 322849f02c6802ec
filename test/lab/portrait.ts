// What a host looks like, so that "as it was before" can be proved: every file of its disk by content, mode and owner,
// its rules, sets, users, units, routes and resolver.
import type { Lab } from './lab.ts'

export type Portrait = ReadonlyMap<string, string>

// Left out: what a running Debian changes by itself (logs, journals, caches, seeds, timers' stamps). A name with meshctl
// in it is looked for everywhere, there too. passwd- and the like are useradd's own backups of the file before.
const changing = [
  '/var/log',
  '/var/cache',
  '/var/lib/systemd',
  '/var/lib/private',
  '/tmp',
  '/var/tmp',
  '/root/.ssh/known_hosts',
  '/etc/passwd-',
  '/etc/group-',
  '/etc/shadow-',
  '/etc/gshadow-',
  '/etc/.pwd.lock',
]

const script = `
cd /
skip="${changing.map((path) => `-path ${path}`).join(' -o ')}"
# Files by content; folders, links and modes by stat. -xdev keeps to the disk: no /proc, /sys, /run, /dev, /lab.
find / -xdev \\( $skip \\) -prune -o -type f -print0 | sort -z | xargs -0 -r sha256sum | sed 's/^\\([0-9a-f]*\\)  /file \\1 /'
find / -xdev \\( $skip \\) -prune -o -not -type f -printf 'path %y:%m:%U:%G:%l %p\\n' | sort
find / -xdev \\( $skip \\) -prune -o -type f -printf 'mode %m:%U:%G %p\\n' | sort
find / /run /tmp -xdev -iname '*meshctl*' -not -path '/lab/*' -printf 'ours 1 %p\\n' | sort -u
section() { sed "s/^/$1 1 /"; }
for tables in iptables ip6tables; do
  $tables-save 2>/dev/null | grep -v '^#' | sed 's/\\[[0-9]*:[0-9]*\\]//' | grep -v -E '^(\\*|COMMIT|:(PREROUTING|INPUT|OUTPUT|POSTROUTING|FORWARD) ACCEPT)' | section $tables
done
ipset save 2>/dev/null | sed -E '/^add /s/ timeout [0-9]+//' | section ipset
ip rule | section rule
ip -4 route show table all | section route
ss -Hltn | awk '{print $4}' | sort | section listens
systemctl list-unit-files --no-legend --no-pager | awk '{print $1, $2}' | sort | section unit
systemctl list-units --all --no-legend --no-pager --plain --type=service,socket,timer --state=active | awk '{print $1}' | grep -v -E '^(session|user|run-|systemd-tmpfiles-clean|systemd-hostnamed|systemd-timedated|systemd-localed|dpkg-db|logrotate)' | sort | section active
(resolvectl dns 2>/dev/null; resolvectl domain 2>/dev/null; cat /etc/resolv.conf) | section resolver
getent passwd | section user
getent group | section group
crontab -l 2>/dev/null | section cron
sysctl -a 2>/dev/null | grep -E '^net\\.ipv[46]\\.(conf|ip_)' | grep -v -E '(stable_secret|mtu)' | section sysctl
`

/** Takes the portrait without the network; about two seconds a host. */
export async function portrait(lab: Lab, host: string): Promise<Portrait> {
  const text = await lab.do(host, script, { timeoutMs: 120_000 })
  const found = new Map<string, string>()
  for (const line of text.split('\n')) {
    const match = /^(\S+) (\S+) (.*)$/.exec(line)
    if (match === null) continue
    const [, kind = '', value = '', name = ''] = match
    found.set(`${kind} ${name}`, value)
  }
  if (found.size < 1000) throw new Error(`the portrait of ${host} holds only ${found.size} entries`)
  return found
}

/** One line per difference; empty: the same. */
export function differences(before: Portrait, after: Portrait): string[] {
  const lines: string[] = []
  for (const [name, value] of before) {
    const now = after.get(name)
    if (now === undefined) lines.push(`gone: ${name}`)
    else if (now !== value) lines.push(`changed: ${name} (${value.slice(0, 20)} to ${now.slice(0, 20)})`)
  }
  for (const name of after.keys()) if (!before.has(name)) lines.push(`new: ${name}`)
  return lines
}
