// Istio's waypoint is an Envoy that opens its tunnels as here (istio/istio, pilot/pkg/networking/core/waypoint.go): what is
// routed to an endpoint goes to the internal listener `connect_originate`, which sends CONNECT with the endpoint's address
// over mTLS with ALPN h2 and no server name, to the port for HBONE at that address. Only that port is another one here.
import assert from 'node:assert/strict'
import http from 'node:http'
import net from 'node:net'
import { before, test, type TestContext } from 'node:test'
import { envoyBinary } from '../../scripts/envoy.ts'
import { Authority, Client, eventually, Instance, listen, trustDomain, webId } from './hops.ts'
import { freePort, run } from './program.ts'

const authority = new Authority()
const waypointId = `spiffe://${trustDomain}/ns/default/sa/waypoint`
const api = 'type.googleapis.com/envoy.extensions'
const destination = 'envoy.filters.listener.original_dst'

let binary = ''
let missing = ''
before(() => {
  try {
    binary = envoyBinary((line) => console.error(line))
  } catch (error) {
    missing = `no Envoy here: ${String(error)}`
  }
})

type Json = string | number | boolean | readonly Json[] | { readonly [key: string]: Json }
type Fields = { readonly [key: string]: Json }

const typed = (name: string, type: string, config: Fields = {}): Json => ({
  name,
  typed_config: { '@type': `${api}.${type}`, ...config },
})
const tcpProxy = (config: Fields): Json =>
  typed('tcp_proxy', 'filters.network.tcp_proxy.v3.TcpProxy', { stat_prefix: 'tcp', ...config })
const http2Only = {
  'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
    '@type': `${api}.upstreams.http.v3.HttpProtocolOptions`,
    explicit_http_config: { http2_protocol_options: { allow_connect: true } },
  },
}

interface Ports {
  readonly http: number
  readonly tcp: number
}

/** A waypoint before an instance; it takes HTTP on one port and anything on the other. */
async function waypoint(
  t: TestContext,
  { appPort, linkPort }: Instance,
  leaf = authority.leaf(waypointId),
): Promise<Ports> {
  const ports = { http: await freePort(), tcp: await freePort() }
  const at = (port: number): Json => ({ socket_address: { address: '127.0.0.1', port_value: port } })
  const listener = (name: string, port: number, filter: Json): Json => ({
    name,
    address: at(port),
    filter_chains: [{ filters: [filter] }],
  })
  const router = typed('router', 'filters.http.router.v3.Router')
  const manager = typed('http', 'filters.network.http_connection_manager.v3.HttpConnectionManager', {
    stat_prefix: 'http',
    route_config: {
      virtual_hosts: [
        { name: 'all', domains: ['*'], routes: [{ match: { prefix: '/' }, route: { cluster: 'web' } }] },
      ],
    },
    http_filters: [router],
  })
  const originate = {
    name: 'connect_originate',
    internal_listener: {},
    listener_filters: [typed(destination, 'filters.listener.original_dst.v3.OriginalDst')],
    filter_chains: [
      {
        filters: [
          tcpProxy({
            cluster: 'connect_originate',
            tunneling_config: { hostname: '%DOWNSTREAM_LOCAL_ADDRESS%' },
          }),
        ],
      },
    ],
  }
  const web = {
    name: 'web',
    load_assignment: {
      cluster_name: 'web',
      endpoints: [
        {
          lb_endpoints: [
            {
              endpoint: {
                address: { envoy_internal_address: { server_listener_name: 'connect_originate' } },
              },
              metadata: { filter_metadata: { [destination]: { local: `127.0.0.1:${appPort}` } } },
            },
          ],
        },
      ],
    },
    transport_socket: typed(
      'internal_upstream',
      'transport_sockets.internal_upstream.v3.InternalUpstreamTransport',
      {
        passthrough_metadata: [{ name: destination, kind: { host: {} } }],
        transport_socket: typed('raw_buffer', 'transport_sockets.raw_buffer.v3.RawBuffer'),
      },
    ),
  }
  const tunnels = {
    name: 'connect_originate',
    type: 'ORIGINAL_DST',
    lb_policy: 'CLUSTER_PROVIDED',
    original_dst_lb_config: { upstream_port_override: linkPort },
    typed_extension_protocol_options: http2Only,
    transport_socket: typed('tls', 'transport_sockets.tls.v3.UpstreamTlsContext', {
      common_tls_context: {
        alpn_protocols: ['h2'],
        tls_params: { tls_minimum_protocol_version: 'TLSv1_3', tls_maximum_protocol_version: 'TLSv1_3' },
        tls_certificates: [
          { certificate_chain: { inline_string: leaf.chain }, private_key: { inline_string: leaf.key } },
        ],
        validation_context: {
          trusted_ca: { inline_string: authority.roots },
          match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { exact: webId } }],
        },
      },
    }),
  }
  const config = {
    bootstrap_extensions: [
      typed('envoy.bootstrap.internal_listener', 'bootstrap.internal_listener.v3.InternalListener'),
    ],
    static_resources: {
      listeners: [
        listener('tcp', ports.tcp, tcpProxy({ cluster: 'web' })),
        listener('http', ports.http, manager),
        originate,
      ],
      clusters: [web, tunnels],
    },
  }
  const flags = ['--concurrency', '1', '--disable-hot-restart', '-l', 'error']
  await run(t, ports.http, '', () => [binary, '--config-yaml', JSON.stringify(config), ...flags])
  return ports
}

