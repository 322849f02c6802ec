// Header names that are met often, interned: a name read from the wire costs no allocation and compares by identity.
import { hashOf, token } from './bytes.ts'

// The first line holds those that the parser itself acts upon, in the order of Name; behind it the order means nothing.
const listed: readonly string[] = (
  ' host content-length transfer-encoding connection upgrade expect keep-alive proxy-connection te http2-settings ' +
  'accept accept-charset accept-encoding accept-language accept-ranges access-control-allow-headers ' +
  'access-control-allow-methods access-control-allow-origin age allow authorization baggage cache-control ' +
  'content-disposition content-encoding content-language content-location content-range content-type cookie date ' +
  'dnt etag expires forwarded from grpc-accept-encoding grpc-encoding grpc-message grpc-previous-rpc-attempts ' +
  'grpc-retry-pushback-ms grpc-status grpc-status-details-bin grpc-timeout if-match if-modified-since if-none-match if-range if-unmodified-since ' +
  'last-modified link location max-forwards origin pragma priority proxy-authenticate proxy-authorization range ' +
  'referer refresh retry-after sec-fetch-dest sec-fetch-mode sec-fetch-site sec-websocket-accept sec-websocket-extensions ' +
  'sec-websocket-key sec-websocket-protocol sec-websocket-version server server-timing set-cookie ' +
  'strict-transport-security traceparent tracestate trailer upgrade-insecure-requests user-agent vary via ' +
  'www-authenticate x-b3-sampled x-b3-spanid x-b3-traceid x-content-type-options x-envoy-attempt-count ' +
  'x-forwarded-client-cert x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto x-powered-by ' +
  'x-real-ip x-request-id x-meshctl-protocol x-meshctl-reason'
).split(' ')

/** The same as keys: the runtime keeps one of each, so that comparing one with a constant in the code is by identity. */
const known: readonly string[] = Object.keys(Object.fromEntries(listed.map((name) => [name, 0])))

/** Places in `known` of the names that the parser acts upon; 0 is a name that is not interned. */
export const Name = {
  host: 1,
  contentLength: 2,
  transferEncoding: 3,
  connection: 4,
  upgrade: 5,
  expect: 6,
  /** From here to `lastHop` (and connection, transfer-encoding, upgrade): hop-by-hop, RFC 9110 7.6.1. */
  firstHop: 7,
  lastHop: 10,
  te: 9,
} as const

const slots = 512
const table = new Uint8Array(slots)

for (let id = 1; id < known.length; id++) {
  let slot = hashOf(known[id]!) & (slots - 1)
  while (table[slot] !== 0) slot = (slot + 1) & (slots - 1)
  table[slot] = id
}

/** Their bytes, those of each at `starts` of its place: reading a character of a string costs several times as much. */
const starts = new Uint16Array(known.length + 1)
for (let id = 0; id < known.length; id++) starts[id + 1] = starts[id]! + known[id]!.length
const bytes = new Uint8Array(Buffer.from(known.join(''), 'latin1'))

/** Places in use: 1 to one less than this. */
export const nameCount = known.length

/** The interned name with this place. */
export function nameOf(id: number): string {
  return known[id]!
}

/** The place of the name in buf[start, end) whose hash is known; 0: not interned. */
export function idOf(hash: number, buf: Buffer, start: number, end: number): number {
  for (let slot = hash & (slots - 1); ; slot = (slot + 1) & (slots - 1)) {
    const id = table[slot]!
    if (id === 0) return 0
    if (isName(id, buf, start, end)) return id
  }
}

function isName(id: number, buf: Buffer, start: number, end: number): boolean {
  let at = starts[id]!
  if (starts[id + 1]! - at !== end - start) return false
  for (; start < end; at++, start++) if (token[buf[start]!] !== bytes[at]) return false
  return true
}

/** Hashes of names that the code asks for: it has few of them. */
const hashes = new Map<string, number>()
const maxHashes = 1024

/** The `hashOf` a name that the code knows; not for names that peers send. */
export function hashFor(name: string): number {
  let hash = hashes.get(name)
  if (hash === undefined) {
    hash = hashOf(name)
    if (hashes.size < maxHashes) hashes.set(name, hash)
  }
  return hash
}
