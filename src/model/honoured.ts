// Which fields of Istio's objects are honoured, and which exist in Istio but are not honoured yet. Everything else is
// no field at all. Istio's schemas let unknown keys pass, so this closed tree is what refuses them.
import { isRecord } from './problem.ts'
import type { Path } from './text.ts'

export type Node =
  | { readonly kind: 'leaf' }
  | { readonly kind: 'list'; readonly item: Node }
  /** Any keys, chosen by the user (header names, labels). */
  | { readonly kind: 'map'; readonly item: Node }
  | {
      readonly kind: 'object'
      readonly fields: Readonly<Record<string, Node>>
      readonly later: readonly string[]
    }

const leaf: Node = { kind: 'leaf' }
const list = (item: Node): Node => ({ kind: 'list', item })
const map = (item: Node): Node => ({ kind: 'map', item })
/** `later`: Istio's other fields here, separated by spaces. */
const object = (fields: Readonly<Record<string, Node>>, later: string = ''): Node => ({
  kind: 'object',
  fields,
  later: later === '' ? [] : later.split(' '),
})

const stringMatch = object({ exact: leaf, prefix: leaf, regex: leaf })
const destination = object({ host: leaf, subset: leaf, port: object({ number: leaf }) })

const httpMatch = object(
  {
    name: leaf,
    uri: stringMatch,
    method: stringMatch,
    authority: stringMatch,
    headers: map(stringMatch),
    withoutHeaders: map(stringMatch),
    queryParams: map(stringMatch),
    ignoreUriCase: leaf,
    port: leaf,
  },
  'gateways scheme sourceLabels sourceNamespace statPrefix',
)

const httpRoute = object(
  {
    name: leaf,
    match: list(httpMatch),
    route: list(object({ destination, weight: leaf }, 'headers')),
    timeout: leaf,
    retries: object(
      { attempts: leaf, perTryTimeout: leaf, retryOn: leaf },
      'backoff retryIgnorePreviousHosts retryRemoteLocalities',
    ),
  },
  'corsPolicy delegate directResponse fault headers mirror mirrorPercent mirrorPercentage mirrors mirror_percent ' +
    'redirect rewrite',
)

const tlsRoute = object({
  match: list(
    object({ sniHosts: list(leaf), port: leaf }, 'destinationSubnets gateways sourceLabels sourceNamespace'),
  ),
  route: list(object({ destination, weight: leaf })),
})

const tcpRoute = object({
  match: list(
    object({ port: leaf }, 'destinationSubnets gateways sourceLabels sourceNamespace sourceSubnet'),
  ),
  route: list(object({ destination, weight: leaf })),
})

const trafficPolicy = object(
  {
    loadBalancer: object({ simple: leaf }, 'consistentHash localityLbSetting warmup warmupDurationSecs'),
    connectionPool: object({
      tcp: object(
        { maxConnections: leaf, connectTimeout: leaf },
        'idleTimeout maxConnectionDuration tcpKeepalive',
      ),
      http: object(
        { http1MaxPendingRequests: leaf },
        'h2UpgradePolicy http2MaxRequests idleTimeout maxConcurrentStreams maxRequestsPerConnection maxRetries ' +
          'useClientProtocol',
      ),
    }),
    outlierDetection: object(
      {
        consecutive5xxErrors: leaf,
        consecutiveGatewayErrors: leaf,
        baseEjectionTime: leaf,
        maxEjectionPercent: leaf,
      },
      'consecutiveErrors consecutiveLocalOriginFailures interval minHealthPercent splitExternalLocalOriginErrors',
    ),
  },
  'portLevelSettings proxyProtocol retryBudget tls tunnel',
)

const metadata = object(
  { name: leaf, namespace: leaf, labels: map(leaf), annotations: map(leaf) },
  // What a Kubernetes API server adds; exported objects carry them.
  'creationTimestamp deletionTimestamp finalizers generateName generation managedFields ownerReferences ' +
    'resourceVersion selfLink uid',
)

const top = (spec: Node): Node => object({ apiVersion: leaf, kind: leaf, metadata, spec }, 'status')

export const virtualServiceShape: Node = top(
  object(
    { hosts: list(leaf), http: list(httpRoute), tls: list(tlsRoute), tcp: list(tcpRoute) },
    'exportTo gateways',
  ),
)

export const destinationRuleShape: Node = top(
  object(
    { host: leaf, trafficPolicy, subsets: list(object({ name: leaf, labels: map(leaf), trafficPolicy })) },
    'exportTo workloadSelector',
  ),
)

export interface Stranger {
  readonly path: Path
  readonly key: string
  /** Real in Istio, not honoured yet. */
  readonly later: boolean
  readonly known: readonly string[]
}

/** Every key of the value that the tree does not have. Values of a wrong type are the schema's business. */
export function strangers(value: unknown, node: Node, path: Path = []): Stranger[] {
  if (node.kind === 'list') {
    return Array.isArray(value)
      ? value.flatMap((item, index) => strangers(item, node.item, [...path, index]))
      : []
  }
  if (!isRecord(value) || node.kind === 'leaf') return []
  const found: Stranger[] = []
  for (const [key, item] of Object.entries(value)) {
    const below = [...path, key]
    if (node.kind === 'map') found.push(...strangers(item, node.item, below))
    else if (Object.hasOwn(node.fields, key)) found.push(...strangers(item, node.fields[key] ?? leaf, below))
    else {
      const known = [...Object.keys(node.fields), ...node.later]
      found.push({ path: below, key, later: node.later.includes(key), known })
    }
  }
  return found
}
