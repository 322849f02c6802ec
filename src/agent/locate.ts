// Where an application listens: the proxy connects to it there. Read from /proc/net, which needs no tools.
import { readFile } from 'node:fs/promises'

/** State of a listening socket in /proc/net/tcp (include/net/tcp_states.h). */
const listening = '0A'

/** The addresses on which something listens on `port`, from the texts of /proc/net/tcp and /proc/net/tcp6. */
export function listenersOf(tables: readonly string[], port: number): string[] {
  const found = new Set<string>()
  for (const table of tables) {
    for (const line of table.split('\n').slice(1)) {
      const [, local = '', , state] = line.trim().split(/\s+/)
      const [address = '', hexPort = ''] = local.split(':')
      if (state === listening && Number.parseInt(hexPort, 16) === port) found.add(addressOf(address))
    }
  }
  return [...found].toSorted()
}

/**
 * The address to reach it at: loopback wherever that works, so that the application keeps seeing local connections.
 * A socket on `::` may be IPv6 only, so `::1` it is. Null: nothing listens.
 */
export function reachable(listeners: readonly string[]): string | null {
  const has = (address: string): boolean => listeners.includes(address)
  if (has('0.0.0.0') || has('127.0.0.1')) return '127.0.0.1'
  if (has('::') || has('::1')) return '::1'
  return listeners.find((address) => address.startsWith('127.')) ?? listeners[0] ?? null
}

/** Where something listens on the port of this host; null: nothing does. */
export async function locate(port: number, proc: string = '/proc'): Promise<string | null> {
  const tables = await Promise.all(
    ['tcp', 'tcp6'].map((name) => readFile(`${proc}/net/${name}`, 'latin1').catch(() => '')),
  )
  return reachable(listenersOf(tables, port))
}

/** Hexadecimal words in the byte order of the machine (little-endian on all that we run on). */
function addressOf(hex: string): string {
  const words = hex.match(/.{8}/g) ?? []
  const bytes = words.flatMap((word) => [...Buffer.from(word, 'hex')].toReversed())
  if (bytes.length === 4) return bytes.join('.')
  const mapped = bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff
  if (mapped) return bytes.slice(12).join('.')
  const groups = Array.from({ length: 8 }, (_, at) =>
    ((bytes[at * 2] ?? 0) * 256 + (bytes[at * 2 + 1] ?? 0)).toString(16),
  )
  return URL.parse(`http://[${groups.join(':')}]/`)?.hostname.slice(1, -1) ?? groups.join(':')
}
