// The units of a host, from templates/, as they are written to it.
import { maxIdentities, pathsUnder, ports, units } from '../../paths.ts'
import { template } from '../../host/release.ts'

export interface UnitFile {
  readonly path: string
  readonly text: string
  readonly mode: number
}

const paths = pathsUnder()
const always = [units.agent, units.proxy, units.proxySocket]
/** Also run by hand and by cron, so the services are there without the timers. */
const oneShots = ['meshctl-renew.service', 'meshctl-verify.service', 'meshctl-report.service']
export const timerUnits = ['meshctl-renew.timer', 'meshctl-verify.timer', 'meshctl-report.timer']

export interface UnitOptions {
  /** The host has IPv6: the proxy listens on ::1 as well. */
  readonly ipv6: boolean
  readonly timers: boolean
  /** The agent answers the host's resolver. */
  readonly dns: boolean
  /** 0: the proxy chooses by cores. */
  readonly workers: number
}

/** Units that a joined host may have and, with these options, must not. */
export function unwantedUnits({ timers, dns }: Pick<UnitOptions, 'timers' | 'dns'>): string[] {
  return [...(timers ? [] : timerUnits), ...(dns ? [] : [units.agentSocket])]
}

/** Units and the command of a joined host. */
export async function hostUnits(folder: string, options: UnitOptions): Promise<UnitFile[]> {
  const unwanted = unwantedUnits(options)
  const names = [...always, units.agentSocket, ...oneShots, ...timerUnits].filter(
    (name) => !unwanted.includes(name),
  )
  const files = await Promise.all(
    names.map(async (name) => {
      const text = await template(folder, name)
      return {
        path: `${paths.systemd}/${name}`,
        text: filled(name, text, options),
        mode: 0o644,
      }
    }),
  )
  return [...files, { path: paths.command, text: await template(folder, 'meshctl'), mode: 0o755 }]
}

function filled(name: string, text: string, options: UnitOptions): string {
  if (name === units.proxySocket) return sockets(text, options.ipv6)
  if (options.workers > 0) return text.replace('@workers@', String(options.workers))
  return text
    .split('\n')
    .filter((line) => !line.includes('@workers@'))
    .join('\n')
}

/** Fills in a socket per identity; without IPv6 an address of it could not be bound and would fail the whole unit. */
export function sockets(text: string, ipv6: boolean): string {
  const identities = Array.from({ length: maxIdentities }, (_, at) => ports.identity + 1 + at)
    .flatMap((port) => [`ListenStream=127.0.0.1:${port}`, `ListenStream=[::1]:${port}`])
    .join('\n')
  const lines = text.replace('@identities@', identities).split('\n')
  return lines.filter((line) => ipv6 || !line.startsWith('ListenStream=[::1]')).join('\n')
}

/** What does the timers' work where timers are not wanted. Minutes spread by the host's name. */
export function cronLines(host: string): string[] {
  const minute = Buffer.from(host).reduce((sum, byte) => (sum * 31 + byte) % 60, 7)
  const each = (step: number): string =>
    Array.from({ length: 60 / step }, (_, at) => ((minute % step) + at * step).toString()).join(',')
  return [
    `${minute} * * * * ${paths.command} agent renew`,
    `${each(15)} * * * * ${paths.command} agent verify`,
    `${(minute + 20) % 60} * * * * ${paths.command} agent report`,
  ]
}
