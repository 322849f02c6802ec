// Istio's objects, as far as they are honoured: Istio's field names and meanings
// (https://istio.io/latest/docs/reference/config/networking/virtual-service/ and …/destination-rule/). What stands here
// is what `istio.ts` lets through; every other field is refused by name, so a reader may trust these types.

export const kinds = ['VirtualService', 'DestinationRule'] as const
export type Kind = (typeof kinds)[number]

export interface Metadata {
  readonly name: string
  /** Default `default`. Filled in by the parser. */
  readonly namespace: string
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
}

/** Exactly one of the three. */
export interface MatchString {
  readonly exact?: string
  readonly prefix?: string
  /** RE2, anchored at both ends. */
  readonly regex?: string
}

export interface HttpMatch {
  readonly name?: string
  readonly uri?: MatchString
  readonly method?: MatchString
  readonly authority?: MatchString
  /** An empty object means "present". */
  readonly headers?: Readonly<Record<string, MatchString>>
  readonly withoutHeaders?: Readonly<Record<string, MatchString>>
  readonly queryParams?: Readonly<Record<string, MatchString>>
  readonly ignoreUriCase?: boolean
  readonly port?: number
}

export interface Destination {
  readonly host: string
  readonly subset?: string
  readonly port?: { readonly number?: number }
}

export interface RouteDestination {
  readonly destination: Destination
  readonly weight?: number
}

export interface Retries {
  readonly attempts?: number
  readonly perTryTimeout?: string
  /** Comma-separated; see `retryWords` in istio.ts. */
  readonly retryOn?: string
}

export interface HttpRoute {
  readonly name?: string
  readonly match?: readonly HttpMatch[]
  readonly route?: readonly RouteDestination[]
  readonly timeout?: string
  readonly retries?: Retries
}

export interface TcpRoute {
  readonly match?: readonly { readonly port?: number }[]
  readonly route?: readonly RouteDestination[]
}

export interface TlsMatch {
  /** `db.example.com`, `*.example.com` or `*`; see servername.ts. */
  readonly sniHosts: readonly string[]
  readonly port?: number
}

/** TLS that is passed through: the first rule that names the client's server name. */
export interface TlsRoute {
  readonly match: readonly TlsMatch[]
  readonly route?: readonly RouteDestination[]
}

export interface VirtualService {
  readonly apiVersion: string
  readonly kind: 'VirtualService'
  readonly metadata: Metadata
  readonly spec: {
    readonly hosts: readonly string[]
    readonly http?: readonly HttpRoute[]
    readonly tls?: readonly TlsRoute[]
    readonly tcp?: readonly TcpRoute[]
  }
}

export interface TrafficPolicy {
  readonly loadBalancer?: { readonly simple?: 'LEAST_REQUEST' | 'ROUND_ROBIN' | 'RANDOM' }
  readonly connectionPool?: {
    readonly tcp?: { readonly maxConnections?: number; readonly connectTimeout?: string }
    readonly http?: { readonly http1MaxPendingRequests?: number }
  }
  readonly outlierDetection?: {
    readonly consecutive5xxErrors?: number
    readonly consecutiveGatewayErrors?: number
    readonly baseEjectionTime?: string
    readonly maxEjectionPercent?: number
  }
}

export interface Subset {
  readonly name: string
  readonly labels?: Readonly<Record<string, string>>
  readonly trafficPolicy?: TrafficPolicy
}

export interface DestinationRule {
  readonly apiVersion: string
  readonly kind: 'DestinationRule'
  readonly metadata: Metadata
  readonly spec: {
    readonly host: string
    readonly trafficPolicy?: TrafficPolicy
    readonly subsets?: readonly Subset[]
  }
}

export type Resource = VirtualService | DestinationRule

export const istioVersion = 'networking.istio.io/v1'

/** The values of retryOn that are honoured (snapshot/types.ts RetryPolicy.on), besides bare status codes. */
export const retryWords = [
  'connect-failure',
  'refused-stream',
  'unavailable',
  'gateway-error',
  '5xx',
  'reset',
  'retriable-status-codes',
] as const
