// Where an exchange gets its upstream from: connections of one version of HTTP to one endpoint, made as one identity.
import type { Exchange } from '../chain/exchange.ts'
import type { EndpointState } from './endpoint.ts'

export interface Supply {
  /** Gives the exchange an upstream: now, or later, through `connected` or `connectFailed`. */
  acquire(x: Exchange): void
  /** The exchange waits no longer. */
  forget(x: Exchange): void
  /** Tries one connection in the background and keeps it. */
  probe(endpoint: EndpointState): void
  closeIdle(): void
  close(): void
}
