// `meshctl get KIND [NAME]`
import type { Command } from 'commander'
import { MeshError } from '../../errors.ts'
import { didYouMean } from '../../model/near.ts'
import type { Resource } from '../../model/resource.ts'
import { printDestinations } from '../../model/routematch.ts'
import { printYamlDocuments } from '../../model/text.ts'
import { examples, subcommand, type Cli } from '../cli.ts'
import { idOf, printId, readKind, readShelf } from '../objects.ts'
import { outputOption, printList, type Format } from '../output.ts'
import { withSession } from '../session.ts'

interface Flags {
  readonly namespace?: string
  readonly output: Format
}

export function register(program: Command, cli: Cli): void {
  const command = subcommand(program, 'get <kind> [name]').summary('print objects')
  command.description(
    'Prints objects: vs (VirtualService), dr (DestinationRule) or all. With -o yaml\nwhat is printed can be applied again.',
  )
  command.option('-n, --namespace <name>', 'of one namespace only')
  outputOption(command)
  examples(command, ['meshctl get vs', 'meshctl get dr web -o yaml', 'meshctl get all -n shop -o name'])
  command.action((kind: string, name: string | undefined, flags: Flags) => get(cli, kind, name, flags))
}

async function get(cli: Cli, kind: string, name: string | undefined, flags: Flags): Promise<void> {
  const wanted = kind === 'all' ? null : readKind(kind)
  await withSession(cli, async ({ registry, mesh }) => {
    const shelf = await readShelf(registry, mesh, cli.terminal)
    const all = shelf.resources.filter(
      (resource) =>
        (wanted === null || resource.kind === wanted) &&
        (flags.namespace === undefined || resource.metadata.namespace === flags.namespace),
    )
    // A name alone is looked for in `default` first, as the other verbs do.
    const named = name === undefined ? all : all.filter((resource) => resource.metadata.name === name)
    if (name !== undefined && named.length === 0) {
      const names = all.map((resource) => resource.metadata.name)
      throw new MeshError('MSH0105', `no ${wanted ?? 'object'} "${name}"`, {
        hint: didYouMean(name, names) ?? `meshctl get ${kind}`,
      })
    }
    if (flags.output === 'yaml') cli.terminal.out(printYamlDocuments(named))
    else print(cli, flags.output, named)
  })
}

function print(cli: Cli, format: Format, resources: readonly Resource[]): void {
  printList(cli.terminal, format, {
    kind: 'ObjectList',
    rows: resources,
    columns: [
      { title: 'NAMESPACE', value: (row) => row.metadata.namespace, shrink: true },
      { title: 'KIND', value: (row) => row.kind },
      { title: 'NAME', value: (row) => row.metadata.name, shrink: true },
      { title: 'HOSTS', value: hosts, shrink: true },
      { title: 'CONTENT', value: content, shrink: true },
    ],
    name: (row) => printId(idOf(row)).replace(' ', '/'),
    empty: 'no objects',
  })
}

function hosts(resource: Resource): string {
  return resource.kind === 'VirtualService' ? resource.spec.hosts.join(',') : resource.spec.host
}

function content(resource: Resource): string {
  if (resource.kind === 'DestinationRule') {
    const subsets = (resource.spec.subsets ?? []).map((subset) => subset.name).join(',')
    return subsets === '' ? '' : `subsets ${subsets}`
  }
  const http = (resource.spec.http ?? []).map((route) => printDestinations(route.route))
  const tcp = (resource.spec.tcp ?? []).map((route) => `tcp ${printDestinations(route.route)}`)
  return [...http, ...tcp].join('; ')
}
