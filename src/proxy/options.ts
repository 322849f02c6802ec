// What the proxy is told at its start: under systemd at most MESHCTL_WORKERS, since sockets are passed and paths are
// fixed; flags in tests and wherever it runs without root.
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { MeshError, reason } from '../errors.ts'
import { pathsUnder, ports } from '../paths.ts'
import type { Paths } from '../paths.ts'
import type { PassedSocket } from './successor.ts'
import type { Role } from './sockets.ts'
import { channelFd } from './channel.ts'

export interface Place {
  /** '' all addresses. */
  readonly host: string
  readonly port: number
}

export interface ProxyOptions {
  readonly paths: Paths
  readonly workers: number
  /** Sockets to bind ourselves; empty under systemd. */
  readonly bind: readonly (Place & { readonly role: Role })[]
  readonly health: Place
  readonly prometheus: Place
  /** Where all captured connections are taken to have gone, for machines without capture rules; null: ask the kernel. */
  readonly destination: Place | null
  /** How long a supervisor that was replaced lets what it still carries go on. Milliseconds. */
  readonly linger: number
  /** Sockets of the supervisor that is to be replaced; empty: there is none. */
  readonly taken: readonly PassedSocket[]
}

const maxWorkers = 4
/** Downloads, WebSockets and tunnels that stand over a reload get ten minutes. */
const defaultLingerSeconds = 600

export const usage = `usage: meshctl proxy [--workers N] [--prefix FOLDER] [--ROLE ADDRESS:PORT …]

systemd starts it with its sockets passed (meshctl-proxy.socket); by hand it
binds its own. With --reload it has the running one replaced by the release in
use now and waits for that; no connection is lost.

  --workers N                default: one for each core, at most ${maxWorkers}
                             (MESHCTL_WORKERS)
  --prefix FOLDER            state, socket and logs below another folder than /
                             (MESHCTL_PREFIX)
  --outbound ADDRESS:PORT    bind for captured connections of local programs
  --inbound ADDRESS:PORT     bind for captured connections to local services
  --link ADDRESS:PORT        bind for mTLS from other hosts; all three may be
                             repeated
  --health ADDRESS:PORT      default: port ${ports.health} of all addresses
  --prometheus ADDRESS:PORT  default: port ${ports.prometheus} of all addresses
  --destination ADDRESS:PORT where all captured connections are taken to have
                             gone, for machines without capture rules
  --linger SECONDS           how long connections that stand over a reload may
                             go on; default: ${defaultLingerSeconds} (MESHCTL_LINGER)
  --reload                   (only with --prefix) replace the running proxy
  -h, --help                 print this
`

/** Throws MSH0703. */
export function readOptions(args: readonly string[]): ProxyOptions {
  const values = parse(args)
  const asked = values.workers ?? process.env['MESHCTL_WORKERS']
  const workers = asked === undefined ? Math.min(availableParallelism(), maxWorkers) : Number(asked)
  if (!Number.isInteger(workers) || workers < 1 || workers > 64) {
    throw new MeshError('MSH0703', `--workers ${asked} is not a number from 1 to 64`)
  }
  const lingering = values.linger ?? process.env['MESHCTL_LINGER'] ?? String(defaultLingerSeconds)
  if (!/^\d{1,6}$/.test(lingering)) throw new MeshError('MSH0703', `--linger ${lingering} is not in seconds`)
  const bind = (['outbound', 'inbound', 'link'] as const).flatMap((role) =>
    (values[role] ?? []).map((text) => ({ role, ...place(`--${role}`, text) })),
  )
  return {
    paths: pathsUnder(values.prefix ?? process.env['MESHCTL_PREFIX'] ?? ''),
    workers,
    bind,
    health: values.health === undefined ? { host: '', port: ports.health } : place('--health', values.health),
    prometheus:
      values.prometheus === undefined
        ? { host: '', port: ports.prometheus }
        : place('--prometheus', values.prometheus),
    destination: values.destination === undefined ? null : place('--destination', values.destination),
    linger: Number(lingering) * 1000,
    taken: (values.take ?? []).map((word, i) => taken(word, channelFd + 1 + i)),
  }
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        prefix: { type: 'string' },
        workers: { type: 'string' },
        outbound: { type: 'string', multiple: true },
        inbound: { type: 'string', multiple: true },
        link: { type: 'string', multiple: true },
        health: { type: 'string' },
        prometheus: { type: 'string' },
        destination: { type: 'string' },
        linger: { type: 'string' },
        take: { type: 'string', multiple: true },
      },
    }).values
  } catch (error) {
    throw new MeshError('MSH0703', reason(error), { cause: error })
  }
}

/** `127.0.0.1:8080`, `[::1]:8080` */
export function place(what: string, text: string): Place {
  const [, host, port] = /^(.*):(\d{1,5})$/.exec(text) ?? []
  if (host === undefined || port === undefined || Number(port) > 65535) {
    throw new MeshError('MSH0703', `${what} ${text} is not address:port`)
  }
  return { host: host.replace(/^\[(.*)\]$/, '$1'), port: Number(port) }
}

/** `role=fd:port`, as a supervisor tells its successor. */
function taken(word: string, expected: number): PassedSocket {
  const [, role, fd, port] = /^(\w+)=(\d+):(\d+)$/.exec(word) ?? []
  if (role === undefined || Number(fd) !== expected) {
    throw new MeshError('MSH0703', `--take ${word} is for a supervisor that takes another's place`)
  }
  return { role, fd: expected, port: Number(port) }
}

/** JSON of the last good state; null where there is none or it cannot be read, which `warn` is told. */
export function readState<T>(path: string, warn: (reason: string) => void): T | null {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as T
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') warn(reason(error))
    return null
  }
}
