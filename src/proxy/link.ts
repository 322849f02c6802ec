// Snapshot (and the generation before) → Live. All or nothing: everything that can fail is built before anything that is
// shared is touched.
import { MeshError } from '../errors.ts'
import type { Cluster, RetryPolicy, Snapshot } from '../snapshot/types.ts'
import { compileChain } from './chain/filter.ts'
import type { Core } from './core.ts'
import type { Keep } from './keep.ts'
import type { Destination, Live, LiveIdentity, LiveInbound, LiveRoute } from './live.ts'
import * as order from './order.ts'
import { linkOutbound, linkRetry } from './outbound.ts'
import { Split } from './route/pick.ts'
import { RouteTable } from './route/table.ts'

const noRetry: RetryPolicy = { attempts: 0, perTryTimeout: 0, on: [], statuses: [], methods: [] }
/** Connects to an application on this host. */
const localConnectTimeout = 5000
const nowhere: Destination = { service: '', name: '', namespace: '' }

/**
 * Parts that are the same objects as in the snapshot of `before` are taken from there as they were linked. Throws MSH0701;
 * then nothing has changed. `adopt` makes the survivors' new owners known: call it when all is well.
 */
export function link(
  core: Core,
  keep: Keep,
  snapshot: Snapshot,
  before: Live | null,
): { live: Live; adopt: () => void } {
  if ((snapshot.schema as number) !== 1) throw new MeshError('MSH0701', `unknown schema ${snapshot.schema}`)
  const { settings } = snapshot
  const identities = snapshot.identities.map((identity): LiveIdentity => ({
    principal: identity.spiffe,
    workload: identity.service,
    namespace: identity.namespace,
    capturePort: identity.capturePort,
  }))
  if (identities.length === 0) throw new MeshError('MSH0701', 'no identity: not even the host itself')
  const draft = keep.draft(core)
  const clusters = snapshot.clusters.map((cluster) => draft.cluster(cluster))
  // Chains are compiled by settings.
  const linked = linkOutbound(snapshot, clusters, before?.settings === settings ? before.linked : null)
  const inbound = snapshot.inbound.map((service): LiveInbound => {
    const identity = identities[service.identity]
    if (identity === undefined) {
      throw new MeshError(
        'MSH0701',
        `${service.service}.${service.namespace} names an identity that is not there`,
      )
    }
    const destination = {
      service: `${service.service}.${service.namespace}.mesh`,
      name: service.service,
      namespace: service.namespace,
    }
    const local = draft.cluster(localCluster(snapshot, service, identity.principal))
    const chain = compileChain(order.inbound(settings))
    const parts = new Split([{ cluster: local, weight: 1 }])
    const route: LiveRoute = {
      name: 'inbound',
      matches: null,
      split: parts,
      chain,
      timeout: 0,
      retry: linkRetry(noRetry),
    }
    return {
      protocol: service.protocol,
      destination,
      routes: new RouteTable([route], [[]]),
      fallback: chain,
      tls: null,
      tcp: parts,
      announce: service.proxyProtocol?.send === true ? service.port : 0,
      key: `in ${service.port}`,
      service,
      spiffe: identity.principal,
    }
  })
  const live: Live = {
    snapshot,
    settings,
    identities,
    byCapturePort: new Map(identities.map((identity) => [identity.capturePort, identity])),
    outbound: linked.targets,
    inboundByPort: new Map(inbound.map((service) => [service.service.port, service])),
    inboundByName: new Map(inbound.map((service) => [service.service.serverName, service])),
    linked,
    nowhere: {
      protocol: 'http',
      destination: nowhere,
      routes: new RouteTable([], []),
      fallback: compileChain(order.outbound(settings, { timeout: 0 })),
      tls: null,
      tcp: null,
      announce: 0,
      key: '',
    },
  }
  return { live, adopt: () => draft.adopt() }
}

/** The application on this host as a cluster of one plain endpoint. */
function localCluster(snapshot: Snapshot, service: Snapshot['inbound'][number], spiffe: string): Cluster {
  return {
    name: `inbound|${service.port}||${service.service}.${service.namespace}.mesh`,
    service: service.service,
    namespace: service.namespace,
    subset: '',
    spiffe,
    serverName: '',
    balancer: 'round-robin',
    connectTimeout: localConnectTimeout,
    maxConnections: 0,
    maxPending: 1024,
    outlier: { consecutiveErrors: 0, baseEjection: 0, maxEjectionPercent: 0 },
    endpoints: [
      {
        address: service.address,
        // Where the application listens; the kernel redirected the same port.
        port: service.port,
        host: snapshot.host,
        version: service.version,
        weight: 1,
        via: 'plain',
        linkPort: 0,
      },
    ],
  }
}
