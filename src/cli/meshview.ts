// The mesh as the registry has it: services, versions, instances and virtual addresses.
import { shortName, type Qualified } from '../model/name.ts'
import { commonProtocol, type Protocol } from '../model/protocol.ts'
import type { MeshInstance } from '../model/instance.ts'
import { meshInstance } from '../registry/catalogue.ts'
import type { Registry } from '../registry/registry.ts'
import { listVips } from '../registry/vip.ts'

export interface ServiceView {
  readonly service: string
  readonly namespace: string
  /** Null while no instance claimed one. */
  readonly vip: string | null
  readonly instances: readonly MeshInstance[]
}

/** How many services are read at the same time. */
const parallel = 8

/** Every service of the mesh, sorted by namespace and name. */
export async function readServices(registry: Registry, mesh: string): Promise<ServiceView[]> {
  const names = Object.keys((await registry.services()).value).filter((name) => name !== 'consul')
  const vips = await listVips(registry, mesh)
  const instances: MeshInstance[] = []
  for (let at = 0; at < names.length; at += parallel) {
    const some = names.slice(at, at + parallel).map((name) => readInstances(registry, mesh, name))
    instances.push(...(await Promise.all(some)).flat())
  }
  const views = new Map<string, { service: string; namespace: string; instances: MeshInstance[] }>()
  const view = (service: string, namespace: string): MeshInstance[] => {
    const key = `${namespace}/${service}`
    const found = views.get(key) ?? { service, namespace, instances: [] }
    views.set(key, found)
    return found.instances
  }
  for (const instance of instances) view(instance.service, instance.namespace).push(instance)
  for (const vip of vips) view(vip.service, vip.namespace)
  return [...views.entries()]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([, found]) => ({
      ...found,
      vip:
        vips.find((vip) => vip.service === found.service && vip.namespace === found.namespace)?.address ??
        null,
    }))
}

async function readInstances(registry: Registry, mesh: string, service: string): Promise<MeshInstance[]> {
  const { value } = await registry.instances(service)
  return value.flatMap((instance) => meshInstance(instance, mesh) ?? [])
}

/** One service's instances; empty when nothing of that name is registered. */
export async function instancesOf(
  registry: Registry,
  mesh: string,
  wanted: Qualified,
): Promise<MeshInstance[]> {
  const all = await readInstances(registry, mesh, wanted.service)
  return all.filter((instance) => instance.namespace === wanted.namespace)
}

/** Versions with how many of their instances pass: `v1 2/3`. */
export function versionsOf(
  instances: readonly MeshInstance[],
): { version: string; passing: number; total: number }[] {
  return [...Map.groupBy(instances, (instance) => instance.version)]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([version, group]) => ({
      version,
      passing: group.filter((instance) => instance.passing).length,
      total: group.length,
    }))
}

export function protocolOf(instances: readonly MeshInstance[]): Protocol {
  return commonProtocol(instances.map((instance) => instance.protocol))
}

export function label(service: Qualified): string {
  return shortName(service.service, service.namespace)
}
