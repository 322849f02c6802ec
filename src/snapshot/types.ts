// The contract between agent (writer) and proxy (reader). JSON only, deep-frozen, names resolved, defaults filled in;
// no key material. Durations are milliseconds, sizes bytes, weights integers. `hash` is over the canonical bytes of
// everything else.
import type { Change } from './change.ts'

/**
 * What an application speaks. `http`: HTTP/1.1, or HTTP/2 where the caller speaks that; `http2`, `grpc`: HTTP/2 with prior
 * knowledge, so HTTP/1.1 callers are translated; `tls`: opaque, routed by server name; `auto`: sniffed.
 */
export type Protocol = 'http' | 'http2' | 'grpc' | 'tls' | 'tcp' | 'auto'

/** Declared to be HTTP of whatever version. */
export function isHttp(protocol: Protocol): boolean {
  return protocol === 'http' || protocol === 'http2' || protocol === 'grpc'
}

/** Declared to be HTTP/2 with prior knowledge, whatever the caller speaks. */
export function isHttp2(protocol: Protocol): boolean {
  return protocol === 'http2' || protocol === 'grpc'
}

/** Declared to be bytes that are passed on as they are. */
export function isOpaque(protocol: Protocol): boolean {
  return protocol === 'tcp' || protocol === 'tls'
}

export interface Snapshot {
  readonly schema: 1
  readonly hash: string
  readonly host: string
  readonly mesh: string
  readonly trustDomain: string
  /** Every identity that may speak from this host; index 0 is the host itself. */
  readonly identities: readonly Identity[]
  /** What local services accept, by port: captured inbound (15006) and links (15008). */
  readonly inbound: readonly InboundService[]
  /** What local callers can reach. */
  readonly outbound: readonly OutboundService[]
  readonly clusters: readonly Cluster[]
  readonly settings: Settings
}

export interface Identity {
  /** spiffe://<trust-domain>/ns/<namespace>/sa/<service>, or …/host/<name> at index 0. Also the id of its secret. */
  readonly spiffe: string
  readonly service: string
  readonly namespace: string
  readonly version: string
  /** The capture port whose connections come from this identity (the kernel chose it by unit or user). */
  readonly capturePort: number
}

export interface InboundService {
  readonly service: string
  readonly namespace: string
  readonly version: string
  /** Index in `identities`: its secret serves the TLS. */
  readonly identity: number
  /** The TLS server name that callers send: see `serverName`. */
  readonly serverName: string
  /** The real port of the instance, as captured by the kernel. */
  readonly port: number
  /** Where the application listens. */
  readonly address: string
  readonly protocol: Protocol
  /** Whether plain text captured on this port is served or refused (PeerAuthentication mtls.mode). */
  readonly mtls: 'permissive' | 'strict'
  /**
   * PROXY protocol. `accept`: plain connections begin with a header, of a balancer outside the mesh; `send`: the application
   * gets one at the start of each connection, so only on opaque ports. Absent: neither.
   */
  readonly proxyProtocol?: { readonly accept: boolean; readonly send: boolean }
}

export interface OutboundService {
  readonly service: string
  readonly namespace: string
  /** `<service>.<namespace>.mesh` */
  readonly fqdn: string
  /** The stable virtual address, the same on every host. */
  readonly vip: string
  readonly ports: readonly OutboundPort[]
}

export interface OutboundPort {
  readonly port: number
  readonly protocol: Protocol
  /** Original destinations that mean this service port besides vip:port: registered instances, `address:port`. */
  readonly instances: readonly string[]
  /** HTTP routes, first match wins; what matches none is answered 404, as in Istio. Empty for protocol tcp. */
  readonly routes: readonly Route[]
  /**
   * Where TLS goes that is passed through: the first rule that names the client's server name. What matches none goes the
   * way of `tcp`, which a `tls` port with such rules has not: it is reset. Absent: none.
   */
  readonly tlsRoutes?: readonly TlsRoute[]
  /** Where opaque TCP goes. */
  readonly tcp: readonly WeightedCluster[]
}

export interface TlsRoute {
  /** Lower case: `db.example.com`; `*.example.com`, every name below it; `*`, everything, without a name too. */
  readonly sniHosts: readonly string[]
  readonly clusters: readonly WeightedCluster[]
}

export interface Route {
  readonly name: string
  /** Any of these (empty: always). All conditions of one match must hold. */
  readonly matches: readonly RouteMatch[]
  /** None: what matches here leads nowhere, 503. */
  readonly clusters: readonly WeightedCluster[]
  /** Whole exchange, 0: none. */
  readonly timeout: number
  readonly retry: RetryPolicy
}

export interface RouteMatch {
  readonly path: StringMatch | null
  readonly method: StringMatch | null
  readonly authority: StringMatch | null
  /** Header names lowercase. */
  readonly headers: readonly { readonly name: string; readonly match: StringMatch }[]
  readonly withoutHeaders: readonly { readonly name: string; readonly match: StringMatch }[]
  readonly queryParams: readonly { readonly name: string; readonly match: StringMatch }[]
  readonly ignoreUriCase: boolean
}

