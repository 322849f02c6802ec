// A thing that is measured: two proxies on the way from the client's side to the backend, or none.
import type { Secrets } from '../../src/snapshot/types.ts'
import type { Place } from '../place.ts'

export interface System {
  readonly name: 'meshctl' | 'nginx' | 'haproxy' | 'direct'
  /** Where the load goes, on the client's side. */
  readonly url: string
  /** The first process of each proxy: one per hop. */
  readonly pids: readonly number[]
}

export interface Setting {
  readonly place: Place
  readonly secrets: Record<'client' | 'server', Secrets>
  /** The backend on the server's side. */
  readonly backendPort: number
}
