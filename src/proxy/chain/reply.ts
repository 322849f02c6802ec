// The only maker of local responses: every cause with its status and its response flag (Envoy's letters, which people
// know from Istio's access logs), and a body that says in words what happened.
import type { Exchange } from './exchange.ts'

export interface Cause {
  /** Stable word: header x-meshctl-reason, access log, metrics. */
  readonly reason: string
  readonly status: number
  readonly flag: string
  readonly text: string
  /** No byte of the request reached the application: any method may be sent again elsewhere. */
  readonly unsent: boolean
}

function cause(reason: string, status: number, flag: string, text: string, unsent: boolean = false): Cause {
  return { reason, status, flag, text, unsent }
}

export const causes = {
  badRequest: cause('bad_request', 400, 'DPE', 'the request is malformed'),
  noRoute: cause('no_route', 404, 'NR', 'no route matches the request', true),
  unknownDestination: cause(
    'unknown_destination',
    502,
    'NR',
    'no service of the mesh has this address',
    true,
  ),
  notConfigured: cause('not_configured', 503, 'NC', 'the proxy has no configuration yet', true),
  noHealthy: cause('no_healthy_upstream', 503, 'UH', 'no instance of the service is available', true),
  connectFailure: cause('upstream_connect_failure', 503, 'UF', 'the instance could not be reached', true),
  connectTimeout: cause(
    'upstream_connect_timeout',
    503,
    'UF',
    'the instance did not accept the connection in time',
    true,
  ),
  identityMismatch: cause(
    'upstream_identity_mismatch',
    503,
    'UF',
    'the instance did not prove the identity of the service',
    true,
  ),
  noCertificate: cause('no_certificate', 503, 'UF', 'the caller has no certificate yet', true),
  overflow: cause(
    'upstream_overflow',
    503,
    'UO',
    'too many requests wait for a connection to the service',
    true,
  ),
  reset: cause('upstream_reset', 503, 'UC', 'the connection to the instance ended before its response'),
  protocol: cause('upstream_protocol_error', 502, 'UPE', 'the response of the instance is malformed'),
  timeout: cause('upstream_timeout', 504, 'UT', 'the service did not answer in time'),
  plainText: cause(
    'mtls_required',
    403,
    'RBAC_NOPLAIN',
    'the service accepts calls from the mesh only (mTLS is strict)',
  ),
  callerRefused: cause('caller_refused', 403, 'UAEX', 'the proxy of the service refused the caller'),
  headTimeout: cause('request_timeout', 408, 'DT', 'the head of the request did not arrive in time'),
  clientGone: cause('downstream_closed', 0, 'DC', 'the caller closed the connection'),
  streamReset: cause(
    'upstream_reset_in_response',
    0,
    'UC',
    'the connection to the instance ended within its response',
  ),
  responseTimeout: cause('upstream_timeout_in_response', 0, 'UT', 'the response did not end in time'),
  noConnect: cause('method_not_allowed', 405, 'DPE', 'the proxy opens no tunnels (CONNECT)'),
  filtered: cause('response_refused', 502, 'UPE', 'a filter refused the response'),
} as const

/** Reasons in a peer proxy's reply that say that nothing was sent to the application. */
export const unsentReasons: ReadonlySet<string> = new Set(
  Object.values(causes)
    .filter((one) => one.unsent && one.status === 503)
    .map((one) => one.reason),
)

// The standard's phrases (RFC 9110 15, RFC 6585): replies of our own need some, responses that came over HTTP/2 all.
const phrases: ReadonlyMap<number, string> = new Map(
  [
    '100 Continue,101 Switching Protocols,102 Processing,103 Early Hints,200 OK,201 Created,202 Accepted',
    '203 Non-Authoritative Information,204 No Content,205 Reset Content,206 Partial Content,207 Multi-Status',
    '300 Multiple Choices,301 Moved Permanently,302 Found,303 See Other,304 Not Modified,307 Temporary Redirect',
    '308 Permanent Redirect,400 Bad Request,401 Unauthorized,402 Payment Required,403 Forbidden,404 Not Found',
    '405 Method Not Allowed,406 Not Acceptable,407 Proxy Authentication Required,408 Request Timeout,409 Conflict',
    '410 Gone,411 Length Required,412 Precondition Failed,413 Content Too Large,414 URI Too Long',
    '415 Unsupported Media Type,416 Range Not Satisfiable,417 Expectation Failed,421 Misdirected Request',
    '422 Unprocessable Content,423 Locked,424 Failed Dependency,425 Too Early,426 Upgrade Required',
    '428 Precondition Required,429 Too Many Requests,431 Request Header Fields Too Large',
    '451 Unavailable For Legal Reasons,500 Internal Server Error,501 Not Implemented,502 Bad Gateway',
    '503 Service Unavailable,504 Gateway Timeout,505 HTTP Version Not Supported,507 Insufficient Storage',
    '511 Network Authentication Required',
  ]
    .join(',')
    .split(',')
    .map((entry) => [Number(entry.slice(0, 3)), entry.slice(4)]),
)

/** What a local reply says in words. `detail` may hold what a peer sent: it is cut down to printable ASCII. */
export function replyText(reason: Cause, detail: string): string {
  return `meshctl: ${reason.text}${detail === '' ? '' : `: ${printable(detail)}`}\n`
}

export function phraseOf(status: number): string {
  return phrases.get(status) ?? ''
}

/** The whole reply as bytes of HTTP/1.1. `status` 0 stands for the cause's own. */
export function localReply(
  reason: Cause,
  detail: string,
  options: { status: number; method: string; close: boolean; requestId: string },
): Buffer {
  const status = options.status === 0 ? reason.status : options.status
  const body = replyText(reason, detail)
  const id = options.requestId === '' ? '' : `x-request-id: ${printable(options.requestId)}\r\n`
  const head =
    `HTTP/1.1 ${status} ${phraseOf(status)}\r\ncontent-type: text/plain\r\n` +
    `content-length: ${body.length}\r\nx-meshctl-reason: ${reason.reason}\r\n${id}` +
    `${options.close ? 'connection: close\r\n' : ''}\r\n`
  return Buffer.from(options.method === 'HEAD' ? head : head + body, 'latin1')
}

/** Takes the cause down in the exchange, for the access log and the metrics. */
export function blame(x: Exchange, reason: Cause, detail: string): void {
  x.flag = reason.flag
  x.reason = reason.reason
  x.detail = detail
}

export function printable(text: string): string {
  return text.slice(0, 300).replaceAll(/[^\x20-\x7e]/g, '?')
}
