// State of one endpoint: load, health, pools. Survives swaps of the snapshot for as long as some cluster of the same
// name holds the same address.
import { Deadline } from '../../net/wheel.ts'
import type { Expiring } from '../../net/wheel.ts'
import { backoff } from '../../net/backoff.ts'
import type { Endpoint } from '../../snapshot/types.ts'
import type { Exchange } from '../chain/exchange.ts'
import type { Core } from '../core.ts'
import type { Recorder } from '../filter/metrics.ts'
import type { ClusterState } from './cluster.ts'
import { Links } from './links.ts'
import { Pool } from './pool.ts'
import type { Supply } from './supply.ts'

/** How long an endpoint stays unused after failed connects: the first time, and at most. */
const suspicion = { base: 1000, max: 30_000 }

/** From so many bytes per connection on, opaque ones get connections of their own: see docs/decisions/012. */
const bulkBytes = 16_000_000
/** More than this one connection does not count for, so that a single large one is soon forgotten. */
const maxCarried = 64_000_000
/** The weight of the last connection in the average. */
const share = 0.5

export class EndpointState implements Expiring {
  readonly core: Core
  readonly key: string
  config: Endpoint
  /** The cluster of the newest generation that holds it. */
  cluster: ClusterState
  /** Exchanges and tunnels that run on it. */
  active: number
  isEjected: boolean
  /** In no generation any more: connections end with their exchange. */
  isRetired: boolean
  /** Recorders by caller; see filter/metrics.ts. */
  readonly recorders: Map<string, Recorder>
  /** Bytes that an opaque connection carries, averaged over the last ones. */
  #carried: number
  #pools: Map<string, Supply>
  #links: Map<string, Links>
  #connectFailures: number
  #errors: number
  #ejections: number
  #return: Deadline
  #probeAs: string | null

  constructor(core: Core, key: string, config: Endpoint, cluster: ClusterState) {
    this.core = core
    this.key = key
    this.config = config
    this.cluster = cluster
    this.active = 0
    this.isEjected = false
    this.isRetired = false
    this.recorders = new Map()
    this.#carried = 0
    this.#pools = new Map()
    this.#links = new Map()
    this.#connectFailures = 0
    this.#errors = 0
    this.#ejections = 0
    this.#return = new Deadline(this, 0)
    this.#probeAs = null
  }

  /** Where this exchange gets its upstream from. */
  supply(x: Exchange): Supply {
    const { dialAs } = x.scope
    // Between hosts there are links; an application is spoken to as its caller spoke, or as it was declared.
    const isHttp2 = this.config.via === 'link' || x.isHttp2
    return isHttp2 ? this.links(dialAs) : this.#pool(dialAs)
  }

  /** Connections of HTTP/2 made as this identity. */
  links(identity: string): Links {
    let links = this.#links.get(identity)
    if (links === undefined) this.#links.set(identity, (links = new Links(this, identity)))
    return links
  }

  /** Whether opaque connections are worth one of their own. A limit on connections counts the streams of links. */
  get isBulk(): boolean {
    return this.#carried > bulkBytes && this.cluster.config.maxConnections === 0
  }

  /** An opaque connection that carried so much is over. */
  carried(bytes: number): void {
    this.#carried += (Math.min(bytes, maxCarried) - this.#carried) * share
  }

  #pool(identity: string): Supply {
    let pool = this.#pools.get(identity)
    if (pool === undefined) this.#pools.set(identity, (pool = new Pool(this, identity)))
    return pool
  }

  #supplies(): Supply[] {
    return [...this.#pools.values(), ...this.#links.values()]
  }

  /** A connect failed, or the peer's proxy could not reach the application: out of use at once, tried again later. */
  connectFailed(identity: string): void {
    this.#connectFailures++
    this.#probeAs = identity
    if (this.isEjected || this.isRetired) return
    this.#eject(backoff(suspicion, this.#connectFailures - 1))
    for (const supply of this.#supplies()) supply.closeIdle()
  }

  connected(): void {
    this.#connectFailures = 0
  }

  /** A response came; 5xx in a row eject where the cluster's policy says so. */
  answered(status: number): void {
    if (status < 500) {
      this.#errors = 0
      return
    }
    this.failed()
  }

  /** A response did not come. */
  failed(): void {
    const { consecutiveErrors, baseEjection, maxEjectionPercent } = this.cluster.config.outlier
    this.#errors++
    if (consecutiveErrors === 0 || this.#errors < consecutiveErrors || this.isEjected) return
    if (!this.cluster.mayEject(maxEjectionPercent)) return
    this.#errors = 0
    this.#ejections++
    this.#eject(baseEjection * this.#ejections)
  }

  /** Fires at the end of an ejection. */
  expire(): void {
    if (this.isRetired) return
    // One connection is tried in the background, so that no request pays for an instance that is still dead.
    if (this.#connectFailures === 0 || this.#probeAs === null) this.#restore()
    else if (this.config.via === 'link') this.links(this.#probeAs).probe(this)
    else this.#pool(this.#probeAs).probe(this)
  }

  probed(ok: boolean): void {
    if (this.isRetired) return
    if (ok) {
      this.#connectFailures = 0
      this.#restore()
      return
    }
    this.#connectFailures++
    this.core.wheel.arm(this.#return, backoff(suspicion, this.#connectFailures - 1))
  }

  /** The last generation that held it is gone. */
  retire(): void {
    this.isRetired = true
    this.core.wheel.cancel(this.#return)
    for (const supply of this.#supplies()) supply.closeIdle()
  }

  /** Held again by a new generation before its last exchange ended. */
  revive(): void {
    this.isRetired = false
  }

  closeIdle(): void {
    for (const supply of this.#supplies()) supply.closeIdle()
  }

  close(): void {
    this.core.wheel.cancel(this.#return)
    for (const supply of this.#supplies()) supply.close()
  }

  #eject(ms: number): void {
    this.isEjected = true
    this.cluster.healthChanged()
    this.core.wheel.arm(this.#return, ms)
    this.core.log.info({ endpoint: this.key, ms: Math.round(ms) }, 'endpoint out of use')
  }

  #restore(): void {
    this.isEjected = false
    this.cluster.healthChanged()
    this.core.log.info({ endpoint: this.key }, 'endpoint in use again')
  }
}
