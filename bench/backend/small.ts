// The plain server behind most scenarios: nginx, one body from memory.
import { cores, type Place } from '../place.ts'
import type { Backend } from '../scenario/scenario.ts'
import { http } from '../system/nginx.ts'

const port = 9000
export const smallBytes = 1024

export function startSmall(place: Place): Backend {
  const server = `server { listen ${port}; location / { return 200 "${'x'.repeat(smallBytes)}"; } }`
  const config = place.file('small.conf', http(place, 'small', server))
  return { port, pids: [place.start('small', 'server', cores.load, 'nginx', '-c', config, '-e', 'stderr')] }
}
