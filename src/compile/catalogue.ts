// The services of the mesh by name and port, from the instances and virtual addresses of the registry.
import { printAddress } from '../net/addr.ts'
import type { Protocol } from '../snapshot/types.ts'
import { byName, compareText, nameKey } from './hosts.ts'
import type { MeshInstance } from '../model/instance.ts'
import { commonProtocol } from '../model/protocol.ts'
import type { CompileInput, VirtualAddress } from './input.ts'

export interface Service {
  readonly service: string
  readonly namespace: string
  /** Empty while no address is claimed yet: only known instances lead to the service then. */
  readonly vip: string
  readonly ports: readonly ServicePort[]
}

export interface ServicePort {
  readonly port: number
  readonly protocol: Protocol
  /** Sorted by host, address and port; passing or not. */
  readonly instances: readonly MeshInstance[]
}

/** Sorted by namespace and name, ports ascending. What this host knows of its own instances wins over the registry. */
export function servicesOf(input: CompileInput): readonly Service[] {
  const names = new Map<string, { service: string; namespace: string }>()
  const vips = new Map<string, VirtualAddress>()
  for (const vip of input.vips.toSorted((a, b) => compareText(a.address, b.address))) {
    names.set(nameKey(vip), vip)
    if (!vips.has(nameKey(vip))) vips.set(nameKey(vip), vip)
  }
  const instances = Map.groupBy(input.instances.map(localView(input)), nameKey)
  for (const [key, group] of instances) if (group[0] !== undefined) names.set(key, group[0])
  return [...names.values()].toSorted(byName).map(({ service, namespace }) => ({
    service,
    namespace,
    vip: vips.get(nameKey({ service, namespace }))?.address ?? '',
    ports: portsOf(instances.get(nameKey({ service, namespace })) ?? []),
  }))
}

/** A local check is fresher than what the registry says of it. */
function localView(input: CompileInput): (instance: MeshInstance) => MeshInstance {
  const failing = new Set<string>()
  for (const declared of input.config.services) {
    const state = input.local.find((local) => local.id === declared.id)
    if (state?.healthy === false) failing.add(`${nameKey(named(declared))} ${declared.port}`)
  }
  return (instance) =>
    instance.host === input.config.host && failing.has(`${nameKey(instance)} ${instance.port}`)
      ? { ...instance, passing: false }
      : instance
}

function named(declared: { readonly name: string; readonly namespace: string }): {
  service: string
  namespace: string
} {
  return { service: declared.name, namespace: declared.namespace }
}

function portsOf(instances: readonly MeshInstance[]): ServicePort[] {
  return [...Map.groupBy(instances, (instance) => instance.servicePort)]
    .toSorted(([a], [b]) => a - b)
    .map(([port, group]) => ({
      port,
      protocol: commonProtocol(group.map((instance) => instance.protocol)),
      instances: distinct(group),
    }))
}

function distinct(instances: readonly MeshInstance[]): MeshInstance[] {
  const found = new Map<string, MeshInstance>()
  for (const instance of instances.toSorted(byPlace)) {
    const key = printAddress(instance.address, instance.port)
    if (!found.has(key)) found.set(key, instance)
  }
  return [...found.values()]
}

function byPlace(a: MeshInstance, b: MeshInstance): number {
  return (
    compareText(a.host, b.host) ||
    compareText(a.address, b.address) ||
    a.port - b.port ||
    // Two registrations of one place: the passing one, then any fixed order.
    Number(b.passing) - Number(a.passing) ||
    compareText(JSON.stringify(a), JSON.stringify(b))
  )
}
