// Capture as text for iptables-restore, in the very form that iptables-save prints: what was rendered can be compared
// with what is there. Pure.
import { isIP } from 'node:net'
import { plainAddress } from '../net/addr.ts'
import { ports } from '../paths.ts'
import { sets } from './ipset.ts'

export type Family = 4 | 6

/** Virtual addresses of services; IPv4 only. */
export const vipRange = '240.240.0.0/16'

/** A CapturePlan with the names of one host at one moment resolved. */
export interface ResolvedCapture {
  readonly outbound: 'mesh' | 'all' | 'off'
  readonly inbound: readonly { readonly port: number; readonly onFailure: 'open' | 'closed' }[]
  readonly identities: readonly { readonly capturePort: number; readonly match: CallerMatch | null }[]
  readonly proxyUid: number
  /** Paths in the cgroup v2 hierarchy, no slash in front. */
  readonly exemptCgroups: readonly string[]
  readonly sshPorts: readonly number[]
  readonly excludePorts: readonly number[]
  readonly excludeCidrs: readonly string[]
}

/** How the kernel knows who calls; null: nobody does at present (the unit does not run). */
export type CallerMatch = { readonly cgroup: string } | { readonly uid: number }

/** Rules of one table: own chains in order, and the jumps into them from the built-in ones. */
export interface Table {
  readonly name: 'nat' | 'filter'
  readonly chains: ReadonlyMap<string, readonly string[]>
  readonly jumps: readonly string[]
}

const prefix = 'MESHCTL_'
/** A redirect rule without it catches packets of connections that stood before the rule, and breaks them. */
const syn = '-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN'
/** Ports of ours, ours of the future included; Istio keeps the same range. */
const reserved = '15000:15199'

/** The tables of one family, nat first. */
export function tables(plan: ResolvedCapture, family: Family): Table[] {
  return [nat(plan, family), filter(plan, family)]
}

/**
 * Input for `iptables-restore --noflush` that turns what is there (`iptables-save`'s output, '' for nothing) into the
 * plan: own chains only, each table at once, jumps put in place once.
 */
export function render(plan: ResolvedCapture, family: Family, present: string = ''): string {
  return tables(plan, family)
    .map((table) => transition(table, own(present, table.name)))
    .join('')
}

/** Input that removes every chain of ours and every jump into one; '' when there is none. */
export function removal(present: string): string {
  return (['nat', 'filter'] as const)
    .map((name) => transition({ name, chains: new Map(), jumps: [] }, own(present, name)))
    .join('')
}

/** Input that puts back the chains and jumps of ours that `before` had, from what is there now. */
export function restoration(before: string, present: string): string {
  return (['nat', 'filter'] as const)
    .map((name) => transition(own(before, name), own(present, name)))
    .join('')
}

/** One line for each rule that is missing, and each that is too many or out of order. */
export function drift(plan: ResolvedCapture, family: Family, present: string): string[] {
  const out: string[] = []
  const label = family === 4 ? 'iptables' : 'ip6tables'
  for (const table of tables(plan, family)) {
    const there = own(present, table.name)
    for (const [chain, rules] of table.chains) {
      const found = there.chains.get(chain)
      if (found === undefined) out.push(`${label}: chain ${chain} is gone`)
      else if (found.join('\n') !== rules.join('\n')) out.push(`${label}: chain ${chain} was changed`)
    }
    for (const chain of there.chains.keys()) {
      if (!table.chains.has(chain)) out.push(`${label}: chain ${chain} is not wanted`)
    }
    for (const jump of table.jumps) {
      const count = there.jumps.filter((line) => line === jump).length
      if (count !== 1) out.push(`${label}: ${count === 0 ? 'missing' : 'doubled'}: ${jump}`)
    }
  }
  return out
}

/** Input for a drop-in's ExecStartPre: one identity's chain with its rule inserted anew. */
export function identityInput(capturePort: number, match: CallerMatch): string {
  const chain = identityChain(capturePort)
  return `*nat\n:${chain} - [0:0]\n${callerRules(chain, capturePort, match).join('\n')}\nCOMMIT\n`
}

