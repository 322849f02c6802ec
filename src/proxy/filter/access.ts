// The access log: one JSON line per exchange and per tunnel. Fields that never need escaping are concatenated; the rest
// goes through JSON.stringify only when it must.
import type { Exchange } from '../chain/exchange.ts'
import type { Filter } from '../chain/filter.ts'
import { printAddress } from '../../net/addr.ts'
import type { Core } from '../core.ts'

let second = -1
let prefix = ''

/** ISO 8601 with milliseconds; the date part is made once a second. */
export function isoTime(ms: number): string {
  const now = Math.floor(ms / 1000)
  if (now !== second) {
    second = now
    prefix = new Date(now * 1000).toISOString().slice(0, 19)
  }
  const rest = Math.floor(ms) % 1000
  return `${prefix}.${rest < 10 ? '00' : rest < 100 ? '0' : ''}${rest}Z`
}

// Everything that JSON escapes, and what is not ASCII: header values are bytes of no known encoding.
const plain = /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/

/** A JSON string. */
export function quoted(text: string): string {
  if (plain.test(text)) return `"${text}"`
  return JSON.stringify(text).replaceAll(
    /[\u007f-\uffff]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

export const access: Filter = {
  name: 'access',
  onFinish(x) {
    x.core.accessLog.add(accessLine(x))
  },
}

function accessLine(x: Exchange): string {
  const { core, scope, endpoint, target } = x
  const duration = core.clock.monotonic() - x.startedAt
  return (
    `{"time":"${isoTime(core.clock.now())}","reporter":"${scope.reporter}","protocol":"HTTP/1.${x.minor}"` +
    `,"method":"${x.method}","authority":${quoted(x.authority)},"path":${quoted(x.path)},"status":${x.status}` +
    `,"flags":"${x.flag === '' ? '-' : x.flag}"${happened(x.reason, x.detail)}` +
    `,"route":${quoted(x.route?.name ?? '')},"service":"${target.destination.service}"` +
    `,"upstream":"${endpoint === null ? '' : printAddress(endpoint.config.address, endpoint.config.port)}"` +
    `,"version":${quoted(endpoint?.config.version ?? '')}` +
    `,"source":"${scope.source.principal}","destination":"${x.cluster?.config.spiffe ?? ''}"` +
    `,"mtls":${scope.isSecure},"bytes_in":${x.bytesIn},"bytes_out":${x.bytesOut}` +
    `,"duration_ms":${Math.round(duration * 1000) / 1000},"tries":${x.tried?.length ?? 0}` +
    `,"request_id":${quoted(x.requestId)},"user_agent":${quoted(x.userAgent)}}`
  )
}

function happened(reason: string, detail: string): string {
  if (reason === '') return ''
  return `,"reason":"${reason}"${detail === '' ? '' : `,"detail":${quoted(detail)}`}`
}

export interface TunnelFacts {
  readonly reporter: string
  readonly service: string
  readonly upstream: string
  readonly source: string
  readonly destination: string
  readonly isSecure: boolean
  readonly flag: string
  readonly reason: string
  readonly detail: string
  readonly bytesIn: number
  readonly bytesOut: number
  readonly duration: number
}

/** The line of an opaque connection. */
export function tunnelLine(core: Core, facts: TunnelFacts): string {
  return (
    `{"time":"${isoTime(core.clock.now())}","reporter":"${facts.reporter}","protocol":"TCP"` +
    `,"flags":"${facts.flag === '' ? '-' : facts.flag}"${happened(facts.reason, facts.detail)}` +
    `,"service":${quoted(facts.service)},"upstream":"${facts.upstream}"` +
    `,"source":"${facts.source}","destination":"${facts.destination}","mtls":${facts.isSecure}` +
    `,"bytes_in":${facts.bytesIn},"bytes_out":${facts.bytesOut}` +
    `,"duration_ms":${Math.round(facts.duration * 1000) / 1000}}`
  )
}
