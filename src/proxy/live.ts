// A linked snapshot: names turned into objects, matches compiled, chains flat. Immutable but for the counters inside splits
// and for clusters, which outlive it.
import type {
  InboundService,
  OutboundPort,
  OutboundService,
  Protocol,
  RetryPolicy,
  Settings,
  Snapshot,
} from '../snapshot/types.ts'
import type { ProxyHeader } from '../wire/proxyprotocol.ts'
import type { Chain } from './chain/filter.ts'
import type { Cause } from './chain/reply.ts'
import type { ClusterState } from './cluster/cluster.ts'
import type { Recent } from './recent.ts'
import type { Predicate } from './route/match.ts'
import type { Split } from './route/pick.ts'
import type { RouteTable } from './route/table.ts'
import type { ServerNames } from './route/sni.ts'

/** Who calls, as the access log and the metrics name it. '' where unknown. */
export interface Party {
  readonly principal: string
  readonly workload: string
  readonly namespace: string
}

/** What is called. */
export interface Destination {
  /** `<service>.<namespace>.mesh`, or the address of an unknown destination. */
  readonly service: string
  readonly name: string
  readonly namespace: string
}

export interface LiveRoute {
  readonly name: string
  /** Null: always. */
  readonly matches: Predicate | null
  readonly split: Split
  readonly chain: Chain
  readonly timeout: number
  readonly retry: LiveRetry
}

export interface LiveRetry {
  readonly attempts: number
  readonly perTryTimeout: number
  readonly onReset: boolean
  readonly onServerError: boolean
  readonly onGatewayError: boolean
  readonly statuses: readonly number[]
  readonly methods: RetryPolicy['methods']
}

/** One service port, from either side. */
export interface Target {
  readonly protocol: Protocol
  readonly destination: Destination
  readonly routes: RouteTable
  /** The chain of exchanges that match no route, so that they are logged and counted like the rest. */
  readonly fallback: Chain
  /** Where TLS goes by its server name; null: it is opaque like the rest. */
  readonly tls: ServerNames | null
  /** Where opaque TCP goes; null: nowhere. */
  readonly tcp: Split | null
  /** The application gets a PROXY header first, with this port as the one called; 0: it gets none. */
  readonly announce: number
  /** Key in `Core.learned`. */
  readonly key: string
}

export interface LiveInbound extends Target {
  readonly service: InboundService
  /** The local service's own SPIFFE id. */
  readonly spiffe: string
}

export interface LiveIdentity extends Party {
  readonly capturePort: number
}

/** What local callers can reach, and what it was linked of: the next generation takes from it what has not changed. */
export interface Outbound {
  readonly services: readonly OutboundService[]
  /** By their places in that snapshot. */
  readonly clusters: readonly ClusterState[]
  /** By `<fqdn>:<port>`. */
  readonly ports: ReadonlyMap<string, { readonly config: OutboundPort; readonly target: Target }>
  /** By `address:port` of the original destination. */
  readonly targets: ReadonlyMap<string, Target>
}

export interface Live {
  readonly snapshot: Snapshot
  readonly settings: Settings
  readonly identities: readonly LiveIdentity[]
  readonly byCapturePort: ReadonlyMap<number, LiveIdentity>
  /** By `address:port` of the original destination. */
  readonly outbound: ReadonlyMap<string, Target>
  readonly inboundByPort: ReadonlyMap<number, LiveInbound>
  readonly inboundByName: ReadonlyMap<string, LiveInbound>
  readonly linked: Outbound
  /** No routes: where requests to a service port that is gone end, logged and counted like the rest. */
  readonly nowhere: Target
}

/** Where the exchanges of one accepted connection belong. Made once per connection. */
export interface Scope {
  readonly reporter: 'source' | 'destination'
  readonly source: Party
  /** Address and port of a caller on another host; '' where an application of this host calls. */
  readonly client: string
  /** The identity that dials upstream. */
  readonly dialAs: string
  /** The connection itself is mTLS. */
  readonly isSecure: boolean
  /** Monotonic time at which the peer's certificate ends, and with it the connection as soon as it is idle. */
  readonly until: number
  /**
   * Fields added to every request of this connection (name, value, …): x-forwarded-client-cert on a link, x-forwarded-for
   * behind a PROXY header. Null: none.
   */
  readonly adds: readonly string[] | null
  /** What a PROXY header said of the connection; null: there was none, its socket tells. */
  readonly announced: ProxyHeader | null
  /** Every request gets this answer; null: they are served. */
  readonly refusal: { readonly cause: Cause; readonly detail: string } | null
  readonly recent: Recent
  /** The service port in that generation; null: it is gone. */
  target(live: Live): Target | null
  /** For the access log where no target is known. */
  readonly destination: Destination
}
