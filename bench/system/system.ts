// A thing that is measured: two proxies on the way from the client's side to the backend, or none.
import type { Secrets } from '../../src/snapshot/types.ts'
import type { Place } from '../place.ts'
import type { Way } from './capture.ts'

export type SystemName = 'meshctl' | 'nginx' | 'haproxy' | 'envoy' | 'direct' | 'floor'

/** What travels through: `http` is HTTP/1.1, `grpc` HTTP/2 with prior knowledge, `websocket` HTTP/1.1 with Upgrade. */
export type Kind = 'http' | 'grpc' | 'websocket' | 'tcp'

/** What is spoken between the two proxies by a peer that can do both; gRPC needs `h2`, TCP has neither. */
export type Hop = 'h1' | 'h2'

/** Where the load goes, on the client's side. */
export interface At {
  readonly host: string
  readonly port: number
}

export interface System {
  readonly name: SystemName
  readonly at: At
  /** The first process of each proxy: one per hop, the client's first. */
  readonly pids: readonly number[]
  stop(): void
}

export interface Setting {
  readonly place: Place
  readonly secrets: Record<'client' | 'server', Secrets>
  readonly kind: Kind
  readonly hop: Hop
  /** The backend on the server's side. */
  readonly backendPort: number
  /** Checks one exchange in full, throws what is wrong. */
  readonly probe: (place: Place, at: At) => void
}

/** Waits until a started system answers; one that does not is ended. */
export async function ready(
  setting: Setting,
  name: SystemName,
  log: string,
  enter: () => Way,
  pids: readonly number[],
): Promise<System> {
  const { place, probe } = setting
  let way: Way | null = null
  const stop = (): void => {
    place.end(pids)
    way?.close()
  }
  try {
    way = enter()
    const { at } = way
    await place.until(log, () => probe(place, at))
    return { name, at, pids, stop }
  } catch (error) {
    stop()
    throw error
  }
}
