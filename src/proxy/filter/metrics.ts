// Istio's standard metrics, recorded once per exchange or tunnel. Label sets are resolved once per caller, endpoint,
// status and flag.
// Names and labels: https://istio.io/latest/docs/reference/config/metrics/
import type { Destination, Party } from '../live.ts'
import type { Stats } from '../stats.ts'
import type { Exchange } from '../chain/exchange.ts'
import type { Filter } from '../chain/filter.ts'

const millisecondBuckets = [0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000]
const byteBuckets = [100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000]

export interface Labels {
  readonly reporter: 'source' | 'destination'
  readonly source: Party
  readonly destination: Destination
  readonly version: string
  readonly principal: string
  readonly isSecure: boolean
}

interface HttpCell {
  readonly requests: ReturnType<Stats['counter']>
  readonly duration: ReturnType<Stats['histogram']>
  readonly requestBytes: ReturnType<Stats['histogram']>
  readonly responseBytes: ReturnType<Stats['histogram']>
}

interface TcpCell {
  readonly sent: ReturnType<Stats['counter']>
  readonly received: ReturnType<Stats['counter']>
  readonly opened: ReturnType<Stats['counter']>
  readonly closed: ReturnType<Stats['counter']>
}

/** What is counted of an exchange. */
type Finished = Pick<
  Exchange,
  'status' | 'flag' | 'isGrpc' | 'grpcStatus' | 'duration' | 'bytesIn' | 'bytesOut'
>

/** What one caller does with one version of one service. */
export class Recorder {
  #stats: Stats
  #labels: Labels
  /** By flag, then by status. */
  #http: Map<string, Map<number, HttpCell>>
  /** By flag, then by status of HTTP and of gRPC. */
  #grpc: Map<string, Map<number, HttpCell>>
  #tcp: Map<string, TcpCell>
  /** The cell that was used last, of an exchange without gRPC and without a flag. */
  #last: HttpCell | null
  #lastStatus: number

  constructor(stats: Stats, labels: Labels) {
    this.#stats = stats
    this.#labels = labels
    this.#http = new Map()
    this.#grpc = new Map()
    this.#tcp = new Map()
    this.#last = null
    this.#lastStatus = 0
  }

