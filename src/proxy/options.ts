// What the proxy is told at its start: under systemd at most MESHCTL_WORKERS, since sockets are passed and paths are
// fixed; flags in tests and wherever it runs without root.
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { MeshError, reason } from '../errors.ts'
import { pathsUnder, ports } from '../paths.ts'
import type { Paths } from '../paths.ts'
import type { Role } from './sockets.ts'

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
}

const maxWorkers = 4

export const usage = `usage: meshctl proxy [--workers N] [--prefix FOLDER] [--ROLE ADDRESS:PORT …]

systemd starts it with its sockets passed (meshctl-proxy.socket); by hand it
binds its own.

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

/** JSON of the last good state; null where there is none or it cannot be read, which `warn` is told. */
export function readState<T>(path: string, warn: (reason: string) => void): T | null {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as T
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') warn(reason(error))
    return null
  }
}
