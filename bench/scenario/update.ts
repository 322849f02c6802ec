// One endpoint of five thousand changes: how long the proxy takes from the agent's push to its answer, and how long the
// event loop of its worker stands still meanwhile. The real proxy and the real push; pauses.ts watches inside.
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { diff } from '../../src/snapshot/change.ts'
import { snapshotHash } from '../../src/snapshot/hash.ts'
import { connectPush, type PushConnection } from '../../src/snapshot/push.ts'
import type { Push, Snapshot } from '../../src/snapshot/types.ts'
import { startSmall } from '../backend/small.ts'
import { cpu, rss } from '../measure.ts'
import { type Place, tree } from '../place.ts'
import { median, type Run } from '../report.ts'
import { type Plan, settingOf } from '../run.ts'
import { type Mesh, startMeshctl } from '../system/meshctl.ts'
import { bigMesh, c32 } from './http.ts'

const updates = 20

export async function measureUpdate(plan: Plan): Promise<Run[]> {
  const { place, rounds, say } = plan
  if (!plan.systems.includes('meshctl')) return []
  const backend = startSmall(place)
  const folder = join(place.dir, 'pauses')
  mkdirSync(folder, { recursive: true })
  const runs: Run[] = []
  try {
    const mesh = await startMeshctl(settingOf(plan, c32, backend.port, 'h2'), {
      others: bigMesh,
      environment: {
        BENCH_PAUSES: folder,
        NODE_OPTIONS: `--import=${resolve(import.meta.dirname, '../program/pauses.ts')}`,
      },
    })
    try {
      for (let round = 1; round <= rounds; round++) {
        const run = await measureRound(place, mesh, folder, round)
        runs.push(run)
        say(
          `update round ${round}: applied in ${run.apply_ms} ms, ${run.worker_ms} ms of them in the worker, longest pause ${run.pause_ms} ms`,
        )
      }
    } finally {
      mesh.stop()
    }
  } catch (error) {
    plan.without('update', 'meshctl', error)
  } finally {
    place.end(backend.pids)
  }
  return runs
}

async function measureRound(place: Place, mesh: Mesh, folder: string, round: number): Promise<Run> {
  const hop = mesh.pids[0] ?? 0
  const worker = tree(hop).at(-1) ?? 0
  const connection = connectPush(mesh.paths.client.proxySocket)
  const [applied, inWorker, pauses]: [number[], number[], number[]] = [[], [], []]
  try {
    // The first few are warming up: a worker that has just started has compiled nothing yet.
    let last = changed(mesh.snapshots.client, round * 1000)
    await push(connection, { type: 'snapshot', snapshot: last })
    const next = async (turn: number): Promise<number> => {
      const base = last
      last = changed(base, round * 1000 + turn)
      const { hash } = last
      return push(connection, { type: 'patch', base: base.hash, hash, change: diff(base, last)! })
    }
    await next(1)
    await watch(place, folder, worker)
    const before = cpu([hop])
    for (let count = 0; count < updates; count++) {
      applied.push(await next(2 + count))
      const { pause_ms, worker_ms } = await watch(place, folder, worker)
      pauses.push(pause_ms)
      inWorker.push(worker_ms)
    }
    const sorted = applied.toSorted((a, b) => a - b).map(hundredth)
    return {
      scenario: 'update',
      system: 'meshctl',
      round,
      cpu_us_per_request: Math.round((cpu([hop]) - before) / updates),
      rps: 0,
      p50_ms: hundredth(median(applied)),
      p99_ms: sorted.at(-1) ?? 0,
      p999_ms: sorted.at(-1) ?? 0,
      rss_mb: Math.round(rss([hop]) * 10) / 10,
      apply_ms: hundredth(median(applied)),
      worker_ms: hundredth(median(inWorker)),
      pause_ms: hundredth(Math.max(...pauses)),
    }
  } finally {
    connection.close()
  }
}

/** Milliseconds until the proxy says that all its workers have it. */
async function push(connection: PushConnection, message: Push): Promise<number> {
  const began = performance.now()
  const reply = await connection.send(message)
  const took = performance.now() - began
  if (reply.type !== 'applied') throw new Error(`the proxy answered ${JSON.stringify(reply)}`)
  return took
}

/** What pauses.ts saw since it was asked last. */
async function watch(
  place: Place,
  folder: string,
  worker: number,
): Promise<{ pause_ms: number; worker_ms: number }> {
  const path = join(folder, `${worker}.json`)
  rmSync(path, { force: true })
  process.kill(worker, 'SIGUSR2')
  let text = ''
  await place.until('meshctl', () => (text = readFileSync(path, 'utf8')))
  return JSON.parse(text) as { pause_ms: number; worker_ms: number }
}

/** The same snapshot but for the last of all endpoints, which has moved. */
function changed(snapshot: Snapshot, turn: number): Snapshot {
  const clusters = snapshot.clusters.with(-1, moved(snapshot.clusters.at(-1)!, turn))
  const draft = { ...snapshot, clusters }
  return { ...draft, hash: snapshotHash(draft) }
}

function moved(cluster: Snapshot['clusters'][number], turn: number): Snapshot['clusters'][number] {
  const address = `10.234.${(turn >> 8) & 255}.${turn & 255}`
  return { ...cluster, endpoints: cluster.endpoints.with(-1, { ...cluster.endpoints.at(-1)!, address }) }
}

function hundredth(value: number): number {
  return Math.round(value * 100) / 100
}
