// Our own proxy as both hops: one worker each, the original destination read from the kernel after a real REDIRECT, the
// peer's SPIFFE id checked, routing and metrics on. Config lies where an agent would have left it.
import { existsSync, readFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { pathsUnder, ports } from '../../src/paths.ts'
import { snapshotHash } from '../../src/snapshot/hash.ts'
import {
  type InboundService,
  type OutboundService,
  serverName,
  type Cluster,
  type Snapshot,
} from '../../src/snapshot/types.ts'
import { ids, trustDomain, webName } from '../certs.ts'
import { addresses, cores, type Side } from '../place.ts'
import type { Setting, System } from './system.ts'

const vip = '240.240.0.10'
const port = 8080

export async function startMeshctl(setting: Setting): Promise<System> {
  const { place, secrets } = setting
  const built = resolve(import.meta.dirname, '../../dist/proxy.js')
  if (!existsSync(built)) throw new Error('dist/proxy.js is missing; run npm run build')
  const start = (side: Side): number => {
    const prefix = join(place.dir, `meshctl-${side}`)
    const state = relative(place.dir, pathsUnder(prefix).proxyState)
    place.file(join(state, 'snapshot.json'), JSON.stringify(snapshotOf(side, setting.backendPort)))
    place.file(join(state, 'secrets.json'), JSON.stringify(secrets[side]))
    place.file(join(relative(place.dir, pathsUnder(prefix).proxySocket), '../.keep'), '')
    place.file(join(relative(place.dir, pathsUnder(prefix).accessLog), '../.keep'), '')
    const listen =
      side === 'client' ? ['--outbound', `127.0.0.1:${ports.outbound}`] : ['--link', `0.0.0.0:${ports.link}`]
    const args = [...unitFlags(), built, '--workers', '1', '--prefix', prefix, ...listen]
    return place.start(`meshctl-${side}`, side, cores.proxy, process.execPath, ...args)
  }
  const pids = [start('server'), start('client')]
  place.run(
    'client',
    cores.load,
    'iptables',
    '-w',
    '-t',
    'nat',
    '-A',
    'OUTPUT',
    '-p',
    'tcp',
    '--syn',
    '-d',
    '240.240.0.0/16',
    '-j',
    'REDIRECT',
    '--to-ports',
    String(ports.outbound),
  )
  const url = `http://${vip}:${port}/`
  await place.answers('meshctl', 'client', url)
  return { name: 'meshctl', url, pids }
}

/** Node's flags as the unit sets them on hosts. */
function unitFlags(): string[] {
  const unit = readFileSync(resolve(import.meta.dirname, '../../templates/meshctl-proxy.service'), 'utf8')
  const flags = /^ExecStart=\S+\/node (.*) \S+\/proxy\.js/m.exec(unit)?.[1]
  if (flags === undefined)
    throw new Error('templates/meshctl-proxy.service has no ExecStart that starts proxy.js')
  return flags.split(' ')
}

function snapshotOf(side: Side, backendPort: number): Snapshot {
  const host = { spiffe: ids[side], service: '', namespace: '', version: '', capturePort: ports.outbound }
  const web = {
    spiffe: ids.web,
    service: 'web',
    namespace: 'default',
    version: 'v1',
    capturePort: ports.identity + 1,
  }
  const sni = serverName('web', 'default', port)
  const inbound: InboundService = {
    service: 'web',
    namespace: 'default',
    version: 'v1',
    identity: 1,
    serverName: sni,
    port: backendPort,
    address: '127.0.0.1',
    protocol: 'http',
    mtls: 'permissive',
  }
  const cluster: Cluster = {
    name: `outbound|${port}||${webName}`,
    service: 'web',
    namespace: 'default',
    subset: '',
    spiffe: ids.web,
    serverName: sni,
    balancer: 'least-request',
    connectTimeout: 5000,
    maxConnections: 0,
    maxPending: 0,
    outlier: { consecutiveErrors: 5, baseEjection: 30_000, maxEjectionPercent: 100 },
    endpoints: [
      {
        address: addresses.server,
        port: backendPort,
        host: 'server',
        version: 'v1',
        weight: 1,
        via: 'link',
        linkPort: ports.link,
      },
    ],
  }
  const outbound: OutboundService = {
    service: 'web',
    namespace: 'default',
    fqdn: webName,
    vip,
    ports: [
      {
        port,
        protocol: 'http',
        instances: [],
        routes: [
          {
            name: 'default',
            matches: [],
            clusters: [{ cluster: 0, weight: 100 }],
            timeout: 0,
            retry: { attempts: 2, perTryTimeout: 0, on: ['connect-failure'], statuses: [], methods: ['GET'] },
          },
        ],
        tcp: [{ cluster: 0, weight: 100 }],
      },
    ],
  }
  const draft: Omit<Snapshot, 'hash'> = {
    schema: 1,
    host: side,
    mesh: 'bench',
    trustDomain,
    identities: side === 'server' ? [host, web] : [host],
    inbound: side === 'server' ? [inbound] : [],
    outbound: side === 'client' ? [outbound] : [],
    clusters: side === 'client' ? [cluster] : [],
    settings: {
      maxHeadBytes: 65_536,
      maxHeaders: 128,
      headTimeout: 30_000,
      idleTimeout: 300_000,
      drainTimeout: 5000,
      // Everything that is on by default, though the others have their logs off.
      accessLog: true,
      unknownDestinations: 'allow',
    },
  }
  return { ...draft, hash: snapshotHash(draft) }
}
