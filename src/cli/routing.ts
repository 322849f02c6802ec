// The work behind `meshctl route`.
import { MeshError } from '../errors.ts'
import { defaultNamespace, serviceOf, shortName, type Qualified } from '../model/name.ts'
import { didYouMean } from '../model/near.ts'
import { printProblem, refuse } from '../model/problem.ts'
import type { DestinationRule, Resource, Retries, VirtualService } from '../model/resource.ts'
import { routesOf, setRoute, unsetRoute, type RouteObjects } from '../model/route.ts'
import { printDestinations, printMatch, printNames, readMatch, readSplit } from '../model/routematch.ts'
import { printYamlDocuments } from '../model/text.ts'
import type { MeshInstance } from '../model/instance.ts'
import { confirm } from './ask.ts'
import type { Cli } from './cli.ts'
import type { SetFlags, UnsetFlags } from './command/route.ts'
import { instancesOf, protocolOf, readServices, versionsOf } from './meshview.ts'
import {
  commit,
  idOf,
  planChanges,
  printStates,
  readShelf,
  showDiff,
  type PlannedChange,
  type Shelf,
} from './objects.ts'
import { printData, printList, type Format } from './output.ts'
import { withSession, type Session } from './session.ts'

export async function setRoutes(cli: Cli, written: string, flags: SetFlags): Promise<void> {
  const service = readService(written, flags.namespace)
  const change = {
    to: flags.to === undefined ? [] : readSplit(flags.to),
    match: readMatch(flags),
    sni: flags.sni ?? [],
    rule: flags.rule ?? null,
    timeout: flags.timeout ?? null,
    retries: readRetries(flags),
  }
  if (change.to.length === 0 && change.timeout === null && change.retries === null) {
    throw new MeshError('MSH0101', 'nothing to set', { hint: 'add --to, --timeout or --retries' })
  }
  await withSession(cli, async (session) => {
    const { registry, mesh } = session
    const { terminal } = cli
    const instances = await instancesOf(registry, mesh, service)
    await checkVersions(session, service, change.to, instances, flags.force, (text) => terminal.say(text))
    const shelf = await readShelf(registry, mesh, terminal)
    const before = find(shelf, service)
    const after = setRoute(service, protocolOf(instances), change, before)
    const objects =
      after.destinationRule === null ? [after.virtualService] : [after.virtualService, after.destinationRule]
    // The schemas are large; only this verb needs them.
    const { checkObjects } = await import('../model/istio.ts')
    const checked = checkObjects(objects, { known: shelf.resources })
    refuse(checked.problems, 'MSH0201', 'the route')
    for (const problem of checked.problems) terminal.say(printProblem(problem))
    const planned = planChanges(shelf, checked.resources, [])
    showDiff(terminal, planned)
    if (!flags.dryRun) await commit(registry, mesh, planned)
    printWritten(cli, flags.output, planned, flags.dryRun)
  })
}

export async function unsetRoutes(cli: Cli, written: string, flags: UnsetFlags): Promise<void> {
  const service = readService(written, flags.namespace)
  const selector = { match: readMatch(flags), sni: flags.sni ?? [], rule: flags.rule ?? null }
  await withSession(cli, async ({ registry, mesh }) => {
    const { terminal } = cli
    const shelf = await readShelf(registry, mesh, terminal)
    const before = find(shelf, service)
    const after = unsetRoute(selector, before)
    const planned = planChanges(shelf, ...difference(before, after))
    if (planned.every(({ state }) => state === 'unchanged')) {
      // Unset is idempotent: what is not there is as wanted.
      terminal.say(`${shortName(service.service, service.namespace)} has no such rule; nothing to do`)
      return
    }
    showDiff(terminal, planned)
    if (!flags.dryRun) {
      if (!(await confirm(terminal, flags.yes, `take out these routes of ${service.service}?`))) {
        throw new MeshError('MSH0102', 'aborted, no changes made')
      }
      await commit(registry, mesh, planned)
    }
    printStates(terminal, planned, flags.dryRun)
  })
}

export async function getRoutes(
  cli: Cli,
  written: string,
  flags: { readonly output: Format; readonly namespace?: string },
): Promise<void> {
  const service = readService(written, flags.namespace)
  await withSession(cli, async ({ registry, mesh }) => {
    const objects = find(await readShelf(registry, mesh, cli.terminal), service)
    if (flags.output === 'yaml') {
      const both = [objects.virtualService, objects.destinationRule].filter((object) => object !== null)
      cli.terminal.out(printYamlDocuments(both))
      return
    }
    const rows = objects.virtualService === null ? [] : rowsOf(objects.virtualService)
    const name = shortName(service.service, service.namespace)
    printRows(cli, flags.output, rows, `${name} has no rules: its instances share the requests`)
  })
}

export async function listRoutes(
  cli: Cli,
  flags: { readonly output: Format; readonly namespace?: string },
): Promise<void> {
  await withSession(cli, async ({ registry, mesh }) => {
    const shelf = await readShelf(registry, mesh, cli.terminal)
    const services = shelf.resources.filter(
      (resource): resource is VirtualService =>
        resource.kind === 'VirtualService' &&
        (flags.namespace === undefined || resource.metadata.namespace === flags.namespace),
    )
    if (flags.output === 'yaml') cli.terminal.out(printYamlDocuments(services))
    else
      printRows(
        cli,
        flags.output,
        services.flatMap(rowsOf),
        'no routes; every service shares requests among its instances',
      )
  })
}

