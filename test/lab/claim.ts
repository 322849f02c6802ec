// Whose a lab's name is: a file with the pid of the process that works on it. It needs no tidying up, because the claim of a
// process that is gone counts for nothing.
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Takes the name for this process, which may have it already. Throws naming the process that has it. */
export function claim(folder: string, name: string): void {
  mkdirSync(folder, { recursive: true })
  const lock = join(folder, `${name}.lock`)
  const own = `${lock}.${process.pid}`
  writeFileSync(own, `${process.pid} ${startOf(process.pid) ?? ''}\n`)
  try {
    while (!link(own, lock)) {
      const holder = holderOf(lock)
      if (holder === process.pid) return
      if (holder !== null) throw inUse(name, holder)
      setAside(lock, `${own}.stale`, name)
    }
  } finally {
    rmSync(own, { force: true })
  }
}

/** Gives the name up, if it is this process's. */
export function release(folder: string, name: string): void {
  const lock = join(folder, `${name}.lock`)
  if (holderOf(lock) === process.pid) rmSync(lock, { force: true })
}

function inUse(name: string, pid: number): Error {
  return new Error(
    `the lab ${name} is in use by the running process ${pid}: wait for it, or end it (kill ${pid}; it removes its lab)`,
  )
}

/** Unlike a rename it replaces nothing. False: the name is taken. */
function link(from: string, to: string): boolean {
  try {
    linkSync(from, to)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

/** Only one process gets to move a file; one that was made since it was looked at is put back. */
function setAside(lock: string, aside: string, name: string): void {
  try {
    renameSync(lock, aside)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  const holder = holderOf(aside)
  if (holder !== null) link(aside, lock)
  rmSync(aside, { force: true })
  if (holder !== null) throw inUse(name, holder)
}

/** The running process that a lock names; null: none. */
function holderOf(path: string): number | null {
  try {
    const [pid = '', start = ''] = readFileSync(path, 'utf8').trim().split(' ')
    // Pids come around again; the time of the start tells them apart.
    return start !== '' && startOf(Number(pid)) === start ? Number(pid) : null
  } catch {
    return null
  }
}

/** In clock ticks since boot (proc(5), /proc/pid/stat field 22); null: there is no such process. */
function startOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' ? null : (fields[19] ?? null)
  } catch {
    return null
  }
}
