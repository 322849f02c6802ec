// The heads of CONNECT (RFC 9113 8.5): a tunnel for opaque bytes on one stream, as Istio's HBONE has it.
import type { Session } from '../../wire/h2/session.ts'
import type { Stream } from '../../wire/h2/stream.ts'
import { replyText } from '../chain/reply.ts'
import type { Cause } from '../chain/reply.ts'

/** More than the names and short values of any head here. */
const bound = 256

/** Asks for a tunnel to this address and port. */
export function writeConnect(session: Session, stream: Stream, authority: string): void {
  let at = session.beginHead(stream, bound + authority.length)
  if (at < 0) return
  const { out, encoder } = session
  at = encoder.text(out, at, ':method', 'CONNECT', false)
  at = encoder.text(out, at, ':authority', authority, false)
  session.endHead(stream, at, false)
}

/** The tunnel is there. */
export function writeGranted(session: Session, stream: Stream): void {
  const at = session.beginHead(stream, bound)
  if (at < 0) return
  session.endHead(stream, session.encoder.status(session.out, at, 200), false)
}

/** There is no tunnel. */
export function writeDenied(session: Session, stream: Stream, cause: Cause, detail: string): void {
  const text = replyText(cause, detail)
  let at = session.beginHead(stream, bound + text.length)
  if (at < 0) return
  const { out, encoder } = session
  at = encoder.status(out, at, cause.status)
  at = encoder.text(out, at, 'content-type', 'text/plain', false)
  at = encoder.text(out, at, 'content-length', String(text.length), false)
  at = encoder.text(out, at, 'x-meshctl-reason', cause.reason, false)
  session.endHead(stream, at, false)
  const body = Buffer.from(text, 'latin1')
  session.data(stream, body, 0, body.length, true)
}
