// Host names of services as resources and callers write them, on top of model/name.ts.
import { defaultNamespace, domain, type Qualified, serviceOf } from '../model/name.ts'

/** `web.default`: the key of a service in maps and messages. */
export function nameKey(name: Qualified): string {
  return `${name.service}.${name.namespace}`
}

/**
 * The service that a host name in a resource means; null for one that cannot mean a service (wildcards, outside names).
 * A short name lies in `namespace`, the resource's own. `web.mesh` is the short form that DNS answers too.
 */
export function resolveHost(host: string, namespace: string): Qualified | null {
  const name = serviceOf(host, namespace)
  if (name !== null && name.namespace === domain && /^[^.]+\.mesh\.?$/i.test(host)) {
    return { service: name.service, namespace: defaultNamespace }
  }
  return name
}

/** By namespace, then service: the order of everything in a snapshot. */
export function byName(a: Qualified, b: Qualified): number {
  return compareText(a.namespace, b.namespace) || compareText(a.service, b.service)
}

/** By code unit: the same on every machine, unlike localeCompare. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