  exchange(x: Finished): void {
    let cell = this.#last
    if (cell === null || x.status !== this.#lastStatus || x.flag !== '' || x.isGrpc) cell = this.#find(x)
    cell.requests.add(1)
    cell.duration.observe(x.duration)
    cell.requestBytes.observe(x.bytesIn)
    cell.responseBytes.observe(x.bytesOut)
  }

  #find(x: Finished): HttpCell {
    const { status, flag, grpcStatus } = x
    const byFlag = x.isGrpc ? this.#grpc : this.#http
    let byStatus = byFlag.get(flag)
    if (byStatus === undefined) byFlag.set(flag, (byStatus = new Map<number, HttpCell>()))
    const key = x.isGrpc ? status * 32 + grpcStatus + 1 : status
    let cell = byStatus.get(key)
    if (cell === undefined) {
      const protocol = x.isGrpc
        ? { request_protocol: 'grpc', grpc_response_status: grpcStatus < 0 ? '' : String(grpcStatus) }
        : { request_protocol: 'http' }
      byStatus.set(key, (cell = this.#httpCell(status, flag, protocol)))
    }
    if (flag === '' && !x.isGrpc) {
      this.#last = cell
      this.#lastStatus = status
    }
    return cell
  }

  opened(): void {
    this.#tcpCell('-').opened.add(1)
  }

  closed(flag: string, bytesIn: number, bytesOut: number): void {
    const cell = this.#tcpCell(flag === '' ? '-' : flag)
    cell.closed.add(1)
    // Seen from the service: what the caller sent is what was received.
    cell.received.add(bytesIn)
    cell.sent.add(bytesOut)
  }

  #httpCell(status: number, flag: string, protocol: Record<string, string>): HttpCell {
    const labels = {
      ...this.#common(flag === '' ? '-' : flag),
      ...protocol,
      response_code: String(status),
    }
    const stats = this.#stats
    return {
      requests: stats.counter('istio_requests_total', 'Requests', labels),
      duration: stats.histogram(
        'istio_request_duration_milliseconds',
        'Duration of requests',
        labels,
        millisecondBuckets,
      ),
      requestBytes: stats.histogram('istio_request_bytes', 'Size of request bodies', labels, byteBuckets),
      responseBytes: stats.histogram('istio_response_bytes', 'Size of response bodies', labels, byteBuckets),
    }
  }

  #tcpCell(flag: string): TcpCell {
    let cell = this.#tcp.get(flag)
    if (cell !== undefined) return cell
    const labels = { ...this.#common(flag), request_protocol: 'tcp' }
    const stats = this.#stats
    cell = {
      sent: stats.counter('istio_tcp_sent_bytes_total', 'Bytes sent in responses', labels),
      received: stats.counter('istio_tcp_received_bytes_total', 'Bytes received in requests', labels),
      opened: stats.counter('istio_tcp_connections_opened_total', 'Opened connections', labels),
      closed: stats.counter('istio_tcp_connections_closed_total', 'Closed connections', labels),
    }
    this.#tcp.set(flag, cell)
    return cell
  }

  #common(flag: string): Record<string, string> {
    const { reporter, source, destination, version, principal, isSecure } = this.#labels
    return {
      reporter,
      source_workload: known(source.workload),
      source_workload_namespace: known(source.namespace),
      source_principal: known(source.principal),
      destination_service: known(destination.service),
      destination_service_name: known(destination.name),
      destination_service_namespace: known(destination.namespace),
      destination_version: known(version),
      destination_principal: known(principal),
      response_flags: flag,
      // Only the server side can vouch for it, as in Istio.
      connection_security_policy: reporter === 'source' ? 'unknown' : isSecure ? 'mutual_tls' : 'none',
    }
  }
}

export class Recorders {
  #stats: Stats
  #unrouted: Map<string, Recorder>

  constructor(stats: Stats) {
    this.#stats = stats
    this.#unrouted = new Map()
  }

  make(labels: Labels): Recorder {
    return new Recorder(this.#stats, labels)
  }

  /** For what never reached an endpoint. */
  unrouted(
    reporter: Labels['reporter'],
    source: Party,
    destination: Destination,
    isSecure: boolean,
  ): Recorder {
    const key = `${reporter} ${source.principal} ${destination.service} ${isSecure}`
    let recorder = this.#unrouted.get(key)
    if (recorder === undefined) {
      recorder = this.make({ reporter, source, destination, version: '', principal: '', isSecure })
      this.#unrouted.set(key, recorder)
    }
    return recorder
  }
}

/** The recorder of a caller on the endpoint that served it, or of one that got to none. */
export function recorderOf(
  x: Pick<Exchange, 'core' | 'scope' | 'endpoint'>,
  destination: Destination,
): Recorder {
  const { scope, endpoint } = x
  if (endpoint === null)
    return x.core.recorders.unrouted(scope.reporter, scope.source, destination, scope.isSecure)
  const key = scope.isSecure ? scope.source.principal : `plain ${scope.source.principal}`
  let recorder = endpoint.recorders.get(key)
  if (recorder === undefined) {
    recorder = x.core.recorders.make({
      reporter: scope.reporter,
      source: scope.source,
      destination,
      version: endpoint.config.version,
      principal: endpoint.cluster.config.spiffe,
      isSecure: scope.isSecure,
    })
    endpoint.recorders.set(key, recorder)
  }
  return recorder
}

export const metrics: Filter = {
  name: 'metrics',
  onFinish(x) {
    x.scope.recent.of(x).exchange(x)
  },
}

function known(text: string): string {
  return text === '' ? 'unknown' : text
}
