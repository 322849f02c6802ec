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
  const start = `${x.method} ${x.path} HTTP/1.${x.minor}\r\n`
  room(start.length + head.bound + x.requestLines.length)
  let at = scratch.latin1Write(start, 0)
  drops = x.requestDrops
  at = head.writeLines(scratch, at, dropRequest)
  let end = x.requestLines
  if (head.chunked) end += 'transfer-encoding: chunked\r\n'
  if (!head.has('x-forwarded-proto')) end += 'x-forwarded-proto: http\r\n'
  if (x.upgrade !== '') end += `connection: upgrade\r\nupgrade: ${x.upgrade}\r\n`
  at += scratch.latin1Write(`${end}\r\n`, at)
  return copyOf(at)
}

/**
 * The response head for downstream, followed by the bytes of the body that came with it (`isChunk`: wrapped as a chunk),
 * in a buffer of its own: one write.
 */
export function composeResponse(x: Exchange, head: Head, body: Buffer, from: number, to: number): Buffer {
  const start = `HTTP/1.1 ${head.status} ${head.reason}\r\n`
  room(start.length + head.bound + x.responseLines.length)
  let at = scratch.latin1Write(start, 0)
  // A peer proxy may say what only meshctl says; an application may not.
  at = head.writeLines(scratch, at, x.endpoint?.config.via === 'link' ? dropHop : dropResponse)
  let end = x.responseLines
  if (head.status === 101) end += `connection: upgrade\r\nupgrade: ${head.upgrade}\r\n`
  else if (head.status >= 200) {
    if (head.chunked || x.encode) end += 'transfer-encoding: chunked\r\n'
    if (!x.keepAlive) end += 'connection: close\r\n'
    else if (x.minor === 0) end += 'connection: keep-alive\r\n'
  }
  at += scratch.latin1Write(`${end}\r\n`, at)
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

function copyOf(bytes: number): Buffer {
  const out = Buffer.allocUnsafe(bytes)
  scratch.copy(out, 0, 0, bytes)
  return out
}

function room(bytes: number): void {
  if (scratch.length < bytes + added) scratch = Buffer.allocUnsafeSlow((bytes + added) * 2)
}
