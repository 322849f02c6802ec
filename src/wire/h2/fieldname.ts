// Names of HTTP/2 fields. What depends on the name alone is decided once: for the names that are met often when the
// process starts, for others when they are read.
import { hashOf, token } from '../bytes.ts'
import { isForbiddenTrailer } from '../chunk.ts'
import { Fault } from '../fault.ts'
import { idOf, Name, nameCount, nameOf } from '../names.ts'

/** Ids of pseudo fields (RFC 9113 8.3, RFC 8441 4), beyond those of names.ts. */
export const Pseudo = {
  method: 256,
  scheme: 257,
  path: 258,
  authority: 259,
  protocol: 260,
  status: 261,
} as const

/** Ids of both kinds are below this. */
export const idLimit = 264

const pseudoNames: readonly string[] = [':method', ':scheme', ':path', ':authority', ':protocol', ':status']

/** Names whose values are made anew for each request. */
const uniqueNames: readonly string[] = ['x-request-id', 'traceparent', 'x-b3-traceid', 'x-b3-spanid']

const sensitiveNames: readonly string[] = ['authorization', 'proxy-authorization', 'cookie', 'set-cookie']

export class FieldName {
  readonly text: string
  /** 0: not interned. */
  readonly id: number
  /** The `hashOf` the text. */
  readonly hash: number
  /** Why no field may have this name, 0: it may. */
  readonly fault: number
  readonly isPseudo: boolean
  /** Whether its values are secrets by nature: never put into a table. */
  readonly isSensitive: boolean
  /** Whether a value of it is hardly ever met a second time. */
  readonly isUnique: boolean
  /** Whether no trailer section may have it. */
  readonly isForbiddenTrailer: boolean
  /** What whoever relays fields has found out about this name and does not want to find out again; 0: nothing yet. */
  mark: number

  constructor(text: string, id: number, hash: number, fault: number) {
    this.text = text
    this.id = id
    this.hash = hash
    this.fault = fault
    this.isPseudo = id > 255
    this.isSensitive = id > 0 && sensitiveNames.includes(text)
    this.isUnique = id > 0 && uniqueNames.includes(text)
    this.isForbiddenTrailer = isForbiddenTrailer(text)
    this.mark = 0
  }
}

/** Interned names by id. */
const interned: FieldName[] = []
for (let id = 0; id < idLimit; id++) interned.push(new FieldName('', 0, 0, Fault.emptyName))
for (let id = 1; id < nameCount; id++) {
  const text = nameOf(id)
  interned[id] = new FieldName(text, id, hashOf(text), isConnectionField(id) ? Fault.connectionField : 0)
}
for (let i = 0; i < pseudoNames.length; i++) {
  const text = pseudoNames[i]!
  interned[Pseudo.method + i] = new FieldName(text, Pseudo.method + i, hashOf(text), 0)
}

function isConnectionField(id: number): boolean {
  if (nameOf(id) === 'te') return false
  return (
    (id >= Name.firstHop && id <= Name.lastHop) ||
    id === Name.connection ||
    id === Name.transferEncoding ||
    id === Name.upgrade
  )
}

/** Id → 1 where values are never put into a table. */
const sensitiveIds = Uint8Array.from(interned, (named) => (named.isSensitive ? 1 : 0))

export function isSensitiveId(id: number): boolean {
  return sensitiveIds[id] === 1
}

/** Id → 1 where values are hardly ever met a second time. */
const uniqueIds = Uint8Array.from(interned, (named) => (named.isUnique ? 1 : 0))

export function isUniqueId(id: number): boolean {
  return uniqueIds[id] === 1
}

/** The name in buf[start, end); faulty ones too, since a table must keep them like others. */
export function readName(buf: Buffer, start: number, end: number): FieldName {
  if (start === end) return new FieldName('', 0, 0, Fault.emptyName)
  if (buf[start] === 58) {
    const text = buf.latin1Slice(start, end)
    const place = pseudoNames.indexOf(text)
    return place < 0 ? new FieldName(text, 0, 0, Fault.pseudo) : interned[Pseudo.method + place]!
  }
  const tokens = token
  let hash = 0
  for (let i = start; i < end; i++) {
    const byte = buf[i]!
    // The table gives the lower case: another byte is upper case or no token.
    if (tokens[byte] !== byte || byte === 0)
      return new FieldName(buf.latin1Slice(start, end), 0, 0, Fault.name)
    hash = Math.imul(hash, 33) ^ byte
  }
  const id = idOf(hash, buf, start, end)
  return id === 0 ? new FieldName(buf.latin1Slice(start, end), 0, hash, 0) : interned[id]!
}

/** Names that we have written ourselves, by text: a program has few of them. */
const ours = new Map<string, FieldName>()
const maxOurs = 1024

/** The name of this text; for names that we give, not for those that peers send. */
export function nameFrom(text: string): FieldName {
  let named = ours.get(text)
  if (named === undefined) {
    const bytes = Buffer.from(text, 'latin1')
    named = readName(bytes, 0, bytes.length)
    if (ours.size < maxOurs) ours.set(text, named)
  }
  return named
}

/** The pseudo name of this text; undefined: none. */
export function pseudoName(text: string): FieldName | undefined {
  // By identity, nearly always: these are constants in the code.
  if (text === ':path') return interned[Pseudo.path]
  if (text === ':method') return interned[Pseudo.method]
  if (text === ':scheme') return interned[Pseudo.scheme]
  if (text === ':authority') return interned[Pseudo.authority]
  if (text === ':status') return interned[Pseudo.status]
  return text === ':protocol' ? interned[Pseudo.protocol] : undefined
}
