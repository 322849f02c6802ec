// Heads as HTTP/2 writes them, straight into the output of a session: what came, minus what ends at this hop, plus what
// filters add.
import type { HpackEncoder } from '../../wire/h2/encoder.ts'
import { fieldOf } from '../../wire/h2/field.ts'
import type { Field } from '../../wire/h2/field.ts'
import { Fields } from '../../wire/h2/fields.ts'
import type { Session } from '../../wire/h2/session.ts'
import type { Stream } from '../../wire/h2/stream.ts'
import type { Head } from '../../wire/head.ts'
import { Name } from '../../wire/names.ts'
import type { Headers } from '../chain/ends.ts'
import type { Exchange } from '../chain/exchange.ts'
import { replyText } from '../chain/reply.ts'
import type { Cause } from '../chain/reply.ts'
import { grpcMessage, grpcStatusOf } from '../filter/grpc.ts'
import { endsHere, endsHereFrom, isMeshField } from '../filter/header.ts'

/** What one field costs at most beside its name and value. */
const perField = 16
/** Pseudo fields with their names, and the fields that we add to every request. */
const added = 512

let drops: readonly string[] | null = null

/** The request's head on a new stream. `isLink`: the peer is a proxy of the mesh. */
export function writeRequest(
  x: Exchange,
  head: Headers,
  session: Session,
  stream: Stream,
  isLink: boolean,
  isEnd: boolean,
): void {
  const isTunnel = x.upgrade !== ''
  const authority = authorityOf(x, head)
  let at = session.beginHead(
    stream,
    added + x.path.length + authority.length + boundOf(head) + sizeOf(x.requestAdds),
  )
  if (at < 0) return
  const { out } = session
  const { encoder } = session
  at = encoder.text(out, at, ':method', isTunnel ? 'CONNECT' : x.method, false)
  at = encoder.text(out, at, ':scheme', 'http', false)
  at = encoder.text(out, at, ':path', x.path, false)
  at = encoder.text(out, at, ':authority', authority, false)
  if (isTunnel) at = encoder.text(out, at, ':protocol', x.upgrade, false)
  drops = x.requestDrops
  if (head instanceof Fields) {
    at = writeFields(encoder, out, at, head, dropRequestField)
    if (isLink) at = encoder.text(out, at, 'x-meshctl-protocol', 'h2', false)
  } else at = head.encode(encoder, out, at, dropRequestLine)
  if (x.isNewId) at = encoder.text(out, at, 'x-request-id', x.requestId, false)
  at = writePairs(encoder, out, at, x.requestAdds)
  if (!head.has('x-forwarded-proto')) at = encoder.text(out, at, 'x-forwarded-proto', 'http', false)
  session.endHead(stream, at, isEnd)
}

/** As the caller wrote it. Callers of HTTP/1.0 may name none, and then it is the service's own name. */
function authorityOf(x: Exchange, head: Headers): string {
  const given = head instanceof Fields ? head.authority : head.authority(x.authority)
  return given || x.authority || x.target.destination.service
}

/** The response's head, interim or final. */
export function writeResponseHead(
  x: Exchange,
  head: Headers,
  session: Session,
  stream: Stream,
  isEnd: boolean,
): void {
  let at = session.beginHead(stream, added + boundOf(head) + sizeOf(x.responseAdds))
  if (at < 0) return
  const { out } = session
  const { encoder } = session
  // Protocols are switched by CONNECT here, and that is answered by 200 (RFC 8441 5).
  at = encoder.status(out, at, head.status === 101 ? 200 : head.status)
  const isFromMesh = x.endpoint?.config.via === 'link'
  if (head instanceof Fields) {
    at = writeFields(encoder, out, at, head, isFromMesh ? dropNoField : isMeshField)
  } else at = head.encode(encoder, out, at, isFromMesh ? dropHopLine : dropResponseLine)
  at = writePairs(encoder, out, at, x.responseAdds)
  session.endHead(stream, at, isEnd)
}

/** A reply of our own. gRPC callers get a status of their protocol, without a body. */
export function writeReply(
  x: Exchange,
  session: Session,
  stream: Stream,
  cause: Cause,
  status: number,
  detail: string,
): void {
  const text = replyText(cause, detail)
  let at = session.beginHead(stream, added + text.length * 3 + x.requestId.length)
  if (at < 0) return
  const { out } = session
  const { encoder } = session
  at = encoder.status(out, at, x.isGrpc ? 200 : status)
  if (x.isGrpc) {
    at = encoder.text(out, at, 'content-type', 'application/grpc', false)
    at = encoder.text(out, at, 'grpc-status', String(grpcStatusOf(status)), false)
    at = encoder.text(out, at, 'grpc-message', grpcMessage(text.trimEnd()), false)
  } else {
    at = encoder.text(out, at, 'content-type', 'text/plain', false)
    at = encoder.text(out, at, 'content-length', String(text.length), false)
  }
  at = encoder.text(out, at, 'x-meshctl-reason', cause.reason, false)
  if (x.requestId !== '') at = encoder.text(out, at, 'x-request-id', x.requestId, false)
  const isBodyless = x.isGrpc || x.method === 'HEAD'
  session.endHead(stream, at, isBodyless)
  if (isBodyless) return
  const body = Buffer.from(text, 'latin1')
  session.data(stream, body, 0, body.length, true)
}

/** Trailers as a session takes them. */
export function trailerFields(trailers: Headers): Field[] {
  const fields: Field[] = []
  if (trailers instanceof Fields) {
    for (let i = 0; i < trailers.count; i++) {
      const field = trailers.items[i]!
      if (!isMeshField(field)) fields.push(field)
    }
    return fields
  }
  for (let i = 0; i < trailers.count; i++) {
    if (!endsHereFrom(i, trailers)) fields.push(fieldOf(trailers.name(i), trailers.value(i)))
  }
  return fields
}

export function pairFields(pairs: readonly string[]): Field[] {
  const fields: Field[] = []
  for (let i = 0; i + 1 < pairs.length; i += 2) fields.push(fieldOf(pairs[i]!, pairs[i + 1]!))
  return fields
}

function writeFields(
  encoder: HpackEncoder,
  out: Buffer,
  at: number,
  fields: Fields,
  drop: (field: Field) => boolean,
): number {
  const { items, count } = fields
  for (let i = 0; i < count; i++) {
    const field = items[i]!
    if (!drop(field)) at = encoder.field(out, at, field)
  }
  return at
}

function writePairs(encoder: HpackEncoder, out: Buffer, at: number, pairs: readonly string[] | null): number {
  if (pairs === null) return at
  for (let i = 0; i + 1 < pairs.length; i += 2) at = encoder.text(out, at, pairs[i]!, pairs[i + 1]!, false)
  return at
}

function dropRequestField(field: Field): boolean {
  return isMeshField(field) || field.name === 'host' || drops?.includes(field.name) === true
}

function dropNoField(): boolean {
  return false
}

function dropRequestLine(i: number, head: Head): boolean {
  return endsHere(i, head) || head.id(i) === Name.host || (drops !== null && drops.includes(head.name(i)))
}

function dropHopLine(i: number, head: Head): boolean {
  return endsHereFrom(i, head)
}

function dropResponseLine(i: number, head: Head): boolean {
  return endsHere(i, head)
}

function boundOf(head: Headers): number {
  // 32 bytes of each field's size are for its place in a table; more than it costs here.
  return head instanceof Fields ? head.size : head.bound + head.count * perField
}

function sizeOf(pairs: readonly string[] | null): number {
  let bytes = 0
  if (pairs !== null) for (const text of pairs) bytes += text.length + perField
  return bytes
}
