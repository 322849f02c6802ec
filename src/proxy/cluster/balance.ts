// Which endpoint takes the next exchange. Each balancer sees usable endpoints only, never an empty list.
import type { Cluster } from '../../snapshot/types.ts'
import type { EndpointState } from './endpoint.ts'

export type Balancer = (from: readonly EndpointState[]) => EndpointState

/** Makers, since round robin keeps its place. */
export const balancers: Readonly<Record<Cluster['balancer'], () => Balancer>> = {
  'least-request': () => leastRequest,
  'round-robin': roundRobin,
  random: () => random,
}

/** Power of two choices: of two random ones that with less load for its weight. */
export function leastRequest(from: readonly EndpointState[]): EndpointState {
  const first = from[0]!
  if (from.length === 1) return first
  const a = Math.floor(Math.random() * from.length)
  let b = Math.floor(Math.random() * (from.length - 1))
  if (b >= a) b++
  const one = from[a]!
  const two = from[b]!
  return load(two) < load(one) ? two : one
}

function load(endpoint: EndpointState): number {
  return (endpoint.active + 1) / Math.max(endpoint.config.weight, 1)
}

/** Smooth weighted round robin (nginx's): weights are honoured without bursts. */
function roundRobin(): Balancer {
  const credit = new Map<EndpointState, number>()
  let members: readonly EndpointState[] = []
  return (from) => {
    if (from !== members) {
      // Endpoints that left must not be kept alive by their credit.
      for (const endpoint of credit.keys()) if (!from.includes(endpoint)) credit.delete(endpoint)
      members = from
    }
    let total = 0
    let best = from[0]!
    let most = -Infinity
    for (const endpoint of from) {
      const weight = Math.max(endpoint.config.weight, 1)
      const now = (credit.get(endpoint) ?? 0) + weight
      credit.set(endpoint, now)
      total += weight
      if (now > most) {
        most = now
        best = endpoint
      }
    }
    credit.set(best, most - total)
    return best
  }
}

function random(from: readonly EndpointState[]): EndpointState {
  let total = 0
  for (const endpoint of from) total += Math.max(endpoint.config.weight, 1)
  let point = Math.random() * total
  for (const endpoint of from) {
    point -= Math.max(endpoint.config.weight, 1)
    if (point < 0) return endpoint
  }
  return from.at(-1)!
}
