// What the port of a service speaks: Istio's names, and how they are read.
import type { Fields } from './fields.ts'
import { didYouMean } from './near.ts'

/** What a port may be declared as; see `Protocol`. */
export const protocols = ['http', 'http2', 'grpc', 'tls', 'tcp', 'auto'] as const

/**
 * How a port's bytes are understood. `http`: HTTP/1.1, or HTTP/2 where the caller speaks that; `http2`, `grpc`: HTTP/2 with
 * prior knowledge; `tls`: opaque, routed by server name; `auto`: sniffed without ever delaying a server-first protocol.
 */
export type Protocol = (typeof protocols)[number]

/** Istio's other names (pkg/config/protocol/instance.go) for what is handled alike. Server-first ones are never sniffed. */
const aliases: ReadonlyMap<string, Protocol> = new Map([
  ['grpc-web', 'http'],
  ['https', 'tls'],
  ['mongo', 'tcp'],
  ['mysql', 'tcp'],
  ['redis', 'tcp'],
])

const httpFamily: ReadonlySet<Protocol> = new Set(['http', 'http2', 'grpc'])
const opaqueFamily: ReadonlySet<Protocol> = new Set(['tls', 'tcp'])

/** The protocol of a port whose instances say these. What no single word covers is sniffed. */
export function commonProtocol(said: Iterable<Protocol>): Protocol {
  const words = new Set(said)
  const [only] = words
  if (words.size === 1 && only !== undefined) return only
  if (words.size > 1 && words.isSubsetOf(httpFamily)) return 'http'
  return words.size > 1 && words.isSubsetOf(opaqueFamily) ? 'tcp' : 'auto'
}

/** The field `protocol`: Istio's names in any case, as Istio reads them. */
export function readProtocol(fields: Fields): Protocol {
  const written = fields.text('protocol')
  if (written === undefined) return 'auto'
  const word = written.toLowerCase()
  const found = protocols.find((known) => known === word) ?? aliases.get(word)
  if (found !== undefined) return found
  const known = [...protocols, ...aliases.keys()]
  if (word === 'udp') fields.fault('protocol', '"udp": only TCP is carried by the mesh', 'leave it out')
  else
    fields.fault(
      'protocol',
      `must be ${protocols.join(', ')}; not "${written}"`,
      didYouMean(word, known) ?? `also taken: ${[...aliases.keys()].join(', ')}`,
    )
  return 'auto'
}
