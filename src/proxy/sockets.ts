// The listening sockets: given by systemd and told apart by their port, or bound by ourselves. The supervisor only holds
// them; its workers listen and accept on their descriptors, so no connection is lost when a worker ends.
import { BoundSocket } from 'node:net'
import { MeshError } from '../errors.ts'
import { passedDescriptors } from '../net/activation.ts'
import { maxIdentities, ports } from '../paths.ts'
import type { PassedSocket } from './successor.ts'

export type Role = 'outbound' | 'inbound' | 'link'

export interface HeldSocket {
  readonly role: Role
  readonly fd: number
  readonly port: number
}

/** The sockets that systemd passed to this very process; empty without socket activation. Throws MSH0703. */
export function inheritedSockets(env: NodeJS.ProcessEnv, pid: number): HeldSocket[] {
  return passedDescriptors(env, pid).map(({ fd, protocol, port }) => {
    if (protocol !== 'tcp')
      throw new MeshError('MSH0703', `descriptor ${fd} from systemd is not a listening TCP socket`)
    const role = roleOf(port)
    if (role === undefined)
      throw new MeshError('MSH0703', `systemd passed a socket on port ${port}, which nobody serves`)
    return { role, fd, port }
  })
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
