// nginx as both hops, one worker each, TLS 1.3 with certificates checked on both sides, connections kept. Between its hops
// it speaks HTTP/1.1, or HTTP/2 with one stream per connection for gRPC: it knows nothing else upstream.
import { ensure } from '../../scripts/setup.ts'
import { webName } from '../certs.ts'
import { addresses, cores, type Place, type Side } from '../place.ts'
import { capture, peerAddress } from './capture.ts'
import { ready, type Setting, type System } from './system.ts'

const linkPort = 8443
const clientPort = 8081

export async function startNginx(setting: Setting, say: (line: string) => void): Promise<System> {
  const { place, secrets, kind, backendPort } = setting
  if (kind === 'tcp') ensure('nginx', say)
  for (const side of ['client', 'server'] as const) {
    const leaf = secrets[side].leafs.at(-1)
    if (leaf === undefined) throw new Error('no certificate')
    place.file(`nginx-${side}/chain.pem`, leaf.chain)
    place.file(`nginx-${side}/key.pem`, leaf.key)
    place.file(`nginx-${side}/roots.pem`, secrets[side].roots)
  }
  const dir = (side: Side): string => `${place.dir}/nginx-${side}`
  const dialTls = (prefix: string): string => `
        ${prefix}_ssl_protocols TLSv1.3; ${prefix}_ssl_verify on; ${prefix}_ssl_verify_depth 3;
        ${prefix}_ssl_server_name on; ${prefix}_ssl_name ${webName};
        ${prefix}_ssl_certificate ${dir('client')}/chain.pem; ${prefix}_ssl_certificate_key ${dir('client')}/key.pem;
        ${prefix}_ssl_trusted_certificate ${dir('client')}/roots.pem;`
  const serveTls = `
      ssl_protocols TLSv1.3; ssl_verify_client on; ssl_verify_depth 3;
      ssl_certificate ${dir('server')}/chain.pem; ssl_certificate_key ${dir('server')}/key.pem;
      ssl_client_certificate ${dir('server')}/roots.pem;`
  const sides = { place, backendPort, dialTls, serveTls }
  const config = kind === 'tcp' ? stream(sides) : web(sides, kind)
  const pids = (['client', 'server'] as const).map((side) => run(place, side, config[side]))
  return ready(setting, 'nginx', 'nginx', () => capture(place, peerAddress(), clientPort), pids)
}

interface Sides {
  readonly place: Place
  readonly backendPort: number
  readonly dialTls: (prefix: string) => string
  readonly serveTls: string
}

function web(
  { place, backendPort, dialTls, serveTls }: Sides,
  kind: 'http' | 'grpc' | 'websocket',
): Record<Side, string> {
  const [dial, scheme, tls] = kind === 'grpc' ? ['grpc', 'grpc', 'grpcs'] : ['proxy', 'http', 'https']
  const http2 = kind === 'grpc' ? ' http2' : ''
  // Bodies are passed on as they come, with as much memory as the others have; never by way of the disk.
  const how =
    kind === 'grpc'
      ? 'grpc_buffer_size 64k; client_max_body_size 0;'
      : `proxy_http_version 1.1; client_max_body_size 0; proxy_request_buffering off; client_body_buffer_size 64k;
        proxy_buffer_size 64k; proxy_buffers 16 64k; proxy_busy_buffers_size 256k; proxy_max_temp_file_size 0;
        ${
          kind === 'websocket'
            ? 'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; proxy_read_timeout 3600s;'
            : 'proxy_set_header Connection "";'
        }`
  const metrics = (side: Side): string =>
    `server { listen 127.0.0.1:${side === 'client' ? 8406 : 8407}; location / { stub_status; } }`
  const upstream = (name: string, address: string): string =>
    `upstream ${name} { server ${address}; keepalive 1024; keepalive_requests 100000000; keepalive_timeout 3600s; }`
  return {
    client: http(
      place,
      'nginx-client',
      `${metrics('client')}
    ${upstream('link', `${addresses.server}:${linkPort}`)}
    server {
      listen 127.0.0.1:${clientPort}${http2};
      location / { ${dial}_pass ${tls}://link; ${how} ${dialTls(dial)}
      }
    }`,
    ),
    server: http(
      place,
      'nginx-server',
      `${metrics('server')}
    ${upstream('app', `127.0.0.1:${backendPort}`)}
    server {
      listen ${addresses.server}:${linkPort} ssl${http2};${serveTls}
      location / { ${dial}_pass ${scheme}://app; ${how} }
    }`,
    ),
  }
}

function stream({ place, backendPort, dialTls, serveTls }: Sides): Record<Side, string> {
  const wrap = (side: Side, text: string): string => `load_module /usr/lib/nginx/modules/ngx_stream_module.so;
${head(place, `nginx-${side}`)}
stream {
  proxy_buffer_size 64k;
  ${text}
}
`
  return {
    client: wrap(
      'client',
      `server { listen 127.0.0.1:${clientPort}; proxy_pass ${addresses.server}:${linkPort}; proxy_ssl on; ${dialTls('proxy')} }`,
    ),
    server: wrap(
      'server',
      `server { listen ${addresses.server}:${linkPort} ssl; proxy_pass 127.0.0.1:${backendPort};${serveTls} }`,
    ),
  }
}

function run(place: Place, side: Side, text: string): number {
  const config = place.file(`nginx-${side}.conf`, text)
  return place.start(`nginx-${side}`, side, cores.proxy, 'nginx', '-c', config, '-e', 'stderr')
}

function head(place: Place, name: string): string {
  return `daemon off; user root; worker_processes 1; pid ${place.dir}/${name}.pid;
error_log stderr crit;
events { worker_connections 16384; }`
}

/** A configuration of the web server, for a proxy or a backend. */
export function http(place: Place, name: string, text: string): string {
  const temporary = `${place.dir}/${name}-tmp`
  return `${head(place, name)}
http {
  access_log off; keepalive_requests 100000000; keepalive_timeout 3600s; default_type text/plain;
  client_body_temp_path ${temporary}; proxy_temp_path ${temporary}; fastcgi_temp_path ${temporary};
  uwsgi_temp_path ${temporary}; scgi_temp_path ${temporary};
  ${text}
}
`
}
