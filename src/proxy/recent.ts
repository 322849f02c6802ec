// What the last exchange of a connection was logged and counted as. Most go the same way as the one before, so the part of
// the line that only depends on the way is made once, and its counters are looked up once.
import { printAddress } from '../net/addr.ts'
import type { Exchange } from './chain/exchange.ts'
import type { ClusterState } from './cluster/cluster.ts'
import type { EndpointState } from './cluster/endpoint.ts'
import { recorderOf } from './filter/metrics.ts'
import type { Recorder } from './filter/metrics.ts'
import { quoted } from './lines.ts'
import type { LiveRoute, Target } from './live.ts'

export class Recent {
  /** From `route` to `upstream_mtls` of the access log. */
  line: string
  recorder: Recorder | null
  #route: LiveRoute | null
  #target: Target | null
  #cluster: ClusterState | null
  #endpoint: EndpointState | null

  /** `like`: what another connection of the same kind was logged as. */
  constructor(like: Recent | null = null) {
    this.line = like === null ? '' : like.line
    this.recorder = like === null ? null : like.recorder
    this.#route = like === null ? null : like.#route
    this.#target = like === null ? null : like.#target
    this.#cluster = like === null ? null : like.#cluster
    this.#endpoint = like === null ? null : like.#endpoint
  }

  /** The counters of an exchange of this connection; `line` is then its line. */
  of(x: Exchange): Recorder {
    const { recorder } = this
    // The objects are those of one generation: where config changed, one of them is another.
    if (
      recorder !== null &&
      this.#endpoint === x.endpoint &&
      this.#route === x.route &&
      this.#target === x.target &&
      this.#cluster === x.cluster
    ) {
      return recorder
    }
    this.#route = x.route
    this.#target = x.target
    this.#cluster = x.cluster
    this.#endpoint = x.endpoint
    this.line = lineOf(x)
    return (this.recorder = recorderOf(x, x.target.destination))
  }
}

function lineOf({ scope, endpoint, target, cluster, route }: Exchange): string {
  const upstream = endpoint === null ? '' : printAddress(endpoint.config.address, endpoint.config.port)
  const client = scope.client === '' ? '' : `,"client":"${scope.client}"`
  const line =
    `,"route":${quoted(route?.name ?? '')},"service":"${target.destination.service}"` +
    `,"upstream":"${upstream}","version":${quoted(endpoint?.config.version ?? '')}` +
    `${client},"source":"${scope.source.principal}","destination":"${cluster?.config.spiffe ?? ''}"` +
    `,"mtls":${scope.isSecure},"upstream_mtls":${endpoint?.config.via === 'link'},"bytes_in":`
  // Flat, not a rope of its pieces: it is copied with every exchange.
  return Buffer.from(line, 'latin1').latin1Slice()
}
