// `meshctl service list|get`
import type { Command } from 'commander'
import { MeshError } from '../../errors.ts'
import { defaultNamespace, fqdn, serviceOf } from '../../model/name.ts'
import { didYouMean } from '../../model/near.ts'
import { examples, subcommand, type Cli } from '../cli.ts'
import { outputOption, printList, type Format } from '../output.ts'
import { withSession } from '../session.ts'
import { label, protocolOf, readServices, versionsOf, type ServiceView } from '../meshview.ts'

interface Flags {
  readonly namespace?: string
  readonly output: Format
}

export function register(program: Command, cli: Cli): void {
  const parent = subcommand(program, 'service')
    .alias('services')
    .summary('services, versions and their health')
  parent.description('Services of the mesh, as the registry has them.')
  examples(parent, ['meshctl service list', 'meshctl service get web -o wide'])
  const list = subcommand(parent, 'list').description('Lists services with versions and healthy instances.')
  list.option('-n, --namespace <name>', 'of one namespace only')
  outputOption(list).action((flags: Flags) => listServices(cli, flags))
  const get = subcommand(parent, 'get <service>').description('Lists the instances of one service.')
  get.option('-n, --namespace <name>', 'of the service', defaultNamespace)
  outputOption(get).action((name: string, flags: Flags) => getService(cli, name, flags))
}

async function listServices(cli: Cli, flags: Flags): Promise<void> {
  await withSession(cli, async ({ registry, mesh }) => {
    const all = await readServices(registry, mesh)
    const paint = cli.terminal.paint
    printList(cli.terminal, flags.output, {
      kind: 'ServiceList',
      rows: all.filter((row) => flags.namespace === undefined || row.namespace === flags.namespace),
      columns: [
        { title: 'NAMESPACE', value: (row) => row.namespace, shrink: true },
        { title: 'SERVICE', value: (row) => row.service, shrink: true },
        { title: 'ADDRESS', value: (row) => row.vip ?? '' },
        { title: 'PORTS', value: ports, shrink: true },
        {
          title: 'HEALTHY',
          value: health,
          right: true,
          paint: (text, row) => {
            const passing = row.instances.filter((instance) => instance.passing).length
            if (passing === 0) return paint.red(text)
            return passing < row.instances.length ? paint.yellow(text) : paint.green(text)
          },
        },
        { title: 'VERSIONS', value: versions, shrink: true },
        { title: 'NAME IN THE MESH', value: (row) => fqdn(row.service, row.namespace), wide: true },
      ],
      name: label,
      json: (row) => ({
        name: row.service,
        namespace: row.namespace,
        host: fqdn(row.service, row.namespace),
        address: row.vip,
        protocol: protocolOf(row.instances),
        ports: [...new Set(row.instances.map((instance) => instance.servicePort))].toSorted((a, b) => a - b),
        versions: versionsOf(row.instances),
        healthy: row.instances.filter((instance) => instance.passing).length,
        total: row.instances.length,
        instances: row.instances,
      }),
      empty: 'no services; meshctl join HOST --service name,port=… brings one',
    })
  })
}

function ports(row: ServiceView): string {
  const groups = Map.groupBy(row.instances, (instance) => instance.servicePort)
  return [...groups]
    .toSorted(([a], [b]) => a - b)
    .map(([port, instances]) => `${port}/${protocolOf(instances)}`)
    .join(',')
}

function health(row: ServiceView): string {
  return `${row.instances.filter((instance) => instance.passing).length}/${row.instances.length}`
}

function versions(row: ServiceView): string {
  return versionsOf(row.instances)
    .map(({ version, passing, total }) => `${version === '' ? '-' : version} ${passing}/${total}`)
    .join(', ')
}

async function getService(cli: Cli, written: string, flags: Flags): Promise<void> {
  const wanted = serviceOf(written, flags.namespace)
  await withSession(cli, async ({ registry, mesh }) => {
    const all = await readServices(registry, mesh)
    const found = all.find((row) => row.service === wanted?.service && row.namespace === wanted.namespace)
    if (found === undefined) {
      throw new MeshError('MSH0105', `no service "${written}"`, {
        hint: didYouMean(written, all.map(label)) ?? 'meshctl service list',
      })
    }
    const paint = cli.terminal.paint
    printList(cli.terminal, flags.output, {
      kind: 'InstanceList',
      rows: found.instances,
      columns: [
        { title: 'HOST', value: (row) => row.host, shrink: true },
        { title: 'ADDRESS', value: (row) => row.address },
        { title: 'PORT', value: (row) => String(row.port), right: true },
        { title: 'VERSION', value: (row) => (row.version === '' ? '-' : row.version), shrink: true },
        { title: 'PROTOCOL', value: (row) => row.protocol },
        { title: 'LINK', value: (row) => (row.linkPort === null ? 'plain' : 'mTLS') },
        {
          title: 'HEALTH',
          value: (row) => (row.passing ? 'healthy' : 'failing'),
          paint: (text, row) => (row.passing ? paint.green(text) : paint.red(text)),
        },
        { title: 'LOCALITY', value: (row) => row.locality, wide: true },
        {
          title: 'LABELS',
          value: (row) =>
            Object.entries(row.labels)
              .map(([k, v]) => `${k}=${v}`)
              .join(','),
          wide: true,
        },
      ],
      name: (row) => `${row.host}:${row.port}`,
      empty: `${written} has an address but no instances`,
    })
  })
}
