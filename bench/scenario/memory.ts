// Memory of one worker: idle, for each client connection that stands idle, for each link. The difference between two
// numbers of connections counts, so that what is needed once does not.
import { readFileSync } from 'node:fs'
import { startSmall } from '../backend/small.ts'
import { background } from '../load/program.ts'
import { addresses, cores, type Place, tree } from '../place.ts'
import type { Run } from '../report.ts'
import { type Plan, settingOf, startSystem, systemNames } from '../run.ts'
import { startMeshctl } from '../system/meshctl.ts'
import type { At, System } from '../system/system.ts'
import { c32 } from './http.ts'

type Found = Pick<Run, 'rss_mb' | 'private_mb' | 'kb_per_connection'>
type FoundLinks = Pick<Run, 'kb_per_link' | 'kb_per_link_server'>

const connections = { first: 500, more: 2000 }
/** Of as many instances, each on an address of its own. */
const links = { first: 100, more: 300 }
const none = { cpu_us_per_request: 0, rps: 0, p50_ms: 0, p99_ms: 0, p999_ms: 0 } as const

export async function measureMemory(plan: Plan): Promise<Run[]> {
  const { place, rounds, say } = plan
  const backend = startSmall(place)
  const runs: Run[] = []
  try {
    for (let round = 1; round <= rounds; round++) {
      for (const name of systemNames) {
        if (name === 'direct' || !plan.systems.includes(name)) continue
        try {
          const system = await startSystem(plan, c32, name, backend.port, 'h2')
          const found = await ofConnections(place, system).finally(() => system.stop())
          const more = name === 'meshctl' ? await ofLinks(plan, backend.port) : {}
          runs.push({ scenario: 'memory', system: name, round, ...none, ...found, ...more })
          say(`memory round ${round} ${name}: ${JSON.stringify({ ...found, ...more })}`)
        } catch (error) {
          plan.without('memory', name, error)
        }
      }
    }
  } finally {
    place.end(backend.pids)
  }
  return runs
}

/** At the client's side, where a mesh has many connections of local programs. */
async function ofConnections(place: Place, { at, pids }: System): Promise<Found> {
  const worker = workerOf(pids, 0)
  const idle = await settled(worker)
  const own = privateMemory(worker)
  const held = [await hold(place, at, connections.first, 1)]
  try {
    const before = await settled(worker)
    held.push(await hold(place, at, connections.more, 1))
    const after = await settled(worker)
    return {
      rss_mb: tenth(idle / 1024),
      private_mb: tenth(own / 1024),
      kb_per_connection: tenth((after - before) / connections.more),
    }
  } finally {
    place.end(held)
  }
}

/** Requests in turn to many instances make a link to each, with a worker's share of it at either end. */
async function ofLinks(plan: Plan, backendPort: number): Promise<FoundLinks> {
  const { place } = plan
  const instances = links.first + links.more
  const mesh = await startMeshctl(settingOf(plan, c32, backendPort, 'h2'), { instances })
  const held: number[] = []
  try {
    const workers = [workerOf(mesh.pids, 0), workerOf(mesh.pids, 1)] as const
    const look = async (requests: number): Promise<readonly [number, number, number]> => {
      held.push(await hold(place, mesh.at, 1, requests))
      const sizes = [await settled(workers[0]), await settled(workers[1])] as const
      return [...sizes, open(place, mesh.linkPort)]
    }
    const before = await look(links.first)
    const after = await look(links.more)
    const made = after[2] - before[2]
    if (made < links.more / 2) throw new Error(`only ${made} links came of ${links.more} requests`)
    return {
      kb_per_link: tenth((after[0] - before[0]) / made),
      kb_per_link_server: tenth((after[1] - before[1]) / made),
    }
  } finally {
    place.end(held)
    mesh.stop()
  }
}

/** Starts a program that holds connections; resolves when they have had their answers. */
async function hold(place: Place, at: At, count: number, requests: number): Promise<number> {
  const label = `idle${count}x${requests}`
  const pid = background(place, label, 'client', 'idle', at.host, at.port, count, requests)
  await place.until(label, () => {
    if (!place.log(label).includes('ready')) throw new Error(`${count} connections were not answered`)
  })
  return pid
}

/** Established connections from the client's side to a port of the server's. */
function open(place: Place, port: number): number {
  const said = place.run('client', cores.load, 'ss', '-Htn', 'state', 'established', 'dport', '=', `:${port}`)
  return said.split('\n').filter((line) => line.includes(addresses.server) || line.includes('10.233.')).length
}

/** The process that carries the traffic: the last below the one that was started. */
function workerOf(pids: readonly number[], hop: number): number {
  const worker = tree(pids[hop] ?? 0).at(-1)
  if (worker === undefined) throw new Error('there is no worker')
  return worker
}

/** Resident kilobytes once they have stood still for a second and a half; at the latest after 15 s. */
async function settled(pid: number): Promise<number> {
  const end = performance.now() + 15_000
  let last = resident(pid)
  let since = performance.now()
  while (performance.now() < end && performance.now() - since < 1500) {
    await new Promise((resolve) => setTimeout(resolve, 100))
    const now = resident(pid)
    if (Math.abs(now - last) > 128) {
      last = now
      since = performance.now()
    }
  }
  return resident(pid)
}

function resident(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0)
}

/** Kilobytes that one process has for itself alone. */
function privateMemory(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
  return [...text.matchAll(/^Private_(?:Clean|Dirty):\s+(\d+)/gm)].reduce(
    (sum, [, kb]) => sum + Number(kb),
    0,
  )
}

function tenth(value: number): number {
  return Math.round(value * 10) / 10
}
