// A service instance as the user declares it on a host: Consul's service-definition fields plus ours.
import type { Protocol } from './protocol.ts'
import type { ProxyProtocol } from './proxyprotocol.ts'

/** One local health check, Consul's field names (https://developer.hashicorp.com/consul/docs/services/configuration). */
export type CheckDefinition = {
  readonly name?: string
  /** Seconds with a unit, as Consul writes them: `5s`, `500ms`. Default 5s; timeout default 2s. */
  readonly interval?: string
  readonly timeout?: string
} & (
  | {
      readonly http: string
      readonly method?: string
      readonly header?: Readonly<Record<string, readonly string[]>>
    }
  | { readonly tcp: string }
  /** A systemd unit that must be active; Consul's os_service. */
  | { readonly os_service: string }
  | { readonly args: readonly string[] }
)

export interface ServiceDeclaration {
  readonly name: string
  readonly namespace: string
  readonly id: string
  /** Where the instance listens; 0: only calls, listens nowhere. */
  readonly port: number
  /** The port callers use on the service's virtual address; the instance's own unless said otherwise, so 0 as well. */
  readonly servicePort: number
  readonly tags: readonly string[]
  /** Labels; `version` selects subsets. */
  readonly meta: Readonly<Record<string, string>>
  readonly checks: readonly CheckDefinition[]
  readonly protocol: Protocol
  /** Who may speak as this service on its host: a systemd unit or a user name; neither: nobody calls out as it. */
  readonly unit: string | null
  readonly user: string | null
  readonly locality: string
  readonly mtls: 'permissive' | 'strict'
  /** See ProxyProtocol; absent: neither. */
  readonly proxyProtocol?: ProxyProtocol
  /** What the kernel does with inbound connections while nothing of ours is alive. */
  readonly onFailure: 'open' | 'closed'
  /** Where the application listens, when not found by itself (`127.0.0.1`). */
  readonly bind: string | null
}

/** Whether others can call it. One that only calls has an identity, and no place in the registry, checks or a way in. */
export function listens(service: Pick<ServiceDeclaration, 'port'>): boolean {
  return service.port !== 0
}

/** Meta keys under which an instance's mesh fields travel in the registry. */
export const metaKeys = {
  mesh: 'meshctl-mesh',
  namespace: 'meshctl-namespace',
  host: 'meshctl-host',
  protocol: 'meshctl-protocol',
  servicePort: 'meshctl-service-port',
  linkPort: 'meshctl-link-port',
  locality: 'meshctl-locality',
} as const

/** `spiffe://<trust-domain>/ns/<namespace>/sa/<service>` */
export function serviceSpiffe(trustDomain: string, namespace: string, service: string): string {
  return `spiffe://${trustDomain}/ns/${namespace}/sa/${service}`
}

/** `spiffe://<trust-domain>/host/<name>` */
export function hostSpiffe(trustDomain: string, host: string): string {
  return `spiffe://${trustDomain}/host/${host}`
}
