// Heads and bodies as HTTP/1.1 writes them: the bytes as they came, minus what ends at this hop, plus what filters add,
// composed in one standing buffer.
import { createHash, randomBytes } from 'node:crypto'
import { wideBytes } from '../../net/block.ts'
import type { Channel } from '../../net/channel.ts'
import { Fields } from '../../wire/h2/fields.ts'
import type { Head } from '../../wire/head.ts'
import { Name } from '../../wire/names.ts'
import type { Headers } from '../chain/ends.ts'
import type { Exchange } from '../chain/exchange.ts'
import { phraseOf } from '../chain/reply.ts'
import { endsHere, endsHereFrom, isMeshField, isMeshHeader } from '../filter/header.ts'
import { constant, Scratch, sizeOf } from './scratch.ts'

/** Larger pieces of a body are not copied twice only to leave with what is before them. */
const gatherLimit = 16_384
const pieceBytes = 8192

const http11 = constant(' HTTP/1.1\r\n')
const ok = constant('HTTP/1.1 200 OK\r\n')
const plainProto = constant('x-forwarded-proto: http\r\n')

const scratch = new Scratch()

// A head whose body may come within the same turn waits in scratch, so that both leave in one write: of one connection at a
// time, from the start.
let waiting: Channel | null = null
let waitingBytes = 0

/** Writes out what waits. */
export function flushWaiting(): boolean {
  if (waiting === null) return true
  const connection = waiting
  waiting = null
  const isRoom = connection.lend(scratch.upTo(waitingBytes))
  // The connection reads the rest from it when it can.
  if (connection.hasKept) scratch.renew(scratch.bytes.length)
  return isRoom
}

let drops: readonly string[] | null = null

/** The request head for upstream. It waits for `flushWaiting`. */
export function writeRequest(connection: Channel, x: Exchange, head: Headers): void {
  flushWaiting()
  if (head.contentLength >= wideBytes) connection.writeWide()
  scratch.room(x.path.length + head.bound + sizeOf(x.requestAdds))
  let at = scratch.put(x.method, 0)
  scratch.bytes[at++] = 32
  at = scratch.put(x.path, at)
  at = x.version === 0 ? scratch.put(' HTTP/1.0\r\n', at) : scratch.constant(http11, at)
  drops = x.requestDrops
  if (head instanceof Fields) {
    at = scratch.host(head.authority === '' ? x.authority : head.authority, at)
    at = head.writeLines(scratch.bytes, at, dropRequestField)
  } else at = head.writeLines(scratch.bytes, at, dropRequest)
  if (x.isNewId) at = scratch.field('x-request-id', x.requestId, at)
  at = scratch.fields(x.requestAdds, at)
  if (x.isUnsized) at = scratch.put('transfer-encoding: chunked\r\n', at)
  if (!head.has('x-forwarded-proto')) at = scratch.constant(plainProto, at)
  if (x.upgrade !== '') at = upgrade(x, head, at)
  waitingBytes = scratch.put('\r\n', at)
  waiting = connection
}

function upgrade(x: Exchange, head: Headers, at: number): number {
  at = scratch.put(`connection: upgrade\r\nupgrade: ${x.upgrade}\r\n`, at)
  // Extended CONNECT has no key (RFC 8441 5); ours keeps the one of the caller.
  if (head.has('sec-websocket-key')) return at
  return scratch.field('sec-websocket-key', randomBytes(16).toString('base64'), at)
}

/**
 * The response head for downstream, followed by the bytes of the body that came with it (`isChunked`: wrapped as a chunk; and
 * the last one where the body is whole). `isMore`: it waits for more of its turn, until `flushWaiting`.
 */
export function writeResponse(
  connection: Channel,
  x: Exchange,
  head: Headers,
  body: Buffer,
  from: number,
  to: number,
  isChunked: boolean,
  isWhole: boolean,
  isMore: boolean,
): boolean {
  flushWaiting()
  if (head.contentLength >= wideBytes) connection.writeWide()
  const bytes = to - from
  const isLarge = bytes > gatherLimit
  const status = x.status === 101 && head.status === 200 ? 101 : head.status
  const phrase = head instanceof Fields ? phraseOf(status) : head.reason
  scratch.room(phrase.length + head.bound + sizeOf(x.responseAdds) + (isLarge ? 0 : bytes))
  let at =
    status === 200 && phrase === 'OK'
      ? scratch.constant(ok, 0)
      : scratch.put(`HTTP/1.1 ${status} ${phrase}\r\n`, 0)
  // A peer proxy may say what only meshctl says; an application may not.
  const isFromMesh = x.endpoint?.config.via === 'link'
  if (head instanceof Fields)
    at = head.writeLines(scratch.bytes, at, isFromMesh ? dropNothing : dropMeshField)
  else at = head.writeLines(scratch.bytes, at, isFromMesh ? endsHereFrom : endsHere)
  at = scratch.fields(x.responseAdds, at)
  if (status === 101) at = switching(x, head, at)
  else if (status >= 200) {
    if (isWhole && !isChunked && isEmptyUntold(x, head)) at = scratch.put('content-length: 0\r\n', at)
    if (isChunked) at = scratch.put('transfer-encoding: chunked\r\n', at)
    if (!x.keepAlive) at = scratch.put('connection: close\r\n', at)
    else if (x.version === 0) at = scratch.put('connection: keep-alive\r\n', at)
  }
  waitingBytes = scratch.put('\r\n', at)
  waiting = connection
  if (bytes > 0) writeData(connection, body, from, to, isChunked)
  if (isWhole && isChunked) writeEnd(connection, null)
  return isMore || flushWaiting()
}

