// Headers that the mesh vouches for: taken from whoever is not entitled to them, and set anew.
import { randomFillSync } from 'node:crypto'
import type { Field } from '../../wire/h2/field.ts'
import type { Head } from '../../wire/head.ts'
import { nameCount, nameOf } from '../../wire/names.ts'
import type { Filter } from '../chain/filter.ts'
import { Next } from '../chain/filter.ts'

/** Both directions of the mesh: who called is said by the TLS peer alone. */
export const identity: Filter = {
  name: 'identity',
  onRequest(x) {
    // These names are dropped from every request; a link connection brings its own value.
    x.requestAdds = x.scope.adds
    return Next
  },
}

/** A request id of the application is kept, so that its own logs match; one is made where there is none. */
export const requestId: Filter = {
  name: 'request-id',
  onRequest(x) {
    if (x.requestId !== '') return Next
    x.requestId = uuid()
    x.isNewId = true
    return Next
  },
}

const random = Buffer.allocUnsafeSlow(4096)
let randomUsed = random.length
const text = Buffer.alloc(36, '-')
const view = new DataView(text.buffer, text.byteOffset, text.length)
/** A byte's two digits. */
const digits = Uint16Array.from({ length: 256 }, (_, byte) =>
  Buffer.from(byte.toString(16).padStart(2, '0')).readUInt16BE(),
)
/** Where the sixteen bytes stand in the text. */
const places = Uint8Array.of(0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34)

/** A version 4 UUID like crypto.randomUUID's, but as one flat string: that one is a rope of twenty pieces. */
function uuid(): string {
  if (randomUsed === random.length) {
    randomFillSync(random)
    randomUsed = 0
  }
  random[randomUsed + 6] = (random[randomUsed + 6]! & 0x0f) | 0x40
  random[randomUsed + 8] = (random[randomUsed + 8]! & 0x3f) | 0x80
  for (let i = 0; i < 16; i++) {
    view.setUint16(places[i]!, digits[random[randomUsed + i]!]!)
  }
  randomUsed += 16
  return text.latin1Slice(0, 36)
}

/** Whether a request header claims what only the mesh may say. Underscores count as dashes: some frameworks merge them. */
export function isMeshHeader(name: string): boolean {
  if (name.charCodeAt(0) !== 120 || name.length < 10) return false
  const dashed = name.includes('_') ? name.replaceAll('_', '-') : name
  if (dashed.startsWith('x-meshctl-') || dashed === 'x-forwarded-client-cert') return true
  return dashed !== name && (dashed === 'x-request-id' || dashed.startsWith('x-forwarded-'))
}

/** Names that a Connection header cannot remove by nominating them: the mesh, its tracing and authorization rely on them. */
export function isProtected(name: string): boolean {
  return (
    name.startsWith('x-forwarded-') ||
    name.startsWith('x-b3-') ||
    name === 'x-request-id' ||
    name === 'traceparent' ||
    name === 'tracestate' ||
    name === 'authorization' ||
    name === 'cookie' ||
    name === 'forwarded'
  )
}

// What becomes of a header's name at this hop, found out once for the names that are met often.
const Plain = 1
const Mesh = 2
const Protected = 3

const kinds = new Uint8Array(nameCount)
for (let id = 1; id < nameCount; id++) kinds[id] = kindOf(nameOf(id))

function kindOf(name: string): number {
  if (isMeshHeader(name)) return Mesh
  return isProtected(name) ? Protected : Plain
}

/** Whether line i of a head goes no further: it claims what only the mesh may say, or belongs to this connection. */
export function endsHere(i: number, head: Head): boolean {
  const id = head.id(i)
  if (id !== 0 ? kinds[id] === Mesh : head.initial(i) === 120 && isMeshHeader(head.name(i))) return true
  return endsHereFrom(i, head)
}

/** The same for what a peer proxy says: that may be what only the mesh says. */
export function endsHereFrom(i: number, head: Head): boolean {
  const id = head.id(i)
  if (id === 0 && !head.nominates) return false
  if (!head.hop(i)) return false
  return id !== 0 ? kinds[id] !== Protected : !isProtected(head.name(i))
}

/** Whether a field claims what only the mesh may say. HTTP/2 has no fields that belong to a connection. */
export function isMeshField(field: Field): boolean {
  const { named } = field
  if (named.mark === 0) named.mark = kindOf(named.text)
  return named.mark === Mesh
}

/** x-forwarded-client-cert for the application, in Envoy's form. Ids are checked SPIFFE ids, free of CR and LF. */
export function clientCertificate(own: string, peer: string): string {
  return `By=${own};URI=${peer}`
}
