// One request and its response. Every field is set in the constructor, whoever uses it, so that all exchanges of the
// process have one shape.
import { Deadline } from '../../net/wheel.ts'
import type { Expiring } from '../../net/wheel.ts'
import type { ClusterState } from '../cluster/cluster.ts'
import type { EndpointState } from '../cluster/endpoint.ts'
import type { Supply } from '../cluster/supply.ts'
import type { Core } from '../core.ts'
import type { Live, LiveRoute, Scope, Target } from '../live.ts'
import type { Downstream, Upstream } from './ends.ts'
import type { Chain } from './filter.ts'

/** Tags of an exchange's deadlines. */
export const RouteDeadline = 1
export const TryDeadline = 2
export const RetryDelay = 3

export class Exchange implements Expiring {
  readonly core: Core
  /** The generation it began with. */
  readonly live: Live
  readonly downstream: Downstream
  readonly scope: Scope
  target: Target
  chain: Chain
  route: LiveRoute | null
  /** Where a waiting filter goes on. */
  step: number

  // The request.
  method: string
  path: string
  authority: string
  /** The caller speaks HTTP/1.0, HTTP/1.1 or HTTP/2. */
  version: 0 | 1 | 2
  /** The application is to be spoken to in HTTP/2, as it was declared or as its caller spoke. */
  isHttp2: boolean
  isGrpc: boolean
  /** 0–16, as the trailers said it or we did; -1: none. */
  grpcStatus: number
  /** `websocket`, or '': nothing that we know how to tunnel. */
  upgrade: string
  userAgent: string
  requestId: string
  /** The id is ours: upstream has to be told. */
  isNewId: boolean
  /** Fields that filters add to the request: name (lower case), value, name, value … Shared: replaced, never changed. */
  requestAdds: readonly string[] | null
  /** Header names (lower case) that filters replace or remove; null: none. */
  requestDrops: string[] | null
  /** Nobody has told the length of the body. */
  isUnsized: boolean
  /** Whether the downstream connection goes on after this exchange. */
  keepAlive: boolean
  /** Body bytes that are not sent yet, or kept for another try: kept[0, queued). See `keepBody`. */
  kept: Buffer | null
  queued: number
  /** Behind the body, as `requestAdds`. */
  requestTrailers: string[] | null
  /** `kept` holds the body from its first byte. */
  replayable: boolean
  requestDone: boolean
  /** Downstream is not read, because upstream cannot take more. */
  requestHeld: boolean

  // The tries.
  cluster: ClusterState | null
  endpoint: EndpointState | null
  upstream: Upstream | null
  /** Counted in `endpoint.active`. */
  active: boolean
  /** Where it waits for a connection; null: it does not. */
  waitsAt: Supply | null
  tried: EndpointState[] | null
  /** Tries that were counted against the retry policy. */
  retries: number
  /** Moves to another endpoint that cost nothing (connect failures, stale connections). */
  moves: number
  /** Holds one place of the cluster's retry budget. */
  retrying: boolean

  // The response.
  status: number
  /** As `requestAdds`. */
  responseAdds: readonly string[] | null
  responseStarted: boolean
  responseDone: boolean
  /** Upstream is not read, because downstream cannot take more. */
  responseHeld: boolean

  // What happened.
  flag: string
  reason: string
  detail: string
  bytesIn: number
  bytesOut: number
  /** Monotonic milliseconds. */
  startedAt: number
  /** Milliseconds, known at its end. */
  duration: number
  finished: boolean

  /** Of the whole exchange, milliseconds; 0: none. */
  timeLimit: number
  /** Answers both the route's deadline and the try's; armed only when the route has them. */
  routeDeadline: Deadline | null
  tryDeadline: Deadline | null
  retryDelay: Deadline | null

  constructor(core: Core, live: Live, downstream: Downstream, scope: Scope, target: Target) {
    this.core = core
    this.live = live
    this.downstream = downstream
    this.scope = scope
    this.target = target
    this.chain = target.fallback
    this.route = null
    this.step = 0
    this.method = ''
    this.path = ''
    this.authority = ''
    this.version = 1
    this.isHttp2 = false
    this.isGrpc = false
    this.grpcStatus = -1
    this.upgrade = ''
    this.userAgent = ''
    this.requestId = ''
    this.isNewId = false
    this.requestAdds = null
    this.requestDrops = null
    this.isUnsized = false
    this.keepAlive = true
    this.kept = null
    this.queued = 0
    this.requestTrailers = null
    this.replayable = true
    this.requestDone = false
    this.requestHeld = false
    this.cluster = null
    this.endpoint = null
    this.upstream = null
    this.active = false
    this.waitsAt = null
    this.tried = null
    this.retries = 0
    this.moves = 0
    this.retrying = false
    this.status = 0
    this.responseAdds = null
    this.responseStarted = false
    this.responseDone = false
    this.responseHeld = false
    this.flag = ''
    this.reason = ''
    this.detail = ''
    this.bytesIn = 0
    this.bytesOut = 0
    this.startedAt = core.clock.monotonic()
    this.duration = 0
    this.finished = false
    this.timeLimit = 0
    this.routeDeadline = null
    this.tryDeadline = null
    this.retryDelay = null
  }

  expire(tag: number): void {
    if (!this.finished) this.downstream.expired(this, tag)
  }

  armRoute(ms: number): void {
    this.timeLimit = ms
    this.routeDeadline ??= new Deadline(this, RouteDeadline)
    this.core.wheel.arm(this.routeDeadline, ms)
  }

  armTry(ms: number): void {
    this.tryDeadline ??= new Deadline(this, TryDeadline)
    this.core.wheel.arm(this.tryDeadline, ms)
  }

  armRetry(ms: number): void {
    this.retryDelay ??= new Deadline(this, RetryDelay)
    this.core.wheel.arm(this.retryDelay, ms)
  }

  disarm(): void {
    if (this.routeDeadline !== null) this.core.wheel.cancel(this.routeDeadline)
    if (this.tryDeadline !== null) this.core.wheel.cancel(this.tryDeadline)
    if (this.retryDelay !== null) this.core.wheel.cancel(this.retryDelay)
  }
}
