// Stable virtual addresses in 240.240.0.0/16, the same on every host: one key per address in the registry, taken by
// check-and-set. A service takes the address at the hash of its name, or the next free one.
import { createHash } from 'node:crypto'
import { MeshError } from '../errors.ts'
import { fqdn, isName } from '../model/name.ts'
import { keys } from './registry.ts'
import type { Entry, Registry } from './registry.ts'

export interface VirtualAddress {
  readonly service: string
  readonly namespace: string
  readonly address: string
}

type Vips = Pick<Registry, 'list' | 'cas' | 'delete'>

/** All of the /16 but its first and last address. */
const slots = 65534
/** Lost races before giving up; each one means that somebody else made progress. */
const maxRaces = 100

/** The service's address, taking one if it has none. Idempotent, and safe against others who claim at the same time. */
export async function claim(
  registry: Vips,
  mesh: string,
  namespace: string,
  service: string,
): Promise<string> {
  const name = fqdn(service, namespace)
  const value = JSON.stringify({ service, namespace })
  for (let race = 0; race < maxRaces; race++) {
    const taken = (await registry.list(keys.vips(mesh))).value
    const mine = parseVips(mesh, taken).find((vip) => vip.service === service && vip.namespace === namespace)
    if (mine !== undefined) return mine.address
    const free = firstFree(name, new Set(taken.map((entry) => entry.key.slice(keys.vips(mesh).length))))
    if (free === null) break
    if (await registry.cas(`${keys.vips(mesh)}${free}`, value, '0')) {
      // Somebody may have claimed for the same service elsewhere, around a release: all agree on the lowest.
      const now = parseVips(mesh, (await registry.list(keys.vips(mesh))).value)
      return now.find((vip) => vip.service === service && vip.namespace === namespace)?.address ?? free
    }
  }
  throw new MeshError('MSH0305', `no virtual address could be claimed for ${name}`)
}

/** Gives up every address of the service. */
export async function release(
  registry: Vips,
  mesh: string,
  namespace: string,
  service: string,
): Promise<void> {
  const taken = (await registry.list(keys.vips(mesh))).value
  for (const entry of taken) {
    const [vip] = parseVips(mesh, [entry])
    if (vip === undefined || vip.service !== service || vip.namespace !== namespace) continue
    await registry.delete(entry.key, { cas: entry.modifyIndex })
  }
}

export async function listVips(registry: Vips, mesh: string): Promise<VirtualAddress[]> {
  return parseVips(mesh, (await registry.list(keys.vips(mesh))).value)
}

/** The entries under keys.vips(mesh) as addresses, lowest first; what is none of ours is left out. */
export function parseVips(mesh: string, entries: readonly Entry[]): VirtualAddress[] {
  const found: VirtualAddress[] = []
  for (const { key, value } of entries) {
    const address = key.slice(keys.vips(mesh).length)
    const named = readName(value)
    if (named !== null && isVirtual(address)) found.push({ ...named, address })
  }
  return found.toSorted((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0))
}

function readName(value: string): { service: string; namespace: string } | null {
  let read: unknown
  try {
    read = JSON.parse(value)
  } catch {
    return null
  }
  if (typeof read !== 'object' || read === null || !('service' in read) || !('namespace' in read)) return null
  const { service, namespace } = read
  if (typeof service !== 'string' || typeof namespace !== 'string') return null
  return isName(service) && isName(namespace) ? { service, namespace } : null
}

/** One of ours, in its one spelling. */
function isVirtual(address: string): boolean {
  const match = /^240\.240\.(\d{1,3})\.(\d{1,3})$/.exec(address)
  if (match === null) return false
  const slot = Number(match[1]) * 256 + Number(match[2]) - 1
  return slot >= 0 && slot < slots && addressOf(slot) === address
}

function firstFree(name: string, taken: ReadonlySet<string>): string | null {
  const start = createHash('sha256').update(name).digest().readUInt32BE(0) % slots
  for (let step = 0; step < slots; step++) {
    const address = addressOf((start + step) % slots)
    if (!taken.has(address)) return address
  }
  return null
}

function addressOf(slot: number): string {
  return `240.240.${(slot + 1) >> 8}.${(slot + 1) & 255}`
}
