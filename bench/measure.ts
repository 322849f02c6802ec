// What a proxy costs while a load runs: CPU time and memory of its processes, from the kernel.
import { readdirSync, readFileSync } from 'node:fs'
import { tree } from './place.ts'

/** CPU time of process trees, microseconds, user and system, all threads and children that still live. */
export function cpu(pids: readonly number[]): number {
  let nanoseconds = 0
  for (const pid of pids.flatMap(tree)) {
    for (const thread of names(`/proc/${pid}/task`)) {
      // Its sum is what /proc/PID/stat gives in steps of 10 ms, too coarse for a second at a low rate.
      nanoseconds += Number(read(`/proc/${pid}/task/${thread}/schedstat`).split(' ')[0] ?? 0)
    }
  }
  return nanoseconds / 1000
}

/** Resident memory of process trees, megabytes. */
export function rss(pids: readonly number[]): number {
  let kilobytes = 0
  for (const pid of pids.flatMap(tree)) {
    kilobytes += Number(/^VmRSS:\s+(\d+)/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0)
  }
  return kilobytes / 1024
}

function names(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return [] // ended meanwhile
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '' // ended meanwhile
  }
}
