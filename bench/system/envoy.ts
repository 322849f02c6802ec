// Envoy as both hops, one worker each, TLS 1.3, SPIFFE ids checked on both sides: the data plane of most meshes. Statistics
// are on as they always are; what its own guide for benchmarks turns off (request ids, statistics by the router, circuit
// breaking) is off.
import { envoyBinary } from '../../scripts/envoy.ts'
import { ids } from '../certs.ts'
import { addresses, cores, type Side } from '../place.ts'
import { capture, peerAddress } from './capture.ts'
import { type Hop, type Kind, ready, type Setting, type System } from './system.ts'

/** Two may stand beside each other, one for each way to speak between the hops. */
const ports = {
  h1: { link: 8445, client: 8083, admin: 9901 },
  h2: { link: 8455, client: 8093, admin: 9911 },
} as const satisfies Record<Hop, unknown>
const api = 'type.googleapis.com/envoy.extensions'

type Json = string | number | boolean | { readonly [key: string]: Json } | readonly Json[]

export async function startEnvoy(setting: Setting, say: (line: string) => void): Promise<System> {
  const { place, kind, hop, backendPort } = setting
  const { link: linkPort, client: clientPort, admin } = ports[hop]
  const name = `envoy-${hop}`
  const binary = envoyBinary(say)
  const start = (side: Side, listener: Json, cluster: Json): number => {
    const config = place.file(
      `${name}-${side}.json`,
      JSON.stringify({
        admin: { address: address('127.0.0.1', admin) },
        static_resources: { listeners: [listener], clusters: [cluster] },
      }),
    )
    const args = ['-c', config, '--concurrency', '1', '--disable-hot-restart', '-l', 'error']
    return place.start(`${name}-${side}`, side, cores.proxy, binary, ...args)
  }
  const link: Hop = kind === 'grpc' ? 'h2' : hop
  const app: Hop = kind === 'grpc' ? 'h2' : 'h1'
  const alpn = kind === 'tcp' ? [] : [link === 'h2' ? 'h2' : 'http/1.1']
  const client = tls(setting, 'client', ids.web, alpn)
  const server = tls(setting, 'server', ids.client, alpn)
  const pids = [
    start(
      'client',
      listener('127.0.0.1', clientPort, kind, {}),
      cluster(addresses.server, linkPort, kind, link, {
        transport_socket: socket('tls.v3.UpstreamTlsContext', { common_tls_context: client, sni: 'web' }),
      }),
    ),
    start(
      'server',
      listener(addresses.server, linkPort, kind, {
        transport_socket: socket('tls.v3.DownstreamTlsContext', {
          common_tls_context: server,
          require_client_certificate: true,
        }),
      }),
      cluster('127.0.0.1', backendPort, kind, app, {}),
    ),
  ]
  return ready(setting, 'envoy', name, () => capture(place, peerAddress(), clientPort), pids)
}

const address = (host: string, port: number): Json => ({
  socket_address: { address: host, port_value: port },
})

const socket = (type: string, config: { readonly [key: string]: Json }): Json => ({
  name: 'envoy.transport_sockets.tls',
  typed_config: { '@type': `${api}.transport_sockets.${type}`, ...config },
})

function tls({ place, secrets, hop }: Setting, side: Side, peer: string, alpn: readonly string[]): Json {
  const leaf = secrets[side].leafs.at(-1)
  if (leaf === undefined) throw new Error('no certificate')
  return {
    tls_params: { tls_minimum_protocol_version: 'TLSv1_3', tls_maximum_protocol_version: 'TLSv1_3' },
    alpn_protocols: alpn,
    tls_certificates: [
      {
        certificate_chain: { filename: place.file(`envoy-${hop}-${side}/chain.pem`, leaf.chain) },
        private_key: { filename: place.file(`envoy-${hop}-${side}/key.pem`, leaf.key) },
      },
    ],
    validation_context: {
      trusted_ca: { filename: place.file(`envoy-${hop}-${side}/roots.pem`, secrets[side].roots) },
      match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { exact: peer } }],
    },
  }
}

function listener(host: string, port: number, kind: Kind, more: { readonly [key: string]: Json }): Json {
  const filter: Json =
    kind === 'tcp'
      ? {
          name: 'envoy.filters.network.tcp_proxy',
          typed_config: {
            '@type': `${api}.filters.network.tcp_proxy.v3.TcpProxy`,
            stat_prefix: 'in',
            cluster: 'next',
          },
        }
      : {
          name: 'envoy.filters.network.http_connection_manager',
          typed_config: {
            '@type': `${api}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
            stat_prefix: 'in',
            codec_type: 'AUTO',
            generate_request_id: false,
            stream_idle_timeout: '0s',
            http2_protocol_options: http2,
            ...(kind === 'websocket' ? { upgrade_configs: [{ upgrade_type: 'websocket' }] } : {}),
            route_config: {
              virtual_hosts: [
                {
                  name: 'all',
                  domains: ['*'],
                  routes: [{ match: { prefix: '/' }, route: { cluster: 'next', timeout: '0s' } }],
                },
              ],
            },
            http_filters: [
              {
                name: 'envoy.filters.http.router',
                typed_config: { '@type': `${api}.filters.http.router.v3.Router`, dynamic_stats: false },
              },
            ],
          },
        }
  return { name: 'in', address: address(host, port), filter_chains: [{ filters: [filter], ...more }] }
}

// Windows as wide as Istio's and gRPC's own proxies have them, so that bodies are not slowed down by them.
const http2: { readonly [key: string]: Json } = {
  initial_stream_window_size: 1_048_576,
  initial_connection_window_size: 16_777_216,
  allow_connect: true,
}

function cluster(
  host: string,
  port: number,
  kind: Kind,
  hop: Hop,
  more: { readonly [key: string]: Json },
): Json {
  const unlimited = {
    max_connections: 1_000_000,
    max_pending_requests: 1_000_000,
    max_requests: 1_000_000,
    max_retries: 1_000_000,
  }
  return {
    name: 'next',
    type: 'STATIC',
    connect_timeout: '5s',
    circuit_breakers: { thresholds: [unlimited] },
    load_assignment: {
      cluster_name: 'next',
      endpoints: [{ lb_endpoints: [{ endpoint: { address: address(host, port) } }] }],
    },
    ...(kind === 'tcp'
      ? {}
      : {
          typed_extension_protocol_options: {
            'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
              '@type': `${api}.upstreams.http.v3.HttpProtocolOptions`,
              explicit_http_config:
                hop === 'h2' ? { http2_protocol_options: http2 } : { http_protocol_options: {} },
            },
          },
        }),
    ...more,
  }
}
