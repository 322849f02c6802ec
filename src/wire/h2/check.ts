// Which decoded blocks are messages (RFC 9113 8.1–8.5, RFC 8441). What single fields may be was checked when they were made;
// this is about what they are together. Everything that an HTTP/1.1 server behind us could read differently is a fault.
import { Fault } from '../fault.ts'
import { Name } from '../names.ts'
import { Pseudo } from './fieldname.ts'
import type { Fields } from './fields.ts'

const bit = (id: number): number => 1 << (id - Pseudo.method)
const method = bit(Pseudo.method)
const scheme = bit(Pseudo.scheme)
const path = bit(Pseudo.path)
const authority = bit(Pseudo.authority)
const protocol = bit(Pseudo.protocol)
const status = bit(Pseudo.status)

/** 0, or why this is no request head. */
export function requestFault(fields: Fields): number {
  if (fields.fault !== 0) return fields.fault
  const given = fields.pseudo
  if ((given & status) !== 0) return Fault.pseudo
  if ((given & method) === 0) return Fault.missingPseudo
  if (fields.method === 'CONNECT') return connectFault(fields)
  if ((given & protocol) !== 0) return Fault.pseudo
  if ((given & scheme) === 0 || (given & path) === 0) return Fault.missingPseudo
  if (fields.host === '') return Fault.missingHost
  if (fields.path === '*' && fields.method !== 'OPTIONS') return Fault.target
  if (fields.method === 'TRACE' && fields.contentLength > 0) return Fault.bodyForbidden
  return 0
}

/** Neither kind of CONNECT has a body: what comes in DATA is the tunnel. */
function connectFault(fields: Fields): number {
  const given = fields.pseudo
  if ((given & authority) === 0) return Fault.missingPseudo
  if (fields.contentLength >= 0) return Fault.bodyForbidden
  if ((given & protocol) !== 0) {
    if ((given & scheme) === 0 || (given & path) === 0) return Fault.missingPseudo
    return fields.path === '*' ? Fault.target : 0
  }
  if ((given & (scheme | path)) !== 0) return Fault.pseudo
  // host:port, both needed; the port may not hide in an IPv6 address.
  const target = fields.authority
  return target.lastIndexOf(':') <= target.lastIndexOf(']') || target.indexOf(':') < 0 ? Fault.target : 0
}

/** 0, or why this is no head of a response, interim or final. */
export function responseFault(fields: Fields): number {
  if (fields.fault !== 0) return fields.fault
  if (fields.pseudo !== status) return fields.pseudo === 0 ? Fault.missingPseudo : Fault.pseudo
  // Protocols are never switched within HTTP/2 (RFC 9113 8.6).
  if (fields.status === 101) return Fault.status
  if ((fields.status < 200 || fields.status === 204) && fields.contentLength > 0) return Fault.bodyForbidden
  return 0
}

/** 0, or why this is no trailer section. */
export function trailersFault(fields: Fields): number {
  if (fields.fault !== 0) return fields.fault
  if (fields.pseudo !== 0) return Fault.pseudo
  for (let i = 0; i < fields.count; i++) {
    const field = fields.items[i]!
    if (field.named.isForbiddenTrailer || field.id === Name.host) return Fault.forbiddenTrailer
  }
  return 0
}