/** `present` matches any value. `regex` is RE2 style, anchored at both ends as in Istio. */
export interface StringMatch {
  readonly kind: 'exact' | 'prefix' | 'regex' | 'present'
  readonly value: string
}

export interface WeightedCluster {
  /** Index in `Snapshot.clusters`. */
  readonly cluster: number
  readonly weight: number
}

export interface RetryPolicy {
  /** Additional tries after the first; 0 switches retries off. */
  readonly attempts: number
  readonly perTryTimeout: number
  /** Istio's retryOn words that are honoured: connect-failure, refused-stream, unavailable, gateway-error, 5xx, reset,
   * retriable-status-codes. */
  readonly on: readonly string[]
  readonly statuses: readonly number[]
  /** Methods that may be sent again after bytes have left. */
  readonly methods: readonly string[]
}

export interface Cluster {
  /** `outbound|8080|v1|web.default.mesh`, Istio's form; the key under which pools and health survive a swap. */
  readonly name: string
  readonly service: string
  readonly namespace: string
  readonly subset: string
  /** The SPIFFE id that every endpoint must prove. */
  readonly spiffe: string
  readonly serverName: string
  readonly balancer: 'least-request' | 'round-robin' | 'random'
  readonly connectTimeout: number
  /** Upper bound of connections to one endpoint; 0: none. */
  readonly maxConnections: number
  readonly maxPending: number
  readonly outlier: Outlier
  readonly endpoints: readonly Endpoint[]
}

export interface Outlier {
  /** Failed connects or 5xx in a row that eject an endpoint; 0: never. */
  readonly consecutiveErrors: number
  readonly baseEjection: number
  readonly maxEjectionPercent: number
}

export interface Endpoint {
  /** The application's own address and port on its host. */
  readonly address: string
  readonly port: number
  readonly host: string
  readonly version: string
  readonly weight: number
  /** `link`: mTLS to `address:linkPort`; `plain`: the instance has no meshctl on its host. */
  readonly via: 'link' | 'plain'
  readonly linkPort: number
}

export interface Settings {
  /** Bytes of a request or response head, and how many header lines. */
  readonly maxHeadBytes: number
  readonly maxHeaders: number
  /** Slowest allowed arrival of a whole head. */
  readonly headTimeout: number
  readonly idleTimeout: number
  readonly drainTimeout: number
  readonly accessLog: boolean
  /** Captured destinations that no service owns: forward as they are, or refuse (outboundTrafficPolicy). */
  readonly unknownDestinations: 'allow' | 'refuse'
}

/** Key material by SPIFFE id; travels apart from snapshots, is kept 0600 and never printed. */
export interface Secrets {
  /** PEM roots that peers must chain to. */
  readonly roots: string
  readonly leafs: readonly {
    readonly spiffe: string
    readonly chain: string
    readonly key: string
    readonly notAfter: number
  }[]
}

// The push protocol on the proxy's unix socket: each message is one JSON line. The agent sends, the proxy answers each
// message with one line.
export type Push =
  | { readonly type: 'snapshot'; readonly snapshot: Snapshot }
  /** What to change in the snapshot in force, if that has the hash `base`; `hash` is that of the result. */
  | { readonly type: 'patch'; readonly base: string; readonly hash: string; readonly change: Change }
  | { readonly type: 'secrets'; readonly secrets: Secrets }
  | { readonly type: 'ping' }
  | { readonly type: 'stats' }
  | { readonly type: 'drain'; readonly timeout: number }

export type PushReply =
  | { readonly type: 'applied'; readonly hash: string }
  | { readonly type: 'rejected'; readonly hash: string; readonly reason: string }
  /** The patch is for another snapshot than that in force, or gives another than it says: send the whole. */
  | { readonly type: 'mismatch'; readonly hash: string }
  | { readonly type: 'pong'; readonly hash: string; readonly workers: number; readonly version: string }
  | { readonly type: 'stats'; readonly text: string; readonly endpoints: readonly EndpointHealth[] }
  | { readonly type: 'drained'; readonly open: number }
  | { readonly type: 'error'; readonly reason: string }

export interface EndpointHealth {
  readonly cluster: string
  readonly endpoint: string
  readonly ejected: boolean
  readonly active: number
}

/**
 * The TLS server name (SNI) of a link: Istio's form with our domain. One connection carries one service port.
 * The ALPN says what travels on it: `linkHttp2` or `linkTcp`.
 */
export function serverName(service: string, namespace: string, port: number): string {
  return `outbound_.${port}_._.${service}.${namespace}.mesh`
}

/** Requests as streams, opaque connections as CONNECT. */
export const linkHttp2 = 'h2'
/** One opaque connection. */
export const linkTcp = 'meshctl-tcp'
