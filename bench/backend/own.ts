// Servers of our own, where nothing that is there does what a scenario needs: see the programs of these names.
import { background } from '../load/program.ts'
import type { Place } from '../place.ts'
import type { Backend } from '../scenario/scenario.ts'

/** Reads a body and answers with one of `bytes`. */
export function startBodies(place: Place, bytes: number): Backend {
  return { port: 9001, pids: [background(place, 'bodies', 'server', 'bodies', 9001, bytes)] }
}

/** Sends WebSocket messages back. */
export function startEcho(place: Place): Backend {
  return { port: 9003, pids: [background(place, 'echo', 'server', 'echo', 9003)] }
}

/** Takes and gives bulk data. */
export function startSink(place: Place): Backend {
  return { port: 9004, pids: [background(place, 'sink', 'server', 'sink', 9004)] }
}
