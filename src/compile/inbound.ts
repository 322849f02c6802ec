// What this host's services accept.
import type { HostConfig } from '../model/host.ts'
import { listens, type ServiceDeclaration } from '../model/service.ts'
import { type InboundService, isOpaque, serverName } from '../snapshot/types.ts'
import { type Identities, versionOf } from './identities.ts'
import type { CompileProblem, LocalState } from './input.ts'

/** In the order of declaration. A service without an identity cannot serve links and is left out. */
export function inboundOf(
  config: HostConfig,
  local: readonly LocalState[],
  identities: Identities,
  problems: CompileProblem[],
): readonly InboundService[] {
  const inbound: InboundService[] = []
  for (const declared of config.services.filter(listens)) {
    const identity = identities.places.get(declared.id)
    if (identity === undefined) continue
    const where = `service ${declared.name}.${declared.namespace}`
    if (inbound.some((other) => other.port === declared.port)) {
      problems.push({
        where,
        message: `left out: port ${declared.port} belongs to another service of this host`,
      })
      continue
    }
    const name = serverName(declared.name, declared.namespace, declared.servicePort)
    if (inbound.some((other) => other.serverName === name)) {
      // A link says which service port it wants, not which instance.
      const message = `two instances on this host share service port ${declared.servicePort}: links reach only one`
      problems.push({ where, message })
    }
    inbound.push({
      service: declared.name,
      namespace: declared.namespace,
      version: versionOf(declared),
      identity,
      serverName: name,
      port: declared.port,
      address: local.find((state) => state.id === declared.id)?.address ?? declared.bind ?? '127.0.0.1',
      protocol: declared.protocol,
      mtls: declared.mtls,
      ...proxyProtocolOf(declared),
    })
  }
  return inbound
}

/** `send` on a port whose connections are shared is refused when it is declared; a host.json may say what it likes. */
function proxyProtocolOf({
  protocol,
  proxyProtocol,
}: ServiceDeclaration): Pick<InboundService, 'proxyProtocol'> | null {
  if (proxyProtocol === undefined) return null
  const accept = proxyProtocol !== 'send'
  return { proxyProtocol: { accept, send: proxyProtocol !== 'accept' && isOpaque(protocol) } }
}
