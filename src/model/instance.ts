// An instance as every host of the mesh sees it; registry/catalogue.ts reads it, compile/ and the CLI use it.
import type { Protocol } from './protocol.ts'

/** One instance of a service of the mesh, as the registry tells of it and `compile` reads it. */
export interface MeshInstance {
  readonly service: string
  readonly namespace: string
  readonly host: string
  readonly address: string
  readonly port: number
  /** The port callers use on the virtual address. */
  readonly servicePort: number
  readonly protocol: Protocol
  readonly version: string
  readonly labels: Readonly<Record<string, string>>
  /** Where the host's proxy takes links; null: no meshctl there, plain connections. */
  readonly linkPort: number | null
  readonly locality: string
  readonly passing: boolean
}