/** Body bytes (`isChunked`: as one chunk), behind what waits of the same connection. False: it is full. */
export function writeData(
  connection: Channel,
  body: Buffer,
  from: number,
  to: number,
  isChunked: boolean,
): boolean {
  const bytes = to - from
  if (waiting !== connection || bytes > gatherLimit || waitingBytes + bytes + 16 > scratch.bytes.length) {
    if (waiting === connection) flushWaiting()
    // Pieces of this size are parts of something large: they leave together.
    if (!isChunked)
      return bytes < pieceBytes ? connection.copy(body, from, to) : connection.gather(body, from, to)
    return connection.write(composeChunk(body, from, to))
  }
  if (isChunked) waitingBytes = scratch.put(`${bytes.toString(16)}\r\n`, waitingBytes)
  waitingBytes += body.copy(scratch.bytes, waitingBytes, from, to)
  if (isChunked) waitingBytes = scratch.put('\r\n', waitingBytes)
  return true
}

/** The end of a chunked body. */
export function writeEnd(connection: Channel, trailers: readonly string[] | null): boolean {
  const end = composeEnd(trailers)
  if (waiting !== connection) return connection.write(end)
  if (waitingBytes + end.length > scratch.bytes.length) flushWaiting()
  else {
    waitingBytes += end.copy(scratch.bytes, waitingBytes)
    return true
  }
  return connection.write(end)
}

/** Body bytes as one chunk. */
function composeChunk(body: Buffer, from: number, to: number): Buffer {
  const size = `${(to - from).toString(16)}\r\n`
  const out = Buffer.allocUnsafe(size.length + (to - from) + 2)
  const at = out.latin1Write(size, 0)
  body.copy(out, at, from, to)
  out.latin1Write('\r\n', at + (to - from))
  return out
}

const lastChunk = Buffer.from('0\r\n\r\n', 'latin1')

/** The end of a chunked body, with its trailers: name, value, name, value … */
function composeEnd(trailers: readonly string[] | null): Buffer {
  if (trailers === null) return lastChunk
  let text = '0\r\n'
  for (let i = 0; i + 1 < trailers.length; i += 2) text += `${trailers[i]}: ${trailers[i + 1]}\r\n`
  return Buffer.from(`${text}\r\n`, 'latin1')
}

/** The fields of a trailer section, as `composeEnd` takes them. */
export function pairsOf(trailers: Headers): string[] {
  const pairs: string[] = []
  for (let i = 0; i < trailers.count; i++) {
    const name = trailers.name(i)
    if (!isMeshHeader(name)) pairs.push(name, trailers.value(i))
  }
  return pairs
}

/** HTTP/2 says by its last frame that there is no body; HTTP/1.1 has to say it in the head. */
function isEmptyUntold(x: Exchange, head: Headers): boolean {
  return head instanceof Fields && head.contentLength < 0 && !isBodyless(x.method, head.status)
}

/** Whether a response has no body whatever its head says (RFC 9112 6.3). */
export function isBodyless(method: string, status: number): boolean {
  return method === 'HEAD' || status < 200 || status === 204 || status === 304
}

/** The end of a head that switches to WebSocket; a peer that speaks HTTP/2 has not proved that it heard the key. */
function switching(x: Exchange, head: Headers, at: number): number {
  at = scratch.put(`connection: upgrade\r\nupgrade: ${x.upgrade}\r\n`, at)
  if (head.has('sec-websocket-accept')) return at
  const key = x.downstream.head(x).get('sec-websocket-key') ?? ''
  const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
  return scratch.field('sec-websocket-accept', accept, at)
}

function dropRequest(i: number, head: Head): boolean {
  return endsHere(i, head) || (drops !== null && drops.includes(head.name(i)))
}

function dropRequestField(i: number, fields: Fields): boolean {
  const field = fields.items[i]!
  if (isMeshField(field) || field.id === Name.host || field.id === Name.te) return true
  return drops !== null && drops.includes(field.name)
}

function dropMeshField(i: number, fields: Fields): boolean {
  return isMeshField(fields.items[i]!)
}

function dropNothing(): boolean {
  return false
}
