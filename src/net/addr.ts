// Addresses: `host:port` text, IPv4-mapped IPv6, loopback.
import { isIP } from 'node:net'

export interface Address {
  readonly address: string
  readonly port: number
}

/** `10.0.0.1:80` or `[fd00::1]:80`. */
export function printAddress(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}

/** Reads `10.0.0.1:80`, `[fd00::1]:80` or `fd00::1:80` (last colon splits); null when it is neither. */
export function parseAddress(text: string): Address | null {
  const colon = text.lastIndexOf(':')
  if (colon <= 0) return null
  const digits = text.slice(colon + 1)
  if (!/^\d{1,5}$/.test(digits)) return null
  const port = Number(digits)
  if (port > 65535) return null
  let address = text.slice(0, colon)
  if (address.startsWith('[') && address.endsWith(']')) address = address.slice(1, -1)
  return isIP(address) === 0 ? null : { address: plainAddress(address), port }
}

/** `::ffff:10.0.0.1`, as dual-stack sockets report IPv4 peers, becomes `10.0.0.1`; IPv6 becomes its shortest form. */
export function plainAddress(address: string): string {
  if (!address.includes(':')) return address
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)
  if (mapped?.[1] !== undefined) return mapped[1]
  const url = URL.parse(`http://[${address.split('%')[0] ?? ''}]/`)
  return url === null ? address : url.hostname.slice(1, -1)
}

export function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1' || address === '0.0.0.0' || address === '::'
}
