// HAProxy as both hops, one thread each, TLS 1.3 with certificates checked on both sides, connections reused.
import { addresses, cores, type Side } from '../place.ts'
import { webName } from '../certs.ts'
import type { Setting, System } from './system.ts'

const linkPort = 8444
const clientPort = 8082

export async function startHaproxy(setting: Setting): Promise<System> {
  const { place, secrets } = setting
  const file = (side: Side): { pem: string; roots: string } => {
    const leaf = secrets[side].leafs.at(-1)
    if (leaf === undefined) throw new Error('no certificate')
    return {
      pem: place.file(`haproxy-${side}/leaf.pem`, leaf.chain + leaf.key),
      roots: place.file(`haproxy-${side}/roots.pem`, secrets[side].roots),
    }
  }
  const [client, server] = [file('client'), file('server')]
  const start = (side: Side, text: string): number => {
    const config = place.file(`haproxy-${side}.cfg`, `${common}${text}`)
    return place.start(`haproxy-${side}`, side, cores.proxy, 'haproxy', '-db', '-f', config)
  }
  const pids = [
    start(
      'client',
      `frontend in
  bind 127.0.0.1:${clientPort}
  default_backend link
backend link
  server s ${addresses.server}:${linkPort} ssl verify required ca-file ${client.roots} crt ${client.pem} sni str(${webName}) verifyhost ${webName} alpn http/1.1 force-tlsv13
`,
    ),
    start(
      'server',
      `frontend in
  bind ${addresses.server}:${linkPort} ssl crt ${server.pem} ca-file ${server.roots} verify required alpn http/1.1 ssl-min-ver TLSv1.3
  default_backend app
backend app
  server s 127.0.0.1:${setting.backendPort}
`,
    ),
  ]
  const url = `http://127.0.0.1:${clientPort}/`
  await place.answers('haproxy', 'client', url)
  return { name: 'haproxy', url, pids }
}

const common = `global
  nbthread 1
  maxconn 8192
  tune.ssl.default-dh-param 2048
defaults
  mode http
  option http-keep-alive
  http-reuse always
  timeout connect 5s
  timeout client 3600s
  timeout server 3600s
`
