// Heads on their way through: the bytes as they came, minus what ends at this hop, plus what filters add, composed in
// one standing buffer.
import type { Head } from '../../wire/head.ts'
import { isMeshHeader, isProtected } from '../filter/header.ts'
import type { Exchange } from './exchange.ts'

declare global {
  // Node's own fast path for one-byte strings; @types/node leaves it out.
  interface Buffer {
    latin1Write(text: string, offset?: number, length?: number): number
  }
}

// Grows to the largest head seen plus room for added lines; never shrinks. Used and left within one call.
let scratch = Buffer.allocUnsafeSlow(16_384)
const added = 4096

let drops: readonly string[] | null = null

/** The request head for upstream, in a buffer of its own. */
export function composeRequest(x: Exchange, head: Head): Buffer {
  room(x.path.length + head.bound + x.requestLines.length)
  let at = put(x.method, 0)
  scratch[at++] = 32
  at = put(x.path, at)
  at = put(x.minor === 1 ? ' HTTP/1.1\r\n' : ' HTTP/1.0\r\n', at)
  drops = x.requestDrops
  at = head.writeLines(scratch, at, dropRequest)
  at = put(x.requestLines, at)
  if (head.chunked) at = put('transfer-encoding: chunked\r\n', at)
  if (!head.has('x-forwarded-proto')) at = put('x-forwarded-proto: http\r\n', at)
  if (x.upgrade !== '') at = put(`connection: upgrade\r\nupgrade: ${x.upgrade}\r\n`, at)
  return copyOf(put('\r\n', at))
}

/**
 * The response head for downstream, followed by the bytes of the body that came with it (`isChunk`: wrapped as a chunk),
 * in a buffer of its own: one write.
 */
export function composeResponse(x: Exchange, head: Head, body: Buffer, from: number, to: number): Buffer {
  room(head.reason.length + head.bound + x.responseLines.length)
  let at = put('HTTP/1.1 ', 0)
  at = head.status === 200 ? put('200 ', at) : put(`${head.status} `, at)
  at = put(head.reason, at)
  at = put('\r\n', at)
  // A peer proxy may say what only meshctl says; an application may not.
  at = head.writeLines(scratch, at, x.endpoint?.config.via === 'link' ? dropHop : dropResponse)
  at = put(x.responseLines, at)
  if (head.status === 101) at = put(`connection: upgrade\r\nupgrade: ${head.upgrade}\r\n`, at)
  else if (head.status >= 200) {
    if (head.chunked || x.encode) at = put('transfer-encoding: chunked\r\n', at)
    if (!x.keepAlive) at = put('connection: close\r\n', at)
    else if (x.minor === 0) at = put('connection: keep-alive\r\n', at)
  }
  at = put('\r\n', at)
  if (from === to) return copyOf(at)
  const chunk = x.encode ? `${(to - from).toString(16)}\r\n` : ''
  const out = Buffer.allocUnsafe(at + chunk.length + (to - from) + (x.encode ? 2 : 0))
  scratch.copy(out, 0, 0, at)
  if (x.encode) {
    at += out.latin1Write(chunk, at)
    out.latin1Write('\r\n', at + (to - from))
  }
  body.copy(out, at, from, to)
  return out
}

/** Body bytes as one chunk. */
export function composeChunk(body: Buffer, from: number, to: number): Buffer {
  const size = `${(to - from).toString(16)}\r\n`
  const out = Buffer.allocUnsafe(size.length + (to - from) + 2)
  const at = out.latin1Write(size, 0)
  body.copy(out, at, from, to)
  out.latin1Write('\r\n', at + (to - from))
  return out
}

function dropRequest(i: number, head: Head): boolean {
  const name = head.name(i)
  if (isMeshHeader(name)) return true
  if (drops?.includes(name) === true) return true
  return head.hop(i) && !isProtected(name)
}

function dropHop(i: number, head: Head): boolean {
  return head.hop(i) && !isProtected(head.name(i))
}

function dropResponse(i: number, head: Head): boolean {
  return isMeshHeader(head.name(i)) || dropHop(i, head)
}

/** One-byte text into scratch, where `room` was made; returns the place behind it. */
function put(text: string, at: number): number {
  const { length } = text
  // A call into Node costs more than a few bytes, and a rope of pieces more still.
  if (length > 32) return at + scratch.latin1Write(text, at)
  for (let i = 0; i < length; i++) scratch[at++] = text.charCodeAt(i)
  return at
}

function copyOf(bytes: number): Buffer {
  const out = Buffer.allocUnsafe(bytes)
  scratch.copy(out, 0, 0, bytes)
  return out
}

function room(bytes: number): void {
  if (scratch.length < bytes + added) scratch = Buffer.allocUnsafeSlow((bytes + added) * 2)
}
