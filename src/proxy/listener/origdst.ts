// The destination that a captured connection was meant for, before the kernel redirected it: getsockopt
// SO_ORIGINAL_DST (linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h) through node:ffi. Node has no API for it.
import { endianness } from 'node:os'
import { dlopen } from 'node:ffi'
import { plainAddress } from '../../net/addr.ts'
import type { Address } from '../../net/addr.ts'
import type { Ends } from '../../net/channel.ts'

const SOL_IP = 0
const SOL_IPV6 = 41
const SO_ORIGINAL_DST = 80
const AF_INET = 2
const AF_INET6 = 10

/** Destinations whose text is kept. */
const maxKnown = 1024

type GetSockOpt = (fd: number, level: number, option: number, value: Buffer, length: Buffer) => number

/**
 * A reader of original destinations. Null from it: the connection was not redirected; somebody dialled the capture port
 * itself, which must be refused (loops, and requests forged to reach what only we can).
 */
export function originalDestinations(): (socket: Ends) => Address | null {
  const { functions } = dlopen(null, {
    getsockopt: { arguments: ['i32', 'i32', 'i32', 'buffer', 'buffer'], return: 'i32' },
  })
  const getsockopt = functions['getsockopt'] as unknown as GetSockOpt
  // One pair for the process: a call is over before the next begins.
  const value = Buffer.alloc(28)
  const length = Buffer.alloc(4)
  const isLittle = endianness() === 'LE'
  const setLength = (bytes: number): void => {
    if (isLittle) length[0] = bytes
    else length[3] = bytes
  }
  // Callers call the same few destinations: most of the text is there already.
  const known = new Map<number, Address>()
  const knownAddress = (): Address | null => {
    // Port and IPv4 address of struct sockaddr_in; the rest of an IPv6 address lies elsewhere.
    const key = value.readUInt16BE(2) * 2 ** 32 + value.readUInt32BE(4)
    let address = known.get(key) ?? null
    if (address !== null) return address
    address = readSocketAddress(value, isLittle)
    if (known.size >= maxKnown) known.clear()
    if (address !== null) known.set(key, address)
    return address
  }
  return (socket) => {
    const fd = (socket as unknown as { _handle?: { fd?: number } | null })._handle?.fd
    if (fd === undefined || fd < 0) return null
    // The IPv4 form answers for mapped peers of a dual-stack socket too; it fails on real IPv6.
    setLength(16)
    let found: Address | null = null
    if (getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, value, length) === 0) found = knownAddress()
    else {
      setLength(28)
      if (getsockopt(fd, SOL_IPV6, SO_ORIGINAL_DST, value, length) === 0) {
        found = readSocketAddress(value, isLittle)
      }
    }
    // With nat rules loaded the kernel tracks direct connections too, and names the capture port itself.
    return found !== null && isItself(found, socket) ? null : found
  }
}

function isItself({ address, port }: Address, socket: Ends): boolean {
  return port === socket.localPort && address === plainAddress(socket.localAddress ?? '')
}

/** struct sockaddr_in or sockaddr_in6; null for any other family. */
export function readSocketAddress(value: Buffer, isLittle: boolean): Address | null {
  const family = isLittle ? value.readUInt16LE(0) : value.readUInt16BE(0)
  const port = value.readUInt16BE(2)
  if (family === AF_INET) return { address: value.subarray(4, 8).join('.'), port }
  if (family !== AF_INET6) return null
  const groups: string[] = []
  for (let at = 8; at < 24; at += 2) groups.push(value.readUInt16BE(at).toString(16))
  return { address: plainAddress(groups.join(':')), port }
}
