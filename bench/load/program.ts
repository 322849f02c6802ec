// A load generator of our own: a program in bench/program/ that prints what it saw as one line of JSON.
import { resolve } from 'node:path'
import { cores, type Place, type Side } from '../place.ts'
import type { Load } from '../scenario/scenario.ts'
import type { At } from '../system/system.ts'

type Name = 'rate' | 'websocket' | 'bulk' | 'grpc' | 'idle'

const pathOf = (name: string): string => resolve(import.meta.dirname, `../program/${name}.ts`)
const flags = ['--disable-warning=ExperimentalWarning', '--max-semi-space-size=4']

/** Runs it to its end on the client's side; its last line. */
export function program(place: Place, name: Name, { host, port }: At, ...args: (string | number)[]): string {
  const rest = [host, port, ...args].map(String)
  const said = place.run('client', cores.load, process.execPath, ...flags, pathOf(name), ...rest)
  return said.trim().split('\n').at(-1) ?? ''
}

/** A load that knows when what is to be measured begins and ends, so it takes the proxies' CPU time itself. */
export function generated(
  place: Place,
  name: Name,
  at: At,
  pids: readonly number[],
  ...args: (string | number)[]
): Load {
  const said = JSON.parse(program(place, name, at, pids.join(','), ...args)) as Omit<Load, 'rps'> & {
    seconds: number
  }
  const { seconds, ...load } = said
  return { ...load, rps: load.count / seconds }
}

/** Starts one that stays; its output is `place.log(label)`. */
export function background(
  place: Place,
  label: string,
  side: Side,
  name: Name | 'bodies' | 'echo' | 'sink',
  ...args: (string | number)[]
): number {
  return place.start(label, side, cores.load, process.execPath, ...flags, pathOf(name), ...args.map(String))
}
