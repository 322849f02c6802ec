// Loaded into the proxy's processes before their own code, by NODE_OPTIONS: watches the event loop and how long requests
// of the supervisor take in a worker. At SIGUSR2 both are written to BENCH_PAUSES/<pid>.json and begin anew.
import { renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'

interface Numbered {
  readonly id: number
}

const resolution = 1
const folder = process.env['BENCH_PAUSES']
const send = process.send?.bind(process)

if (folder !== undefined && send !== undefined) {
  const delay = monitorEventLoopDelay({ resolution })
  const since = new Map<number, number>()
  let longest = 0
  delay.enable()
  process.on('message', ({ id }: Numbered) => since.set(id, performance.now()))
  process.send = (message: Numbered, ...rest: unknown[]): boolean => {
    const began = since.get(message.id)
    if (began !== undefined) longest = Math.max(longest, performance.now() - began)
    since.delete(message.id)
    return (send as (...all: unknown[]) => boolean)(message, ...rest)
  }
  process.on('SIGUSR2', () => {
    // The timer's own period is part of every sample.
    const pause_ms = Math.max(0, delay.max / 1e6 - resolution)
    const path = join(folder, `${process.pid}.json`)
    writeFileSync(`${path}.new`, JSON.stringify({ pause_ms, worker_ms: longest }))
    renameSync(`${path}.new`, path)
    longest = 0
    delay.reset()
  })
}