function readService(written: string, namespace: string | undefined): Qualified {
  const service = serviceOf(written, namespace ?? defaultNamespace)
  if (service === null) {
    throw new MeshError('MSH0101', `"${written}" is no service`, {
      hint: 'write service or service.namespace',
    })
  }
  return service
}

function readRetries(flags: SetFlags): Retries | null {
  const { retries, perTryTimeout, retryOn } = flags
  // Commander gives `true` for the flag that --no-retries negates.
  const attempts = retries === false ? 0 : typeof retries === 'number' ? retries : undefined
  if (attempts === undefined && perTryTimeout === undefined && retryOn === undefined) return null
  return {
    ...(attempts === undefined ? {} : { attempts }),
    ...(perTryTimeout === undefined ? {} : { perTryTimeout }),
    ...(retryOn === undefined ? {} : { retryOn }),
  }
}

/** Every version must have an instance, or --force. Throws MSH0108 and says what there is. */
async function checkVersions(
  session: Session,
  service: Qualified,
  to: readonly { readonly version: string }[],
  instances: readonly MeshInstance[],
  force: boolean,
  warn: (text: string) => void,
): Promise<void> {
  const versions = versionsOf(instances).map(({ version }) => version)
  const unknown = to.map(({ version }) => version).filter((version) => !versions.includes(version))
  const name = shortName(service.service, service.namespace)
  const problems = unknown.map((version) => `no instance of ${name} has the version ${version}`)
  let hint: string
  if (instances.length === 0) {
    const all = (await readServices(session.registry, session.mesh)).map((view) =>
      shortName(view.service, view.namespace),
    )
    problems.unshift(`no instance of ${name} is registered`)
    hint = didYouMean(name, all) ?? 'join a host with it first, or add --force'
  } else {
    const named = versions.map((version) => (version === '' ? '(none)' : version)).join(', ')
    hint = `${didYouMean(unknown[0] ?? '', versions) ?? `versions there are: ${named}`}; or add --force`
  }
  if (problems.length === 0) return
  if (!force) throw new MeshError('MSH0108', problems.join('; '), { hint })
  for (const problem of problems) warn(`warning: ${problem}`)
}

function find(shelf: Shelf, service: Qualified): RouteObjects {
  return routesOf(
    service,
    shelf.resources.filter((resource): resource is VirtualService => resource.kind === 'VirtualService'),
    shelf.resources.filter((resource): resource is DestinationRule => resource.kind === 'DestinationRule'),
  )
}

function difference(before: RouteObjects, after: RouteObjects): [Resource[], ReturnType<typeof idOf>[]] {
  const puts: Resource[] = []
  const removes: ReturnType<typeof idOf>[] = []
  for (const part of ['virtualService', 'destinationRule'] as const) {
    const old = before[part]
    const fresh = after[part]
    if (fresh !== null) puts.push(fresh)
    else if (old !== null) removes.push(idOf(old))
  }
  return [puts, removes]
}

function printWritten(cli: Cli, format: Format, planned: readonly PlannedChange[], dryRun: boolean): void {
  const objects = planned.flatMap(({ after }) => after ?? [])
  if (format === 'yaml') cli.terminal.out(printYamlDocuments(objects))
  else if (format === 'json') {
    const items = planned.map(({ kind, namespace, name, state, after }) => ({
      kind,
      namespace,
      name,
      state,
      object: after,
    }))
    printData(cli.terminal, 'json', 'ChangeList', { dryRun, items })
  } else printStates(cli.terminal, planned, dryRun)
}

interface Row {
  readonly service: string
  readonly namespace: string
  readonly rule: string
  readonly match: string
  readonly to: string
  readonly timeout: string
  readonly retries: string
}

function rowsOf(service: VirtualService): Row[] {
  const { namespace } = service.metadata
  const own = service.spec.hosts.map((host) => {
    const named = serviceOf(host, namespace)
    return named === null ? host : shortName(named.service, named.namespace)
  })
  const base = { service: own.join(','), namespace }
  const http = (service.spec.http ?? []).map((route) => ({
    ...base,
    rule: route.name ?? '',
    match: printMatch(route),
    to: printDestinations(route.route),
    timeout: route.timeout ?? '',
    retries: route.retries?.attempts === undefined ? '' : String(route.retries.attempts),
  }))
  const tcp = (service.spec.tcp ?? []).map((route) => ({
    ...base,
    rule: '',
    match: `tcp${(route.match ?? []).map(({ port }) => ` port ${port ?? '*'}`).join(' or')}`,
    to: printDestinations(route.route),
    timeout: '',
    retries: '',
  }))
  const tls = (service.spec.tls ?? []).map((route) => ({
    ...base,
    rule: '',
    match: printNames(route),
    to: printDestinations(route.route),
    timeout: '',
    retries: '',
  }))
  return [...http, ...tls, ...tcp]
}

function printRows(cli: Cli, format: Format, rows: readonly Row[], empty: string): void {
  printList(cli.terminal, format, {
    kind: 'RouteList',
    rows,
    columns: [
      { title: 'SERVICE', value: (row) => row.service, shrink: true },
      { title: 'RULE', value: (row) => row.rule, wide: true },
      { title: 'MATCH', value: (row) => row.match, shrink: true },
      { title: 'TO', value: (row) => row.to, shrink: true },
      { title: 'TIMEOUT', value: (row) => row.timeout },
      { title: 'RETRIES', value: (row) => row.retries, right: true },
    ],
    name: (row) => row.service,
    empty,
  })
}
