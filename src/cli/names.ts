// Live names for completion. Quick or not at all: a shell waits for them.
import { kinds } from '../model/resource.ts'
import { serviceOf } from '../model/name.ts'
import { connectRegistry } from '../registry/client.ts'
import type { Cli } from './cli.ts'
import { contextStore } from './context.ts'
import { instancesOf, label, readServices, versionsOf } from './meshview.ts'
import { readKind, readShelf } from './objects.ts'

const timeoutMs = 1500

export async function liveNames(
  cli: Cli,
  kind: 'services' | 'hosts' | 'objects' | 'versions',
  given: readonly string[],
  last: string,
): Promise<string[]> {
  const store = contextStore(cli)
  const { name, context } = await store.choose(cli.globals().context)
  const registry = connectRegistry(await store.registryConfig(name, context), { timeoutMs })
  const { mesh } = context
  try {
    if (kind === 'services') return (await readServices(registry, mesh)).map(label)
    if (kind === 'hosts') return (await registry.nodes()).value.map((node) => node.name)
    if (kind === 'objects') {
      const wanted = readKind(given[0] ?? kinds[0])
      const { resources } = await readShelf(registry, mesh, { ...cli.terminal, say: () => {} })
      return resources
        .filter((resource) => resource.kind === wanted)
        .map((resource) => resource.metadata.name)
    }
    const service = serviceOf(given[0] ?? '')
    if (service === null) return []
    // `v1=90,v` → `v1=90,v2=`
    const begun = last.includes(',') ? last.slice(0, last.lastIndexOf(',') + 1) : ''
    const versions = versionsOf(await instancesOf(registry, mesh, service))
    return versions.map(({ version }) => `${begun}${version}=`)
  } finally {
    registry.close()
  }
}
