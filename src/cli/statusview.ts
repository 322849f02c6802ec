// The work behind `meshctl status`: shows what can be known even where control or the registry are away.
import type { ControlStatus, HostRecord } from '../api/signer.ts'
import { systemClock } from '../clock.ts'
import { Exit, MeshError } from '../errors.ts'
import { ageText } from '../model/duration.ts'
import type { Cli } from './cli.ts'
import { readHosts, type HostView } from './hostview.ts'
import { readServices, type ServiceView } from './meshview.ts'
import { printData, printList, type Format } from './output.ts'
import { withSession, type Session } from './session.ts'

/** A part that answers, or why not. */
export type Answer<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly error: MeshError }

export interface MeshStatus {
  readonly control: Answer<{ readonly status: ControlStatus; readonly hosts: readonly HostRecord[] }>
  readonly registry: Answer<{
    readonly leader: string
    readonly hosts: readonly HostView[]
    readonly services: readonly ServiceView[]
  }>
}

export async function readStatus(session: Session, now: number): Promise<MeshStatus> {
  const { registry, mesh } = session
  const control = await answer(async () => {
    const signer = await session.signer()
    return { status: await signer.status(), hosts: await signer.hosts() }
  })
  const records = control.ok ? control.value.hosts : null
  return {
    control,
    registry: await answer(async () => ({
      leader: await registry.leader(),
      hosts: await readHosts(registry, mesh, records, now),
      services: await readServices(registry, mesh),
    })),
  }
}

async function answer<T>(ask: () => Promise<T>): Promise<Answer<T>> {
  try {
    return { ok: true, value: await ask() }
  } catch (error) {
    if (error instanceof MeshError) return { ok: false, error }
    throw error
  }
}

export async function printStatus(cli: Cli, format: Format): Promise<void> {
  await withSession(cli, async (session) => {
    const now = systemClock.now()
    const status = await readStatus(session, now)
    if (format === 'json' || format === 'yaml')
      printData(cli.terminal, format, 'Status', toJson(session, status))
    else printText(cli, session, status, format, now)
    const failed = [status.control, status.registry].find((part) => !part.ok)
    if (failed?.ok === false)
      cli.exit(failed.error.exit === Exit.unreachable ? Exit.unreachable : Exit.failed)
  })
}

function toJson(session: Session, { control, registry }: MeshStatus): Record<string, unknown> {
  const fault = ({ code, message, hint }: MeshError): object => ({
    reachable: false,
    code,
    message,
    hint: hint ?? null,
  })
  const { context } = session
  return {
    mesh: session.mesh,
    trustDomain: context.trustDomain,
    control: control.ok
      ? { reachable: true, urls: context.signers, ...control.value.status }
      : fault(control.error),
    registry: {
      kind: context.registry.kind,
      url: context.registry.url,
      ...(registry.ok ? { reachable: true, leader: registry.value.leader } : fault(registry.error)),
    },
    hosts: registry.ok ? registry.value.hosts : null,
    services: registry.ok
      ? registry.value.services.map(({ service, namespace, vip, instances }) => ({
          name: service,
          namespace,
          address: vip,
          healthy: instances.filter((instance) => instance.passing).length,
          total: instances.length,
        }))
      : null,
  }
}

