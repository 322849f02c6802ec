// State of one cluster: its endpoints, which of them are usable, and the retry budget. Survives swaps of the snapshot.
import type { Cluster } from '../../snapshot/types.ts'
import type { Destination } from '../live.ts'
import { balancers } from './balance.ts'
import type { Balancer } from './balance.ts'
import type { EndpointState } from './endpoint.ts'

/** Retries that may run at once: this share of what is active, and never fewer than the floor. */
const retryShare = 0.2
const retryFloor = 3

export class ClusterState {
  config: Cluster
  readonly destination: Destination
  /** As many as in `config`, in the same order. */
  endpoints: readonly EndpointState[]
  retries: number
  #usable: EndpointState[]
  #balancer: Balancer

  constructor(config: Cluster, destination: Destination) {
    this.config = config
    this.destination = destination
    this.endpoints = []
    this.retries = 0
    this.#usable = []
    this.#balancer = balancers[config.balancer]()
  }

  /** What it is from now on: the same service, with other limits or endpoints. */
  adopt(endpoints: readonly EndpointState[], config: Cluster = this.config): void {
    if (config.balancer !== this.config.balancer) this.#balancer = balancers[config.balancer]()
    this.config = config
    this.endpoints = endpoints
    this.healthChanged()
  }

  /** Recounts the usable endpoints; called when one is ejected or returns. */
  healthChanged(): void {
    this.#usable = this.endpoints.filter((endpoint) => !endpoint.isEjected)
  }

  /**
   * An endpoint that was not tried yet; ejected ones only when no other is left (all dead is more often our mistake than
   * theirs). Null: every endpoint was tried, or there is none.
   */
  pick(tried: readonly EndpointState[] | null): EndpointState | null {
    if (tried === null) {
      const from = this.#usable.length > 0 ? this.#usable : this.endpoints
      return from.length === 0 ? null : this.#balancer(from)
    }
    const usable = this.#usable.filter((endpoint) => !tried.includes(endpoint))
    const from = usable.length > 0 ? usable : this.endpoints.filter((endpoint) => !tried.includes(endpoint))
    return from.length === 0 ? null : this.#balancer(from)
  }

  /** Whether `pick` would find one. */
  hasOther(tried: readonly EndpointState[] | null): boolean {
    return tried === null
      ? this.endpoints.length > 0
      : this.endpoints.some((endpoint) => !tried.includes(endpoint))
  }

  /** Whether one more may be ejected by count of errors; one always may, as in Envoy. */
  mayEject(percent: number): boolean {
    const ejected = this.endpoints.length - this.#usable.length
    return ejected === 0 || ((ejected + 1) * 100) / this.endpoints.length <= percent
  }

  /** Takes one place of the retry budget; false: too many retries run already. */
  takeRetry(): boolean {
    let active = 0
    for (const endpoint of this.endpoints) active += endpoint.active
    if (this.retries >= Math.max(retryFloor, Math.floor(active * retryShare))) return false
    this.retries++
    return true
  }

  get ejected(): number {
    return this.endpoints.length - this.#usable.length
  }
}
