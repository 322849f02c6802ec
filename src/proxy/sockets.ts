// The listening sockets: given by systemd and told apart by their port, or bound by ourselves. The supervisor only holds
// them; its workers listen and accept on their descriptors, so no connection is lost when a worker ends.
import { readFileSync, readlinkSync } from 'node:fs'
import { BoundSocket } from 'node:net'
import { MeshError } from '../errors.ts'
import { maxIdentities, ports } from '../paths.ts'
import type { PassedSocket } from './successor.ts'

export type Role = 'outbound' | 'inbound' | 'link'

export interface HeldSocket {
  readonly role: Role
  readonly fd: number
  readonly port: number
}

/** First descriptor that systemd passes (sd_listen_fds). */
const firstFd = 3

/** The sockets that systemd passed to this very process; empty without socket activation. Throws MSH0703. */
export function inheritedSockets(env: NodeJS.ProcessEnv, pid: number): HeldSocket[] {
  const count = Number(env['LISTEN_FDS'] ?? 0)
  if (env['LISTEN_PID'] !== String(pid) || !(count > 0)) return []
  const sockets: HeldSocket[] = []
  for (let fd = firstFd; fd < firstFd + count; fd++) {
    const port = localPort(fd)
    if (port === 0)
      throw new MeshError('MSH0703', `descriptor ${fd} from systemd is not a listening TCP socket`)
    const role = roleOf(port)
    if (role === undefined)
      throw new MeshError('MSH0703', `systemd passed a socket on port ${port}, which nobody serves`)
    sockets.push({ role, fd, port })
  }
  return sockets
}

/** The sockets of a supervisor whose place we take; its other ones are not for workers. */
export function takenSockets(passed: readonly PassedSocket[]): HeldSocket[] {
  return passed.flatMap(({ role, fd, port }) =>
    role === 'outbound' || role === 'inbound' || role === 'link' ? [{ role, fd, port }] : [],
  )
}

/** Binds without listening; port 0 takes a free one. Throws MSH0703. */
export function bindSocket(role: Role, host: string, port: number): HeldSocket & { close(): void } {
  try {
    const socket = new BoundSocket({ host, port })
    const { port: bound } = socket.address() as { port: number }
    return { role, fd: socket.fd(), port: bound, close: () => socket.close() }
  } catch (error) {
    throw new MeshError('MSH0703', `cannot bind the ${role} socket to ${host}:${port}`, { cause: error })
  }
}

function roleOf(port: number): Role | undefined {
  if (port === ports.outbound) return 'outbound'
  if (port > ports.identity && port <= ports.identity + maxIdentities) return 'outbound'
  if (port === ports.inbound) return 'inbound'
  return port === ports.link ? 'link' : undefined
}

/** The local port of a TCP socket by its descriptor, from the kernel's table; 0: none. */
function localPort(fd: number): number {
  let inode: string | undefined
  try {
    inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1]
  } catch {
    return 0
  }
  if (inode === undefined) return 0
  for (const table of ['/proc/self/net/tcp', '/proc/self/net/tcp6']) {
    for (const line of readFileSync(table, 'latin1').split('\n').slice(1)) {
      const columns = line.trim().split(/\s+/)
      if (columns[9] === inode) return Number.parseInt(columns[1]?.split(':')[1] ?? '0', 16)
    }
  }
  return 0
}
