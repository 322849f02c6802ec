// Our own proxy as both hops: one worker each, the original destination read from the kernel after a real REDIRECT, the
// peer's SPIFFE id checked, routing and metrics on. Config lies where an agent would have left it.
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { type Paths, pathsUnder, ports } from '../../src/paths.ts'
import type { Snapshot } from '../../src/snapshot/types.ts'
import { cores, type Side } from '../place.ts'
import { capture } from './capture.ts'
import { clientSnapshot, serverSnapshot, type Shape } from './snapshot.ts'
import { ready, type Setting, type System } from './system.ts'

export interface MeshOptions {
  readonly instances?: number
  readonly others?: Shape['others']
  /** Set for the proxies' processes. */
  readonly environment?: Readonly<Record<string, string>>
}

/** One pair may run beside another: each has ports, a virtual address and folders of its own. */
export interface Mesh extends System {
  readonly paths: Record<Side, Paths>
  readonly snapshots: Record<Side, Snapshot>
  readonly linkPort: number
}

/** All ports of a pair are the usual ones plus a multiple of this. */
const portStep = 200
let started = 0

export async function startMeshctl(setting: Setting, options: MeshOptions = {}): Promise<Mesh> {
  const { place, secrets } = setting
  const built = resolve(import.meta.dirname, '../../dist/proxy.js')
  if (!existsSync(built)) throw new Error('dist/proxy.js is missing; run npm run build')
  const turn = started++
  const name = `meshctl${turn}`
  const shift = (turn % 16) * portStep
  const shape: Shape = {
    protocol: setting.kind === 'tcp' ? 'tcp' : 'http',
    backendPort: setting.backendPort,
    vip: `240.240.0.${10 + (turn % 200)}`,
    outboundPort: ports.outbound + shift,
    linkPort: ports.link + shift,
    instances: options.instances ?? 1,
    others: options.others ?? null,
  }
  const snapshots = { client: clientSnapshot(shape), server: serverSnapshot(shape) }
  const paths = {
    client: pathsUnder(join(place.dir, `${name}-client`)),
    server: pathsUnder(join(place.dir, `${name}-server`)),
  }
  const start = (side: Side): number => {
    const { proxyState, proxySocket, accessLog } = paths[side]
    const file = (path: string, content: string): string => place.file(relative(place.dir, path), content)
    file(join(proxyState, 'snapshot.json'), JSON.stringify(snapshots[side]))
    file(join(proxyState, 'secrets.json'), JSON.stringify(secrets[side]))
    file(join(dirname(proxySocket), '.keep'), '')
    file(join(dirname(accessLog), '.keep'), '')
    const listen =
      side === 'client'
        ? ['--outbound', `127.0.0.1:${shape.outboundPort}`]
        : ['--link', `0.0.0.0:${shape.linkPort}`]
    return place.start(
      `${name}-${side}`,
      side,
      cores.proxy,
      'env',
      ...Object.entries(options.environment ?? {}).map(([key, value]) => `${key}=${value}`),
      process.execPath,
      ...unitFlags(),
      built,
      '--workers',
      '1',
      '--prefix',
      join(place.dir, `${name}-${side}`),
      '--health',
      `127.0.0.1:${ports.health + shift}`,
      '--prometheus',
      `127.0.0.1:${ports.prometheus + shift}`,
      ...listen,
    )
  }
  const pids = [start('client'), start('server')]
  const system = await ready(
    setting,
    'meshctl',
    name,
    () => capture(place, shape.vip, shape.outboundPort),
    pids,
  )
  return { ...system, paths, snapshots, linkPort: shape.linkPort }
}

/** Node's flags as the unit sets them on hosts. */
function unitFlags(): string[] {
  const unit = readFileSync(resolve(import.meta.dirname, '../../templates/meshctl-proxy.service'), 'utf8')
  const flags = /^ExecStart=\S+\/node (.*) \S+\/proxy\.js/m.exec(unit)?.[1]
  if (flags === undefined)
    throw new Error('templates/meshctl-proxy.service has no ExecStart that starts proxy.js')
  return flags.split(' ')
}