function nat(plan: ResolvedCapture, family: Family): Table {
  const chains = new Map<string, string[]>()
  const jumps: string[] = []
  if (plan.outbound !== 'off') {
    jumps.push(`-A OUTPUT ${syn} -j MESHCTL_OUTPUT`)
    chains.set('MESHCTL_OUTPUT', outbound(plan, family))
    chains.set('MESHCTL_CALLER', [
      ...plan.identities.map(({ capturePort }) => `-A MESHCTL_CALLER -j ${identityChain(capturePort)}`),
      `-A MESHCTL_CALLER -p tcp -j REDIRECT --to-ports ${ports.outbound}`,
    ])
    for (const { capturePort, match } of plan.identities) {
      const chain = identityChain(capturePort)
      chains.set(chain, match === null ? [] : callerRules(chain, capturePort, match))
    }
  }
  if (plan.inbound.length > 0) {
    // Only connections to this host itself: what it forwards for containers or other machines is not ours.
    jumps.push(`-A PREROUTING ${syn} -m addrtype --dst-type LOCAL -j MESHCTL_INPUT`)
    chains.set('MESHCTL_INPUT', inbound(plan, family))
  }
  return { name: 'nat', chains, jumps }
}

function outbound(plan: ResolvedCapture, family: Family): string[] {
  const rules = [
    `-m owner --uid-owner ${plan.proxyUid} -j RETURN`,
    ...plan.exemptCgroups.map((path) => `-m cgroup --path ${quoted(path)} -j RETURN`),
    // Local calls to local programs stay as they are.
    family === 4 ? '-d 127.0.0.0/8 -j RETURN' : '-d ::1/128 -j RETURN',
    ...dports([...plan.sshPorts, ...plan.excludePorts], [reserved]).map(
      (list) => `-p tcp -m multiport --dports ${list} -j RETURN`,
    ),
    ...plan.excludeCidrs
      .filter((cidr) => cidr.includes(':') === (family === 6))
      // iptables-save leaves out a network that holds every address.
      .map((cidr) => `-d ${full(cidr)} -j RETURN`.replace(/^-d \S+\/0 /, '')),
    `-m set ! --match-set ${sets(family).alive} dst -j RETURN`,
  ]
  if (plan.outbound === 'all') {
    rules.push('-j MESHCTL_CALLER')
  } else {
    if (family === 4) rules.push(`-d ${vipRange} -j MESHCTL_CALLER`)
    rules.push(`-m set --match-set ${sets(family).instances} dst,dst -j MESHCTL_CALLER`)
  }
  return rules.map((rule) => `-A MESHCTL_OUTPUT ${rule}`)
}

function inbound(plan: ResolvedCapture, family: Family): string[] {
  const rules = dports(plan.sshPorts, []).map((list) => `-p tcp -m multiport --dports ${list} -j RETURN`)
  for (const { port, onFailure } of plan.inbound) {
    const gate = onFailure === 'open' ? `-m set --match-set ${sets(family).alive} src ` : ''
    rules.push(`-p tcp -m tcp --dport ${port} ${gate}-j REDIRECT --to-ports ${ports.inbound}`)
  }
  return rules.map((rule) => `-A MESHCTL_INPUT ${rule}`)
}

function filter(plan: ResolvedCapture, family: Family): Table {
  const chains = new Map<string, string[]>()
  const jumps: string[] = []
  if (family === 4) {
    // A virtual address that nothing redirected: refuse at once, never send it to the gateway.
    jumps.push('-A OUTPUT -j MESHCTL_GUARD')
    chains.set('MESHCTL_GUARD', [
      `-A MESHCTL_GUARD -d ${vipRange} -p tcp -j REJECT --reject-with tcp-reset`,
      `-A MESHCTL_GUARD -d ${vipRange} -j REJECT --reject-with icmp-port-unreachable`,
    ])
  }
  const closed = plan.inbound.filter((entry) => entry.onFailure === 'closed')
  if (closed.length > 0) {
    // Redirected to a socket behind which nobody is: the caller gets a reset instead of silence.
    jumps.push(`-A INPUT ! -i lo ${syn} -j MESHCTL_REFUSE`)
    chains.set(
      'MESHCTL_REFUSE',
      closed.map(
        ({ port }) =>
          `-A MESHCTL_REFUSE -p tcp -m set ! --match-set ${sets(family).alive} src -m conntrack --ctorigdstport ${port} -j REJECT --reject-with tcp-reset`,
      ),
    )
  }
  return { name: 'filter', chains, jumps }
}

