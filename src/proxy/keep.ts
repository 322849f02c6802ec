// What survives a swap: clusters with their retry budget and balancer, and their endpoints with pools and health. Exchanges
// of older generations hold the same ones, so they too see at once where instances went.
import { MeshError } from '../errors.ts'
import { printAddress } from '../net/addr.ts'
import type { Cluster, EndpointHealth } from '../snapshot/types.ts'
import { ClusterState } from './cluster/cluster.ts'
import { EndpointState } from './cluster/endpoint.ts'
import type { Core } from './core.ts'

/** What a cluster is to become. */
interface Renewal {
  readonly state: ClusterState
  readonly config: Cluster
  readonly endpoints: readonly EndpointState[]
}

export class Keep {
  #clusters: ReadonlyMap<string, ClusterState>

  constructor() {
    this.#clusters = new Map()
  }

  /** The next generation's clusters: to be filled, and then adopted or forgotten. */
  draft(core: Core): Draft {
    return new Draft(core, this.#clusters, (clusters) => {
      this.#clusters = clusters
    })
  }

  health(): EndpointHealth[] {
    return this.#endpoints().map((state) => ({
      cluster: state.cluster.config.name,
      endpoint: printAddress(state.config.address, state.config.port),
      ejected: state.isEjected,
      active: state.active,
    }))
  }

  closeIdle(): void {
    for (const state of this.#endpoints()) state.closeIdle()
  }

  close(): void {
    for (const state of this.#endpoints()) state.close()
  }

  #endpoints(): EndpointState[] {
    return [...this.#clusters.values()].flatMap(({ endpoints }) => endpoints)
  }
}

export class Draft {
  readonly #core: Core
  readonly #old: ReadonlyMap<string, ClusterState>
  readonly #next: Map<string, ClusterState>
  readonly #renewals: Renewal[]
  readonly #swap: (clusters: ReadonlyMap<string, ClusterState>) => void

  constructor(
    core: Core,
    old: ReadonlyMap<string, ClusterState>,
    swap: (clusters: ReadonlyMap<string, ClusterState>) => void,
  ) {
    this.#core = core
    this.#old = old
    this.#next = new Map()
    this.#renewals = []
    this.#swap = swap
  }

  /** The cluster of that name, the same as before where it stands for the same service. Throws MSH0701; touches nothing. */
  cluster(config: Cluster): ClusterState {
    const { name } = config
    if (this.#next.has(name)) throw new MeshError('MSH0701', `there are two clusters ${name}`)
    const before = this.#old.get(name)
    const state = before !== undefined && isSame(before.config, config) ? before : stateOf(config)
    this.#next.set(name, state)
    if (state !== before || state.config !== config)
      this.#renewals.push({ state, config, endpoints: this.#endpoints(state, config) })
    return state
  }

  /** From now on. */
  adopt(): void {
    const retired = new Set<EndpointState>()
    for (const [name, state] of this.#old)
      if (this.#next.get(name) !== state) for (const endpoint of state.endpoints) retired.add(endpoint)
    for (const { state, config, endpoints } of this.#renewals) {
      for (const endpoint of state.endpoints) retired.add(endpoint)
      state.adopt(endpoints, config)
      for (const [at, endpoint] of endpoints.entries()) {
        retired.delete(endpoint)
        endpoint.config = config.endpoints[at]!
      }
    }
    this.#swap(this.#next)
    for (const endpoint of retired) endpoint.retire()
  }

  /** Those the cluster has, and new ones. */
  #endpoints(state: ClusterState, config: Cluster): EndpointState[] {
    const known = new Map(state.endpoints.map((endpoint) => [endpoint.key, endpoint]))
    return config.endpoints.map((endpoint) => {
      const address = printAddress(endpoint.address, endpoint.port)
      // Reached another way it is another endpoint, and as another version: what is logged and counted of one stays.
      const key = `${config.name} ${address} ${endpoint.via} ${endpoint.linkPort} ${endpoint.version}`
      const found = known.get(key) ?? new EndpointState(this.#core, key, endpoint, state)
      known.set(key, found)
      return found
    })
  }
}

function stateOf(config: Cluster): ClusterState {
  const { service, namespace } = config
  return new ClusterState(config, { service: `${service}.${namespace}.mesh`, name: service, namespace })
}

/** With another proof of identity it is another cluster: nothing of the old one's connections may serve it. */
function isSame(a: Cluster, b: Cluster): boolean {
  return (
    a.service === b.service &&
    a.namespace === b.namespace &&
    a.spiffe === b.spiffe &&
    a.serverName === b.serverName
  )
}
