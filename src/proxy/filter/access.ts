// The access log: one JSON line per exchange and per tunnel. Fields that never need escaping are written as they are.
import type { Filter } from '../chain/filter.ts'
import type { Core } from '../core.ts'

const protocols = [',"protocol":"HTTP/1.0"', ',"protocol":"HTTP/1.1"', ',"protocol":"HTTP/2"'] as const

export const access: Filter = {
  name: 'access',
  onFinish(x) {
    const { scope } = x
    const { recent } = scope
    recent.of(x)
    const lines = x.core.accessLog
    lines.raw('{"time":"')
    lines.time(x.core.clock.now())
    lines.raw(scope.reporter === 'source' ? '","reporter":"source"' : '","reporter":"destination"')
    lines.raw(protocols[x.version])
    lines.raw(',"method":"')
    lines.raw(x.method)
    lines.raw('","authority":')
    lines.json(x.authority)
    lines.raw(',"path":')
    lines.json(x.path)
    lines.raw(',"status":')
    lines.int(x.status)
    if (x.grpcStatus >= 0) {
      lines.raw(',"grpc_status":')
      lines.int(x.grpcStatus)
    }
    happened(lines, x.flag, x.reason, x.detail)
    lines.raw(recent.line)
    lines.int(x.bytesIn)
    lines.raw(',"bytes_out":')
    lines.int(x.bytesOut)
    lines.raw(',"duration_ms":')
    lines.milliseconds(x.duration)
    lines.raw(',"tries":')
    lines.int(x.tried === null ? 0 : x.tried.length)
    lines.raw(',"request_id":')
    lines.json(x.requestId)
    lines.raw(',"user_agent":')
    lines.json(x.userAgent)
    lines.raw('}')
    lines.end()
  },
}

function happened(lines: Core['accessLog'], flag: string, reason: string, detail: string): void {
  lines.raw(',"flags":"')
  lines.raw(flag === '' ? '-' : flag)
  lines.raw('"')
  if (reason === '') return
  lines.raw(',"reason":"')
  lines.raw(reason)
  lines.raw('"')
  if (detail === '') return
  lines.raw(',"detail":')
  lines.json(detail)
}

export interface TunnelFacts {
  readonly reporter: string
  readonly service: string
  readonly upstream: string
  /** '': a local application. */
  readonly client: string
  readonly source: string
  readonly destination: string
  readonly isSecure: boolean
  readonly isUpstreamSecure: boolean
  readonly flag: string
  readonly reason: string
  readonly detail: string
  readonly bytesIn: number
  readonly bytesOut: number
  readonly duration: number
}

/** Logs an opaque connection. */
export function logTunnel({ accessLog: lines, clock }: Core, facts: TunnelFacts): void {
  lines.raw('{"time":"')
  lines.time(clock.now())
  lines.raw(`","reporter":"${facts.reporter}","protocol":"TCP"`)
  happened(lines, facts.flag, facts.reason, facts.detail)
  lines.raw(',"service":')
  lines.json(facts.service)
  if (facts.client !== '') lines.raw(`,"client":"${facts.client}"`)
  lines.raw(
    `,"upstream":"${facts.upstream}","source":"${facts.source}","destination":"${facts.destination}"` +
      `,"mtls":${facts.isSecure},"upstream_mtls":${facts.isUpstreamSecure}` +
      `,"bytes_in":${facts.bytesIn},"bytes_out":${facts.bytesOut},"duration_ms":`,
  )
  lines.milliseconds(facts.duration)
  lines.raw('}')
  lines.end()
}
