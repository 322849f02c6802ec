// The end of a connection that is served nothing.
import { nobody } from '../../net/channel.ts'
import type { Channel } from '../../net/channel.ts'
import type { Core } from '../core.ts'
import { logTunnel } from '../filter/access.ts'
import type { Live, Scope } from '../live.ts'

/** Opaque bytes cannot be answered in words: the connection is reset and the log says why. */
export function refuseOpaque(core: Core, live: Live, connection: Channel, scope: Scope): void {
  connection.owner = nobody
  connection.abort()
  logRefused(core, live, scope, connection.bytesIn)
}

export function logRefused(core: Core, live: Live, scope: Scope, bytesIn: number): void {
  const { refusal } = scope
  if (!live.settings.accessLog || refusal === null) return
  logTunnel(core, {
    reporter: scope.reporter,
    service: scope.destination.service,
    upstream: '',
    client: scope.client,
    source: scope.source.principal,
    destination: '',
    isSecure: scope.isSecure,
    isUpstreamSecure: false,
    flag: refusal.cause.flag,
    reason: refusal.cause.reason,
    detail: refusal.detail,
    bytesIn,
    bytesOut: 0,
    duration: 0,
  })
}