function get(t: TestContext, port: number, path: string): Promise<{ status: number; body: string }> {
  const agent = new http.Agent()
  t.after(() => agent.destroy())
  return new Promise((resolve, reject) => {
    const request = http.get({ port, host: '127.0.0.1', path, agent }, (response) => {
      let body = ''
      response.on('data', (chunk: Buffer) => (body += chunk.toString()))
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }))
    })
    request.on('error', reject)
  })
}

test('bytes through a waypoint: both ways, half-close kept, the waypoint is the caller', async (t) => {
  if (binary === '') return t.skip(missing)
  const app = net.createServer({ allowHalfOpen: true }, (socket) => {
    const chunks: Buffer[] = []
    socket.on('data', (chunk: Buffer) => chunks.push(chunk))
    socket.on('end', () => socket.end(Buffer.concat(chunks)))
  })
  const instance = await new Instance(t, await listen(t, app), { protocol: 'tcp' }).start(authority)
  const { tcp } = await waypoint(t, instance)
  const bulk = 'abcdef'.repeat(100_000)
  for (let i = 0; i < 3; i++) {
    const client = new Client(t, tcp)
    client.socket.end(bulk)
    await client.until(({ text }) => text.length === bulk.length, 'all of it')
    assert.equal(client.text, bulk)
  }
  await eventually(() => instance.lines.length === 3, 'the lines')
  for (const line of instance.lines) {
    assert.deepEqual([line.protocol, line.source, line.mtls, line.flags], ['TCP', waypointId, true, '-'])
    assert.deepEqual([line.bytes_in, line.bytes_out], [bulk.length, bulk.length])
  }
})

test('requests through a waypoint are requests here: identity, routes and log of each', async (t) => {
  if (binary === '') return t.skip(missing)
  const app = http.createServer((request, response) => {
    response.setHeader('content-type', 'text/plain')
    response.end(`${request.url} ${String(request.headers['x-forwarded-client-cert'])}`)
  })
  const instance = await new Instance(t, await listen(t, app), { protocol: 'http' }).start(authority)
  const ports = await waypoint(t, instance)
  for (let i = 0; i < 5; i++) {
    const { status, body } = await get(t, ports.http, `/things/${i}`)
    assert.equal(status, 200)
    assert.match(body, new RegExp(`^/things/${i} .*URI=${waypointId}`))
  }
  await eventually(() => instance.lines.length === 5, 'the lines')
  assert.deepEqual(
    instance.lines.map(({ path, status, source, mtls }) => [path, status, source, mtls]),
    [0, 1, 2, 3, 4].map((i) => [`/things/${i}`, 200, waypointId, true]),
  )
})

test('a waypoint of other roots gets no tunnel', async (t) => {
  if (binary === '') return t.skip(missing)
  let reached = 0
  const app = http.createServer((_request, response) => {
    reached++
    response.end()
  })
  const instance = await new Instance(t, await listen(t, app), { protocol: 'http' }).start(authority)
  const ports = await waypoint(t, instance, new Authority().leaf(waypointId))
  assert.equal((await get(t, ports.http, '/')).status, 503)
  assert.equal(reached, 0)
})
