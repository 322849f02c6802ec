// nginx as both hops, one worker each, TLS 1.3 with certificates checked on both sides, connections kept.
import { addresses, cores, type Place, type Side } from '../place.ts'
import { webName } from '../certs.ts'
import type { Setting, System } from './system.ts'

const linkPort = 8443
const clientPort = 8081

export async function startNginx(setting: Setting): Promise<System> {
  const { place, secrets } = setting
  for (const side of ['client', 'server'] as const) {
    const leaf = secrets[side].leafs.at(-1)
    if (leaf === undefined) throw new Error('no certificate')
    place.file(`nginx-${side}/chain.pem`, leaf.chain)
    place.file(`nginx-${side}/key.pem`, leaf.key)
    place.file(`nginx-${side}/roots.pem`, secrets[side].roots)
  }
  const dir = (side: Side): string => `${place.dir}/nginx-${side}`
  const client = run(
    place,
    'client',
    `
    upstream link { server ${addresses.server}:${linkPort}; keepalive 512; keepalive_requests 100000000; }
    server {
      listen 127.0.0.1:${clientPort};
      location / {
        proxy_pass https://link; proxy_http_version 1.1; proxy_set_header Connection "";
        proxy_ssl_protocols TLSv1.3; proxy_ssl_verify on; proxy_ssl_verify_depth 3;
        proxy_ssl_server_name on; proxy_ssl_name ${webName};
        proxy_ssl_certificate ${dir('client')}/chain.pem; proxy_ssl_certificate_key ${dir('client')}/key.pem;
        proxy_ssl_trusted_certificate ${dir('client')}/roots.pem;
      }
    }`,
  )
  const server = run(
    place,
    'server',
    `
    upstream app { server 127.0.0.1:${setting.backendPort}; keepalive 512; keepalive_requests 100000000; }
    server {
      listen ${addresses.server}:${linkPort} ssl;
      ssl_protocols TLSv1.3; ssl_verify_client on; ssl_verify_depth 3;
      ssl_certificate ${dir('server')}/chain.pem; ssl_certificate_key ${dir('server')}/key.pem;
      ssl_client_certificate ${dir('server')}/roots.pem;
      location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }
    }`,
  )
  const url = `http://127.0.0.1:${clientPort}/`
  await place.answers('nginx', 'client', url)
  return { name: 'nginx', url, pids: [client, server] }
}

/** The plain server behind all proxies: one body from memory. */
export async function startBackend(place: Place, port: number, bytes: number): Promise<void> {
  const config = place.file(
    'backend.conf',
    wrap(place, 'backend', `server { listen ${port}; location / { return 200 "${'x'.repeat(bytes)}"; } }`),
  )
  place.start('backend', 'server', cores.load, 'nginx', '-c', config, '-e', 'stderr')
  await place.answers('backend', 'server', `http://127.0.0.1:${port}/`)
}

function run(place: Place, side: Side, http: string): number {
  const config = place.file(`nginx-${side}.conf`, wrap(place, `nginx-${side}`, http))
  return place.start(`nginx-${side}`, side, cores.proxy, 'nginx', '-c', config, '-e', 'stderr')
}

function wrap(place: Place, name: string, http: string): string {
  return `daemon off; user root; worker_processes 1; pid ${place.dir}/${name}.pid; error_log stderr crit;
events { worker_connections 8192; }
http {
  access_log off; keepalive_requests 100000000; keepalive_timeout 3600s; default_type text/plain;
  client_body_temp_path ${place.dir}/${name}-tmp; proxy_temp_path ${place.dir}/${name}-tmp;
  fastcgi_temp_path ${place.dir}/${name}-tmp; uwsgi_temp_path ${place.dir}/${name}-tmp; scgi_temp_path ${place.dir}/${name}-tmp;
  ${http}
}
`
}
