// /etc/meshctl/host.json: what the agent of one host is told at join. Static: a change restarts the agent.
import type { ServiceDeclaration } from './service.ts'

export interface HostConfig {
  readonly schema: 1
  readonly mesh: string
  readonly trustDomain: string
  /** Node name in the catalogue. */
  readonly host: string
  /** The address at which other hosts reach this one. */
  readonly address: string
  readonly registry: RegistryConfig
  /** `https://control:15012`, one or more. */
  readonly signers: readonly string[]
  readonly services: readonly ServiceDeclaration[]
  /** Services whose endpoints this host watches, `name` or `name.namespace`; null: all. */
  readonly upstreams: readonly string[] | null
  readonly capture: CaptureConfig
  readonly dns: 'resolved' | 'resolv.conf' | 'off'
  /** Processes of the data plane; 0: one per core, up to four. */
  readonly workers: number
  readonly accessLog: boolean
}

export interface RegistryConfig {
  readonly url: string
  /** Kept in this 0600 file only; null: none. */
  readonly token: string | null
  /** PEM of the CA that signed the registry's certificate; null: the system's. The embedded registry's is the mesh's. */
  readonly ca: string | null
  /** The SPIFFE id the embedded registry must prove instead of a host name; null for a real Consul. */
  readonly spiffe: string | null
  /** `http://127.0.0.1:8500` where the host runs a Consul agent of its own; null: the host is a node of its own. */
  readonly localAgent: string | null
}

export interface CaptureConfig {
  /** `mesh`: virtual addresses and registered instances; `all`: every outbound TCP connection; `off`: none. */
  readonly outbound: 'mesh' | 'all' | 'off'
  readonly inbound: boolean
  /** Ports never captured, besides sshd's. */
  readonly excludePorts: readonly number[]
  /** Networks never captured. */
  readonly excludeCidrs: readonly string[]
}
