// Who may speak from this host: the host itself and its declared services, each with a capture port of its own.
import type { HostConfig } from '../model/host.ts'
import { hostSpiffe, type ServiceDeclaration, serviceSpiffe } from '../model/service.ts'
import { maxIdentities, ports } from '../paths.ts'
import type { Identity } from '../snapshot/types.ts'
import type { CompileProblem } from './input.ts'

/**
 * Index 0 is the host, then one per service and version in the order of declaration: the kernel's rules name capture
 * ports, so adding a service at the end must not move the others.
 */
export function identitiesOf(config: HostConfig, problems: CompileProblem[] = []): readonly Identity[] {
  const identities: Identity[] = [
    {
      spiffe: hostSpiffe(config.trustDomain, config.host),
      service: '',
      namespace: '',
      version: '',
      capturePort: ports.outbound,
    },
  ]
  for (const declared of config.services) {
    if (identityIndex(identities, declared) > 0) continue
    if (identities.length > maxIdentities) {
      const message = `left out: a host has at most ${maxIdentities} services with an identity`
      problems.push({ where: `service ${declared.name}.${declared.namespace}`, message })
      continue
    }
    identities.push({
      spiffe: serviceSpiffe(config.trustDomain, declared.namespace, declared.name),
      service: declared.name,
      namespace: declared.namespace,
      version: versionOf(declared),
      capturePort: ports.identity + identities.length,
    })
  }
  return identities
}

/** The place of a declared service's identity; -1: it has none. */
export function identityIndex(identities: readonly Identity[], declared: ServiceDeclaration): number {
  return identities.findIndex(
    (identity, at) =>
      at > 0 &&
      identity.service === declared.name &&
      identity.namespace === declared.namespace &&
      identity.version === versionOf(declared),
  )
}

export function versionOf(declared: ServiceDeclaration): string {
  return declared.meta['version'] ?? ''
}
