// Who may speak from this host: the host itself and its declared services, each with a capture port of its own.
import type { HostConfig } from '../model/host.ts'
import { hostSpiffe, type ServiceDeclaration, serviceSpiffe } from '../model/service.ts'
import { maxIdentities, ports } from '../paths.ts'
import type { Identity } from '../snapshot/types.ts'
import type { CompileProblem } from './input.ts'

/** Whose connections the kernel sends to a capture port. */
export interface Caller {
  readonly capturePort: number
  readonly unit: string | null
  readonly user: string | null
}

export interface Identities {
  /** Index 0 is the host. */
  readonly list: readonly Identity[]
  /** By ServiceDeclaration.id: index in `list`. */
  readonly places: ReadonlyMap<string, number>
  /** One per identity of a service, in order. */
  readonly callers: readonly Caller[]
}

/**
 * One per service, version and caller, in the order of declaration: the kernel's rules name capture ports, so adding a
 * service at the end must not move the others.
 */
export function identitiesOf(config: HostConfig, problems: CompileProblem[] = []): Identities {
  const list: Identity[] = [
    {
      spiffe: hostSpiffe(config.trustDomain, config.host),
      service: '',
      namespace: '',
      version: '',
      capturePort: ports.outbound,
    },
  ]
  const callers: Caller[] = []
  const places = new Map<string, number>()
  const known = new Map<string, number>()
  for (const declared of config.services) {
    const key = JSON.stringify([
      declared.namespace,
      declared.name,
      versionOf(declared),
      declared.unit,
      declared.user,
    ])
    let place = known.get(key)
    if (place === undefined) {
      place = list.length
      if (place > maxIdentities) {
        const message = `left out: a host has at most ${maxIdentities} services with an identity`
        problems.push({ where: `service ${declared.name}.${declared.namespace}`, message })
        continue
      }
      const capturePort = ports.identity + place
      list.push({
        spiffe: serviceSpiffe(config.trustDomain, declared.namespace, declared.name),
        service: declared.name,
        namespace: declared.namespace,
        version: versionOf(declared),
        capturePort,
      })
      callers.push({ capturePort, unit: declared.unit, user: declared.user })
      known.set(key, place)
    }
    places.set(declared.id, place)
  }
  return { list, places, callers }
}

export function versionOf(declared: ServiceDeclaration): string {
  return declared.meta['version'] ?? ''
}
