// The way into every system: a virtual address that a real REDIRECT leads to the port of the client's proxy. A mesh never
// has its traffic any other way, and the kernel's work on each packet of it falls on whoever sends that packet.
import { cores, type Place } from '../place.ts'
import { webPort } from './snapshot.ts'
import type { At } from './system.ts'

export interface Way {
  readonly at: At
  close(): void
}

let taken = 0

/** An address of its own for a peer; those of our own pairs stand in their config. */
export function peerAddress(): string {
  return `240.240.1.${1 + (taken++ % 250)}`
}

/** What capture does on a host, without the parts that only choose whom to capture. */
export function capture(place: Place, host: string, port: number): Way {
  const change = (verb: '-A' | '-D'): void => {
    const rule = `OUTPUT -p tcp --syn -d ${host} -j REDIRECT --to-ports ${port}`
    place.run('client', cores.load, 'iptables', '-w', '-t', 'nat', verb, ...rule.split(' '))
  }
  change('-A')
  const close = (): void => {
    try {
      change('-D')
    } catch {
      // It goes with its namespace.
    }
  }
  return { at: { host, port: webPort }, close }
}