function callerRules(chain: string, capturePort: number, match: CallerMatch): string[] {
  const who =
    'uid' in match ? `-m owner --uid-owner ${match.uid}` : `-m cgroup --path ${quoted(match.cgroup)}`
  return [`-A ${chain} -p tcp ${who} -j REDIRECT --to-ports ${capturePort}`]
}

function identityChain(capturePort: number): string {
  return `${prefix}ID_${capturePort - ports.identity}`
}

/** From the chains and jumps that are there to those that are wanted, as one transaction of one table. */
function transition(wanted: Table, there: Table): string {
  const stale = [...there.chains.keys()].filter((chain) => !wanted.chains.has(chain))
  const extra = there.jumps.filter(
    (jump, at) => !wanted.jumps.includes(jump) || there.jumps.indexOf(jump) !== at,
  )
  const missing = wanted.jumps.filter((jump) => !there.jumps.includes(jump))
  // A declared chain is emptied first, so rules never double.
  const lines = [...wanted.chains.keys(), ...stale].map((chain) => `:${chain} - [0:0]`)
  lines.push(...extra.map((jump) => jump.replace(/^-A /, '-D ')))
  for (const rules of wanted.chains.values()) lines.push(...rules)
  lines.push(...missing.map((jump) => jump.replace(/^-A (\S+) /, '-I $1 1 ')))
  lines.push(...stale.map((chain) => `-X ${chain}`))
  return lines.length === 0 ? '' : `*${wanted.name}\n${lines.join('\n')}\nCOMMIT\n`
}

/** What a table in iptables-save's output has of ours. */
function own(save: string, name: 'nat' | 'filter'): Table {
  const chains = new Map<string, string[]>()
  const jumps: string[] = []
  let inside = false
  for (const raw of save.split('\n')) {
    const line = raw.trim().replace(/^\[\d+:\d+\] /, '')
    if (line.startsWith('*')) inside = line === `*${name}`
    if (!inside) continue
    const chain = /^:(\S+)/.exec(line)?.[1] ?? /^-A (\S+)/.exec(line)?.[1] ?? ''
    if (chain.startsWith(prefix)) {
      const rules = chains.get(chain) ?? []
      chains.set(chain, rules)
      if (line.startsWith('-A ')) rules.push(line)
    } else if (line.startsWith('-A ') && / -[jg] MESHCTL_\w+( |$)/.test(line)) {
      jumps.push(line)
    }
  }
  return { name, chains, jumps }
}

/** Lists of at most 15 entries (a range counts twice), which is what multiport holds. */
function dports(single: readonly number[], ranges: readonly string[]): string[] {
  const unique = [...new Set(single)]
    .toSorted((a, b) => a - b)
    .filter((port) => port < 15000 || port > 15199 || ranges.length === 0)
  const words = [...unique.map(String), ...ranges]
  const lists: string[] = []
  for (let at = 0; at < words.length; at += 13) lists.push(words.slice(at, at + 13).join(','))
  return lists
}

/** As iptables-save prints a network: with its length, host bits cleared, IPv6 in its shortest form. */
function full(cidr: string): string {
  const [text = '', length] = cidr.split('/')
  // What is no network is the kernel's to refuse.
  if (isIP(text) === 0) return cidr
  const v6 = text.includes(':')
  const bits = length === undefined ? (v6 ? 128 : 32) : Number(length)
  // An IPv4 tail becomes two groups, `::` as many zeros as are missing.
  const words = v6 ? plainAddress(text).split('::').map(groups) : [text.split('.').map(Number)]
  const [head = [], tail = []] = words
  const size = v6 ? 16 : 8
  const parts = v6 ? [...head, ...Array<number>(8 - head.length - tail.length).fill(0), ...tail] : head
  const masked = parts.map((part, at) => {
    const keep = Math.min(size, Math.max(0, bits - at * size))
    return part & ((2 ** size - 1) ^ (2 ** (size - keep) - 1))
  })
  const address = v6 ? plainAddress(masked.map((part) => part.toString(16)).join(':')) : masked.join('.')
  return `${address}/${bits}`
}

function groups(text: string): number[] {
  return text === '' ? [] : text.split(':').map((word) => Number.parseInt(word, 16))
}

/** A word for iptables-restore, which knows double quotes and backslashes. */
function quoted(path: string): string {
  return `"${path.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`
}