function printText(cli: Cli, session: Session, status: MeshStatus, format: Format, now: number): void {
  const { terminal } = cli
  const { paint, symbols } = terminal
  const { control, registry } = status
  if (format !== 'name') {
    const mark = (good: boolean): string => (good ? paint.green(symbols.ok) : paint.red(symbols.bad))
    terminal.out(`${paint.bold('mesh')}      ${session.mesh} (trust domain ${session.context.trustDomain})`)
    terminal.out(`${paint.bold('control')}   ${mark(control.ok)} ${controlLine(session, control, now)}`)
    const where = `${session.context.registry.kind} at ${session.context.registry.url}`
    terminal.out(`${paint.bold('registry')}  ${mark(registry.ok)} ${where}`)
    for (const part of [control, registry]) {
      if (!part.ok) {
        terminal.say(`${part.error.message} (${part.error.code})`)
        if (part.error.hint !== undefined) terminal.say(`  fix   ${part.error.hint}`)
      }
    }
  }
  if (!registry.ok) return
  const { hosts, services } = registry.value
  if (format !== 'name') {
    // A service whose hosts have left keeps its address; it is not ill.
    const served = services.filter(({ instances }) => instances.length > 0)
    const healthy = served.filter(({ instances }) => instances.some(({ passing }) => passing))
    const partly = healthy.filter(({ instances }) => !instances.every(({ passing }) => passing)).length
    const failing = partly === 0 ? '' : `, ${partly} with failing instances`
    terminal.out(`${paint.bold('services')}  ${healthy.length} of ${served.length} healthy${failing}`)
    const good = hosts.filter(({ health }) => health === 'healthy').length
    terminal.out(`${paint.bold('hosts')}     ${good} of ${hosts.length} healthy`)
    if (hosts.length > 0) terminal.out('')
  }
  printHosts(cli, format, hosts, now)
  if (format === 'name') return
  for (const { host, problems } of hosts) {
    for (const problem of problems) terminal.out(`${paint.yellow(symbols.warn)} ${host}: ${problem}`)
  }
}

function controlLine(session: Session, control: MeshStatus['control'], now: number): string {
  const at = session.context.signers.join(', ')
  if (!control.ok) return at
  const { version, startedAt, issuingNotAfter } = control.value.status
  const up = ageText(now - Date.parse(startedAt))
  return `${at}, version ${version}, up ${up}, CA ${ageText(Date.parse(issuingNotAfter) - now)} left`
}

function printHosts(cli: Cli, format: Format, hosts: readonly HostView[], now: number): void {
  const { paint } = cli.terminal
  const color = {
    healthy: paint.green,
    failing: paint.yellow,
    gone: paint.red,
    unknown: paint.dim,
    revoked: paint.red,
  }
  const of = (row: HostView, read: (report: NonNullable<HostView['report']>) => string): string =>
    row.report === null ? '-' : read(row.report)
  printList(cli.terminal, format, {
    kind: 'HostList',
    rows: hosts,
    columns: [
      { title: 'HOST', value: (row) => row.host, shrink: true },
      { title: 'ADDRESS', value: (row) => row.address },
      { title: 'HEALTH', value: (row) => row.health, paint: (text, row) => color[row.health](text) },
      { title: 'PROXY', value: (row) => of(row, ({ proxy }) => proxy) },
      { title: 'CAPTURE', value: (row) => of(row, ({ capture }) => capture) },
      { title: 'DNS', value: (row) => of(row, ({ dns }) => dns) },
      {
        title: 'SERVICES',
        value: (row) => of(row, ({ services }) => services.map(({ name }) => name).join(',')),
        shrink: true,
      },
      {
        title: 'CERT',
        value: (row) =>
          of(row, ({ certificateNotAfter: end }) =>
            end === 0 ? '-' : end > now ? ageText(end - now) : 'expired',
          ),
      },
      { title: 'SNAPSHOT', value: (row) => of(row, ({ snapshot }) => snapshot.slice(0, 8)), wide: true },
      { title: 'VERSION', value: (row) => of(row, ({ version }) => version), wide: true },
      { title: 'OS', value: (row) => of(row, ({ machine }) => machine?.os ?? '-'), wide: true },
      {
        title: 'SIZE',
        value: (row) =>
          of(row, ({ machine }) =>
            machine === null ? '-' : `${machine.cores}×${(machine.memoryBytes / 2 ** 30).toFixed(1)}G`,
          ),
        wide: true,
      },
      {
        title: 'SAID',
        value: (row) => (row.reportAge === null ? '-' : `${ageText(row.reportAge)} ago`),
        wide: true,
      },
    ],
    name: (row) => row.host,
    empty: 'no hosts yet; meshctl join HOST',
  })
}
