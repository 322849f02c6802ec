// HAProxy as both hops, one thread each, TLS 1.3 with certificates checked on both sides, connections reused.
import { ensure } from '../../scripts/setup.ts'
import { webName } from '../certs.ts'
import { addresses, cores, type Side } from '../place.ts'
import { capture, peerAddress } from './capture.ts'
import { type Hop, ready, type Setting, type System } from './system.ts'

/** Two may stand beside each other, one for each way to speak between the hops. */
const ports = {
  h1: { link: 8444, client: 8082, metrics: 8405 },
  h2: { link: 8454, client: 8092, metrics: 8415 },
} as const satisfies Record<Hop, unknown>

export async function startHaproxy(setting: Setting, say: (line: string) => void): Promise<System> {
  ensure('haproxy', say)
  const { place, secrets, kind, hop, backendPort } = setting
  const { link, client: clientPort } = ports[hop]
  const name = `haproxy-${hop}`
  const file = (side: Side): { pem: string; roots: string } => {
    const leaf = secrets[side].leafs.at(-1)
    if (leaf === undefined) throw new Error('no certificate')
    return {
      pem: place.file(`${name}-${side}/leaf.pem`, leaf.chain + leaf.key),
      roots: place.file(`${name}-${side}/roots.pem`, secrets[side].roots),
    }
  }
  const [client, server] = [file('client'), file('server')]
  const start = (side: Side, text: string): number => {
    const config = place.file(`${name}-${side}.cfg`, `${common(setting)}${text}`)
    return place.start(`${name}-${side}`, side, cores.proxy, 'haproxy', '-db', '-f', config)
  }
  const plain = kind === 'grpc' ? ' proto h2' : ''
  const alpn = kind === 'tcp' ? '' : ` alpn ${kind === 'grpc' || hop === 'h2' ? 'h2' : 'http/1.1'}`
  const pids = [
    start(
      'client',
      `frontend in
  bind 127.0.0.1:${clientPort}${plain}
  default_backend link
backend link
  server s ${addresses.server}:${link} ssl verify required ca-file ${client.roots} crt ${client.pem} sni str(${webName}) verifyhost ${webName}${alpn} force-tlsv13
`,
    ),
    start(
      'server',
      `frontend in
  bind ${addresses.server}:${link} ssl crt ${server.pem} ca-file ${server.roots} verify required${alpn} ssl-min-ver TLSv1.3
  default_backend app
backend app
  server s 127.0.0.1:${backendPort}${plain}
`,
    ),
  ]
  return ready(setting, 'haproxy', name, () => capture(place, peerAddress(), clientPort), pids)
}

/** Counters are always kept; the page that shows them is the metrics that everybody has on. */
function common({ kind, hop }: Setting): string {
  return `global
  nbthread 1
  maxconn 8192
  tune.ssl.default-dh-param 2048
defaults
  mode ${kind === 'tcp' ? 'tcp' : 'http'}
  ${kind === 'tcp' ? '' : 'option http-keep-alive\n  http-reuse always'}
  timeout connect 5s
  timeout client 3600s
  timeout server 3600s
  timeout tunnel 3600s
frontend metrics
  mode http
  bind 127.0.0.1:${ports[hop].metrics}
  http-request use-service prometheus-exporter if { path /metrics }
`
}
