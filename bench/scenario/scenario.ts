// What is measured: a backend, a load on it, and how the systems in between are set up for it.
import type { Place } from '../place.ts'
import type { MeshOptions } from '../system/meshctl.ts'
import type { At, Hop, Kind } from '../system/system.ts'

/** What one load saw. Latencies are 0 where there are none (a bulk transfer). */
export interface Load {
  /** Requests, messages or megabytes. */
  readonly count: number
  /** Of them per second. */
  readonly rps: number
  readonly p50_ms: number
  readonly p99_ms: number
  readonly p999_ms: number
  /** CPU time of the proxies, where the load took it itself because not all of its time counts. */
  readonly cpu_us?: number
}

export interface Backend {
  readonly port: number
  readonly pids: readonly number[]
}

export interface Scenario {
  readonly name: string
  /** What one unit of `cpu_us_per_request` and `rps` is. */
  readonly per: 'request' | 'message' | 'MB'
  readonly kind: Kind
  /** What these speak between their hops: the faster of the two, tried with `--hop`. nginx has no choice. */
  readonly hops: { readonly haproxy: Hop; readonly envoy: Hop }
  /** Upper bounds from the plan: our CPU divided by the best peer's, by Envoy's, by our own of `beside`. */
  readonly bars: {
    readonly best?: number
    readonly envoy?: number
    readonly ours?: number
    readonly p99?: true
  }
  /** Only ourselves are measured, against ourselves in this scenario and in the same rounds. */
  readonly beside?: Scenario
  readonly mesh?: MeshOptions
  /** Starts it on the server's side. */
  backend(place: Place): Backend
  /** One exchange, checked in full; throws what is wrong. */
  readonly probe: (place: Place, at: At) => void
  /** Any failed exchange spoils the measurement, so it throws. */
  load(place: Place, at: At, seconds: number, pids: readonly number[]): Load
}
