// How a host is, as a flat list that can be compared: files, units, rules, sets, resolver. Taken before a join, and again
// to prove that nothing is left.
import type { Host } from './host.ts'
import { must } from './local.ts'

/** `file /etc/hosts` → `0644 root:root 1f3a…`. */
export type Inventory = Readonly<Record<string, string>>

/**
 * Files of /etc and /usr/local are hashed; /opt and /var/lib are listed two levels deep (what lies below belongs to
 * databases and containers). What changes by itself is left out, and so are the places of ours that `leave` removes.
 */
const script = `
PATH=$PATH:/usr/sbin:/sbin; LC_ALL=C; export PATH LC_ALL
echo @@files
for root in /etc /usr/local; do
  find $root -xdev -type f -size -1024k ! -name '.meshctl.*' -print0 2>/dev/null | xargs -0 -r sha256sum --zero 2>/dev/null | tr '\\000' '\\n'
done
echo @@modes
find /etc /usr/local -xdev -printf '%y %m %u:%g %p\\t%l\\n' 2>/dev/null
find /opt /var/lib -xdev -maxdepth 2 -printf '%y %m %u:%g %p\\t%l\\n' 2>/dev/null
echo @@ours
find /var/log /var/cache /run /var/lib/systemd /usr/lib/systemd -xdev -maxdepth 3 -name '*meshctl*' 2>/dev/null
echo @@units
systemctl list-unit-files --no-legend --no-pager 2>/dev/null | awk '{print $1, $2}'
echo @@iptables
iptables-save 2>/dev/null
echo @@ip6tables
ip6tables-save 2>/dev/null
echo @@ipset
ipset list -n 2>/dev/null
echo @@routes
ip route show table main 240.0.0.0/4 2>/dev/null
echo @@resolver
resolvectl dns 2>/dev/null | grep ^Global; resolvectl domain 2>/dev/null | grep ^Global
echo @@users
getent passwd | cut -d: -f1,3,6,7; getent group | cut -d: -f1,3,4 | sed 's/^/group /'
`

const volatile = [
  // Backups and locks that the tools for users write.
  /^\/etc\/(passwd|group|shadow|gshadow|subuid|subgid)-$/,
  /^\/etc\/\.pwd\.lock$/,
  /^\/etc\/(ld\.so\.cache|mtab|adjtime|fake-hwclock\.data|\.updated)$/,
  /^\/var\/lib\/(systemd|dpkg|apt|dbus|private|dhcp|chrony|ntp|NetworkManager|logrotate|ucf|containers|docker)\//,
  /^\/etc\/resolv\.conf\..*/,
]

/** What a join leaves behind while it lasts; not part of how a host was. */
const working = [
  /^\/var\/lib\/meshctl(\/|$)/,
  /^\/opt\/meshctl(\/|$)/,
  /^\/run\/(meshctl|lock)/,
  /^\/run\/meshctl-/,
]

export async function takeInventory(host: Host): Promise<Inventory> {
  return parseInventory(
    await must(host, 'take the inventory', 'sh -s', { input: script, timeoutMs: 300_000 }),
  )
}

export function parseInventory(text: string): Inventory {
  const out: Record<string, string> = {}
  let section = ''
  let table = ''
  const hashes = new Map<string, string>()
  for (const line of text.split('\n')) {
    if (line.startsWith('@@')) {
      section = line.slice(2)
      table = ''
    } else if (line === '' || line.startsWith('#')) {
      continue
    } else if (section === 'files') {
      hashes.set(line.slice(66), line.slice(0, 64))
    } else if (section === 'modes') {
      addFile(out, line, hashes)
    } else if (section === 'iptables' || section === 'ip6tables') {
      if (line.startsWith('*')) table = line.slice(1)
      else addRule(out, `${section} ${table}`, line)
    } else if (section === 'units') {
      const [name = '', state = ''] = line.split(' ')
      if (state !== 'transient' && state !== 'generated') out[`unit ${name}`] = state
    } else if (section === 'ours') {
      if (!working.some((pattern) => pattern.test(line))) out[`file ${line}`] = 'there'
    } else {
      count(out, `${section} ${line}`)
    }
  }
  return out
}

/** One line per difference, sorted; empty: the same. */
export function compareInventory(before: Inventory, after: Inventory): string[] {
  const out: string[] = []
  for (const key of [...new Set([...Object.keys(before), ...Object.keys(after)])].toSorted()) {
    const was = before[key]
    const is = after[key]
    if (was === is) continue
    if (was === undefined) out.push(`new: ${key}`)
    else if (is === undefined) out.push(`gone: ${key}`)
    else out.push(`changed: ${key} (${was} → ${is})`)
  }
  return out
}

/** Everything that a join touches; what differs elsewhere was done by others while the host was joined. */
const touched = [
  /meshctl/i,
  /240\.240\.|127\.0\.0\.153/,
  /\b(user|group|users) meshctl/,
  /file \/etc\/(resolv\.conf|systemd\/resolved\.conf\.d) /,
  /file \/etc\/systemd\/system(\/[\w@.-]+\.(wants|d))? /,
  /file \/(opt|usr\/local\/bin) /,
  /file \/var\/lib\/systemd /,
]

/** Splits the lines of `compareInventory` into what is ours to answer for and what others did. */
export function attribute(differences: readonly string[]): { ours: string[]; others: string[] } {
  // "gone: file /opt" has no content behind it.
  const isOurs = (line: string): boolean => touched.some((pattern) => pattern.test(`${line} `))
  return {
    ours: differences.filter(isOurs),
    others: differences.filter((line) => !isOurs(line)),
  }
}

/** `f 644 root:root /etc/hosts\t`; a directory's entry tells only that it is there and whose. */
function addFile(out: Record<string, string>, line: string, hashes: ReadonlyMap<string, string>): void {
  const found = /^(\S) (\d+) (\S+) (.+)\t(.*)$/.exec(line)
  if (found === null) return
  const [, type = '', mode = '', owner = '', path = '', link = ''] = found
  if (volatile.some((pattern) => pattern.test(path)) || working.some((pattern) => pattern.test(path))) return
  const content = type === 'l' ? `→ ${link}` : (hashes.get(path)?.slice(0, 16) ?? type)
  out[`file ${path}`] = `${mode.padStart(4, '0')} ${owner} ${content}`
}

/** A table that only has its own empty chains is as good as none: iptables-nft makes it when asked about it. */
function addRule(out: Record<string, string>, table: string, line: string): void {
  if (line === 'COMMIT') return
  const chain = /^:(\S+) (\S+)/.exec(line)
  if (chain === null) count(out, `${table} ${line}`)
  else if (chain[2] === '-') out[`${table} chain ${chain[1] ?? ''}`] = 'there'
  else if (chain[2] !== 'ACCEPT') out[`${table} policy ${chain[1] ?? ''}`] = chain[2] ?? ''
}

function count(out: Record<string, string>, key: string): void {
  out[key] = String(Number(out[key] ?? 0) + 1)
}
