// What survives a swap: endpoints with their pools and health, by cluster and address, counted by the newest generation
// alone. Exchanges of older generations hold their endpoints themselves.
import { printAddress } from '../net/addr.ts'
import type { EndpointHealth } from '../snapshot/types.ts'
import type { ClusterState } from './cluster/cluster.ts'
import { EndpointState } from './cluster/endpoint.ts'
import type { Core } from './core.ts'

export class Keep {
  #endpoints: Map<string, EndpointState>

  constructor() {
    this.#endpoints = new Map()
  }

  /** Gives every cluster of a new generation its endpoints, old ones where they are known; retires the rest. */
  adopt(core: Core, clusters: readonly ClusterState[]): void {
    const next = new Map<string, EndpointState>()
    for (const cluster of clusters) {
      const { config } = cluster
      const endpoints = config.endpoints.map((endpoint) => {
        const address = printAddress(endpoint.address, endpoint.port)
        // The same address with another proof of identity or another way is another endpoint.
        const key = `${config.name} ${address} ${endpoint.via} ${endpoint.linkPort} ${config.spiffe} ${config.serverName}`
        const state =
          next.get(key) ?? this.#endpoints.get(key) ?? new EndpointState(core, key, endpoint, cluster)
        state.config = endpoint
        state.cluster = cluster
        state.recorders.clear()
        next.set(key, state)
        return state
      })
      cluster.adopt(endpoints)
    }
    for (const [key, state] of this.#endpoints) if (!next.has(key)) state.retire()
    this.#endpoints = next
  }

  health(): EndpointHealth[] {
    return [...this.#endpoints.values()].map((state) => ({
      cluster: state.cluster.config.name,
      endpoint: printAddress(state.config.address, state.config.port),
      ejected: state.isEjected,
      active: state.active,
    }))
  }

  closeIdle(): void {
    for (const state of this.#endpoints.values()) state.closeIdle()
  }

  close(): void {
    for (const state of this.#endpoints.values()) state.close()
  }
}
