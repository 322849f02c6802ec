// Sockets that systemd passes to a process that it starts (sd_listen_fds(3)); what they are, the kernel's tables tell.
import { existsSync, readFileSync, readlinkSync } from 'node:fs'

export interface PassedDescriptor {
  readonly fd: number
  /** Null: neither, or not bound. */
  readonly protocol: 'tcp' | 'udp' | null
  /** The local port; 0 where the protocol is null. */
  readonly port: number
}

/** The first that systemd passes. */
const firstFd = 3

/** The descriptors that systemd passed to this very process; empty without socket activation. */
export function passedDescriptors(env: NodeJS.ProcessEnv, pid: number): PassedDescriptor[] {
  const count = Number(env['LISTEN_FDS'] ?? 0)
  if (env['LISTEN_PID'] !== String(pid) || !(count > 0)) return []
  const bound = boundSockets()
  return Array.from({ length: count }, (_, at) => {
    const fd = firstFd + at
    return { fd, ...(bound.get(inodeOf(fd)) ?? { protocol: null, port: 0 }) }
  })
}

/** What descriptors systemd gave us is nobody else's business, and not that of the programs we start. */
export function forgetPassed(env: NodeJS.ProcessEnv): void {
  for (const name of ['LISTEN_FDS', 'LISTEN_PID', 'LISTEN_FDNAMES']) delete env[name]
}

/** Protocol and local port of every bound socket of this network, by its inode. */
function boundSockets(): Map<string, Omit<PassedDescriptor, 'fd'>> {
  const bound = new Map<string, Omit<PassedDescriptor, 'fd'>>()
  for (const protocol of ['tcp', 'udp'] as const) {
    for (const table of [`/proc/self/net/${protocol}`, `/proc/self/net/${protocol}6`]) {
      // Without IPv6 the kernel has no table of it.
      if (!existsSync(table)) continue
      for (const line of readFileSync(table, 'latin1').trim().split('\n').slice(1)) {
        const columns = line.trim().split(/\s+/)
        const port = Number.parseInt(columns[1]?.split(':')[1] ?? '0', 16)
        bound.set(columns[9] ?? '', { protocol, port })
      }
    }
  }
  return bound
}

/** Of the socket behind a descriptor; '' where there is none. */
function inodeOf(fd: number): string {
  try {
    return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1] ?? ''
  } catch {
    return ''
  }
}
