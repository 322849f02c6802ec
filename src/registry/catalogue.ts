// The mesh's view of the catalogue: a declaration becomes a registration, and what is registered becomes an instance of
// the mesh. One Consul service per service name; the namespace is told by meta, so that `web` of two teams share a
// Consul name and nothing else.
import { BlockList, isIP } from 'node:net'
import type { ServiceDeclaration } from '../model/service.ts'
import { protocols } from '../model/protocol.ts'
import { metaKeys } from '../model/service.ts'
import type { MeshInstance } from '../model/instance.ts'
import { defaultNamespace, isName } from '../model/name.ts'
import type { Instance, Registration } from './registry.ts'

/** What the host adds to a declaration. */
export interface HostFacts {
  readonly mesh: string
  readonly host: string
  readonly address: string
  /** Null where the host has no proxy that takes links. */
  readonly linkPort: number | null
}

/** Consul's limits of meta (structs.go: metaKeyMaxLength, metaValueMaxLength, metaMaxKeyPairs). */
const metaKey = /^[A-Za-z0-9_-]{1,128}$/
const metaValueMax = 512
const metaMax = 64

/** Addresses that no instance has: unspecified, link-local, multicast, virtual and broadcast. */
const nowhere = new BlockList()
nowhere.addSubnet('0.0.0.0', 8)
nowhere.addSubnet('169.254.0.0', 16)
nowhere.addSubnet('224.0.0.0', 3)
nowhere.addAddress('::', 'ipv6')
nowhere.addSubnet('fe80::', 10, 'ipv6')
nowhere.addSubnet('ff00::', 8, 'ipv6')

const own: ReadonlySet<string> = new Set(Object.values(metaKeys))

export function registrationOf(service: ServiceDeclaration, facts: HostFacts): Registration {
  const meta: Record<string, string> = {
    [metaKeys.mesh]: facts.mesh,
    [metaKeys.namespace]: service.namespace,
    [metaKeys.host]: facts.host,
    [metaKeys.protocol]: service.protocol,
    [metaKeys.servicePort]: String(service.servicePort),
    ...(facts.linkPort === null ? {} : { [metaKeys.linkPort]: String(facts.linkPort) }),
    ...(service.locality === '' ? {} : { [metaKeys.locality]: service.locality }),
  }
  const tags = [...service.tags]
  for (const [name, value] of Object.entries(service.meta)) {
    if (own.has(name)) continue
    // Labels such as app.kubernetes.io/name are no meta keys for Consul; as tags they pass.
    const fits = metaKey.test(name) && !name.startsWith('consul-') && value.length <= metaValueMax
    if (fits && Object.keys(meta).length < metaMax) meta[name] = value
    else tags.push(`${name}=${value}`)
  }
  return {
    node: facts.host,
    address: facts.address,
    id: service.id,
    service: service.name,
    port: service.port,
    tags: [...new Set(tags)],
    meta,
  }
}

/**
 * An instance as the mesh sees it. Null: it is of another mesh, or what it says of itself makes no sense. A service that
 * somebody else registered in the same Consul counts as plain, without links, in the default namespace.
 */
export function meshInstance(instance: Instance, mesh: string): MeshInstance | null {
  const { meta } = instance
  const of = meta[metaKeys.mesh]
  if (of !== undefined && of !== mesh) return null
  const namespace = meta[metaKeys.namespace] ?? defaultNamespace
  if (!isName(instance.service) || !isName(namespace) || !isPort(instance.port)) return null
  if (!isReachable(instance.address)) return null
  const labels = labelsOf(instance)
  return {
    service: instance.service,
    namespace,
    host: meta[metaKeys.host] ?? instance.node,
    address: instance.address,
    port: instance.port,
    servicePort: portOf(meta[metaKeys.servicePort]) ?? instance.port,
    protocol: protocols.find((protocol) => protocol === meta[metaKeys.protocol]) ?? 'auto',
    version: labels['version'] ?? '',
    labels,
    linkPort: of === undefined ? null : portOf(meta[metaKeys.linkPort]),
    locality: meta[metaKeys.locality] ?? '',
    passing: instance.passing,
  }
}

/** Meta wins over `key=value` tags; a bare tag such as `v2` is the version where nothing else says it. */
function labelsOf({ meta, tags }: Instance): Record<string, string> {
  const labels = new Map<string, string>()
  for (const tag of tags) {
    const at = tag.indexOf('=')
    if (isLabel(tag.slice(0, Math.max(at, 0)))) labels.set(tag.slice(0, at), tag.slice(at + 1))
  }
  for (const [name, value] of Object.entries(meta)) {
    if (!own.has(name) && isLabel(name)) labels.set(name, value)
  }
  if (!labels.has('version')) {
    const bare = tags.find((tag) => /^v\d[A-Za-z0-9._-]*$/.test(tag))
    if (bare !== undefined) labels.set('version', bare)
  }
  return Object.fromEntries([...labels].toSorted(([a], [b]) => (a < b ? -1 : 1)))
}

/** Kubernetes's form of label names, prefix included; nothing that a JavaScript object would take for its own. */
function isLabel(name: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._/-]{0,316}$/.test(name)
}

/**
 * Whether an instance can be there at all. Callers take the registered address for the service, and dial it: with a
 * virtual address it would catch another service's callers, with a link-local one (169.254.169.254 is the machine's own
 * metadata) every caller would ask itself.
 */
function isReachable(address: string): boolean {
  const family = isIP(address)
  if (family !== 0) return !nowhere.check(address, family === 6 ? 'ipv6' : 'ipv4')
  // A name; forms such as 0xa9.254.43518 or 2852039166, which a resolver reads as addresses, are none.
  return (
    /^(?=.{1,253}$)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?$/.test(address) &&
    !/(^|\.)(\d+|0x[\da-f]*)\.?$/i.test(address)
  )
}

function portOf(text: string | undefined): number | null {
  return text !== undefined && /^\d{1,5}$/.test(text) && isPort(Number(text)) ? Number(text) : null
}

function isPort(port: number): boolean {
  return port >= 1 && port <= 65535
}
