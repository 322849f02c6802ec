// Two hops on our runtime that only carry bytes (bench/program/floor.ts): what is left to a proxy on it is the distance
// between this and a peer. No peer itself, and measured only where it is asked for.
import { resolve } from 'node:path'
import { environment, nodeFlags } from '../../src/proxy/child.ts'
import { addresses, cores, type Side } from '../place.ts'
import { capture, peerAddress } from './capture.ts'
import { ready, type Setting, type System } from './system.ts'

const linkPort = 8464
const clientPort = 8164

export async function startFloor(setting: Setting): Promise<System> {
  const { place, secrets, backendPort } = setting
  const start = (side: Side, ...args: (string | number)[]): number => {
    const leaf = secrets[side].leafs.at(-1)
    if (leaf === undefined) throw new Error('no certificate')
    const files = [
      place.file(`floor-${side}/chain.pem`, leaf.chain),
      place.file(`floor-${side}/key.pem`, leaf.key),
      place.file(`floor-${side}/roots.pem`, secrets[side].roots),
    ]
    const program = resolve(import.meta.dirname, '../program/floor.ts')
    const settings = Object.entries(environment).map(([name, value]) => `${name}=${value}`)
    const command = [...settings, process.execPath, ...nodeFlags, program, ...args.map(String), ...files]
    return place.start('floor', side, cores.proxy, 'env', ...command)
  }
  const far = start('server', linkPort, addresses.server, 'far', '127.0.0.1', backendPort)
  try {
    await place.until('floor', () => {
      place.run('server', cores.load, 'sh', '-c', `ss -Hltn sport = :${linkPort} | grep -q .`)
    })
  } catch (error) {
    place.end([far])
    throw error
  }
  const near = start('client', clientPort, '127.0.0.1', 'near', addresses.server, linkPort)
  return ready(setting, 'floor', 'floor', () => capture(place, peerAddress(), clientPort), [near, far])
}
