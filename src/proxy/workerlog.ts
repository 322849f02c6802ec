// A worker's log. Its lines go to the supervisor, which alone writes: what writes them takes 2 MB, and there are many workers.
import type { Log } from '../log.ts'

const levels = ['debug', 'info', 'warn', 'error', 'fatal'] as const
export type Level = (typeof levels)[number]

/** One line of it, on its way. */
export interface Line {
  readonly type: 'line'
  readonly level: Level
  readonly fields: object
  readonly message: string
}

/** So many that the supervisor has not taken; more are lost, since peers can cause lines without end. */
const maxWaiting = 1_000

/** `wanted`: the lowest level that is sent, as in MESHCTL_LOG. `send` calls back when the line is on its way. */
export function workerLog(wanted: string, send: (line: Line, sent: () => void) => void): Log {
  let waiting = 0
  const sent = (): void => {
    waiting--
  }
  const from = wanted === 'trace' ? 0 : levels.findIndex((level) => level === wanted)
  const writer =
    (level: Level, at: number) =>
    (fields: object | string, message: string = ''): void => {
      if (from < 0 || at < from || waiting >= maxWaiting) return
      waiting++
      if (typeof fields === 'string') send({ type: 'line', level, fields: {}, message: fields }, sent)
      else send({ type: 'line', level, fields, message }, sent)
    }
  const [debug, info, warn, error, fatal] = levels.map(writer)
  return { debug: debug!, info: info!, warn: warn!, error: error!, fatal: fatal! }
}
