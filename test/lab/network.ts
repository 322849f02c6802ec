// The network of one lab: a bridge of its own with an address on the operator's side, nothing routed beyond it.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { must, run } from './shell.ts'

export interface Network {
  /** The lab's number; it makes bridge and addresses its own. */
  readonly number: number
  readonly bridge: string
  /** The operator's address, which is also the hosts' gateway and resolver. */
  readonly address: string
  readonly address6: string
}

export function networkOf(number: number): Network {
  return {
    number,
    bridge: `br-mesh${number}`,
    address: `10.231.${number}.1`,
    address6: `fd31:0:0:${number}::1`,
  }
}

/** The addresses of the n-th host (from 0). */
export function hostAddress(network: Network, index: number): { v4: string; v6: string } {
  return { v4: `10.231.${network.number}.${11 + index}`, v6: `fd31:0:0:${network.number}::${11 + index}` }
}

/** Makes the first free bridge; creating a link is atomic, so two labs never share one. */
export async function makeNetwork(): Promise<Network> {
  for (let number = 1; number < 250; number++) {
    const network = networkOf(number)
    if (existsSync(`/sys/class/net/${network.bridge}`)) continue
    const made = await run('ip', ['link', 'add', network.bridge, 'type', 'bridge', 'forward_delay', '0'])
    if (made.status !== 0) {
      if (/File exists/.test(made.stderr)) continue
      throw new Error(`could not make a bridge: ${made.stderr.trim()}`)
    }
    await must('ip', ['addr', 'add', `${network.address}/24`, 'dev', network.bridge])
    // No duplicate address detection: the address must be usable at once. A machine without IPv6 goes without.
    await run('ip', ['-6', 'addr', 'add', `${network.address6}/64`, 'dev', network.bridge, 'nodad'])
    await must('ip', ['link', 'set', network.bridge, 'up'])
    return network
  }
  throw new Error('no free lab network; remove old labs with: sh scripts/run.sh scripts/lab.ts clean')
}

export async function removeNetwork(network: Network): Promise<void> {
  if (existsSync(`/sys/class/net/${network.bridge}`)) await must('ip', ['link', 'del', network.bridge])
}

/** This machine's end of a host's cable, in the bridge or not, found through the kernel's link number inside the host. */
export function cable(leader: number): string {
  const peer = readFileSync(`/proc/${leader}/root/sys/class/net/host0/iflink`, 'utf8').trim()
  for (const name of readdirSync('/sys/class/net')) {
    if (readFileSync(`/sys/class/net/${name}/ifindex`, 'utf8').trim() === peer) return name
  }
  throw new Error(`no cable of process ${leader}`)
}

/** What the host's systemd-networkd reads; must sort before Debian's own 80-container-host0.network. */
export function networkUnit(network: Network, index: number): string {
  const { v4, v6 } = hostAddress(network, index)
  return `[Match]
Name=host0
Virtualization=container

[Network]
Address=${v4}/24
Address=${v6}/64
Gateway=${network.address}
Gateway=${network.address6}
DNS=${network.address}
IPv6AcceptRA=no
IPv6DuplicateAddressDetection=0
DHCP=no
`
}
