// What a snapshot is compiled from. Plain data: the agent gathers it, the CLI makes it up for what-if questions.
import type { HostConfig } from '../model/host.ts'
import type { MeshInstance } from '../model/instance.ts'

/** The state of one declared service that listens on this host, in the order of `HostConfig.services`. */
export interface LocalState {
  /** ServiceDeclaration.id */
  readonly id: string
  /** Where the application listens: `127.0.0.1`, `::1` or an address of the host. */
  readonly address: string
  readonly healthy: boolean
}

export interface VirtualAddress {
  readonly service: string
  readonly namespace: string
  readonly address: string
}

export interface CompileInput {
  readonly config: HostConfig
  readonly local: readonly LocalState[]
  /** Objects as they lie in the registry: not trusted to be what the command line checked. */
  readonly resources: readonly unknown[]
  readonly instances: readonly MeshInstance[]
  readonly vips: readonly VirtualAddress[]
}

/** Something that was left out of a snapshot, and why. */
export interface CompileProblem {
  /** `VirtualService default/web`, or `service web.default`. */
  readonly where: string
  /** Lowercase, no full stop. */
  readonly message: string
}
