// Reads a stream of messages with our codecs, in pieces, as a connection does.
import assert from 'node:assert/strict'
import { ChunkReader } from '../../src/wire/chunk.ts'
import { Head } from '../../src/wire/head.ts'
import { faultName, parseRequest, parseResponse } from '../../src/wire/http1.ts'

export interface Message {
  /** `GET /` or `200`. */
  start: string
  minor: number
  headers: [string, string][]
  body: string
  keepAlive: boolean
  complete: boolean
  upgrade: boolean
}

export interface Reading {
  messages: Message[]
  /** '' none. */
  fault: string
  /** The last message has begun and not ended. */
  open: boolean
}

export interface ReadOptions {
  kind?: 'request' | 'response'
  requestMethod?: string
  maxHeadBytes?: number
  maxHeaders?: number
}

/** `cuts` are the places where the bytes are cut into pieces. */
export function read(bytes: Buffer, cuts: readonly number[] = [], options: ReadOptions = {}): Reading {
  const { kind = 'request', requestMethod = 'GET', maxHeadBytes = 65536, maxHeaders = 100 } = options
  const limits = { maxHeadBytes, maxHeaders }
  const reading: Reading = { messages: [], fault: '', open: false }
  const head = new Head()
  const chunks = new ChunkReader()
  let body: Buffer[] = []
  let raw: Buffer[] = []
  let left = 0
  let state: 'head' | 'length' | 'chunked' | 'close' | 'opaque' = 'head'
  let seen = 0
  let from = 0
  // Nothing may be kept of a lent buffer, so each piece comes in a fresh copy of what is not consumed yet.
  for (const to of [...cuts, bytes.length]) {
    const buf = Buffer.concat([Buffer.from('#'), bytes.subarray(from, to), Buffer.from('\r\n\r\n')])
    const end = 1 + to - from
    let at = 1
    while (at < end && reading.fault === '') {
      if (state === 'opaque') {
        at = end
      } else if (state === 'head') {
        const used: number =
          kind === 'request'
            ? parseRequest(buf, at, end, head, limits, seen)
            : parseResponse(buf, at, end, head, limits, requestMethod, seen)
        if (used < 0) reading.fault = faultName(used)
        if (used === 0) seen = end - at
        if (used <= 0) break
        at += used
        seen = 0
        const headers: [string, string][] = []
        for (let i = 0; i < head.count; i++) headers.push([head.name(i), head.value(i)])
        reading.messages.push({
          start: kind === 'request' ? `${head.method} ${head.target}` : `${head.status}`,
          minor: head.minor,
          headers,
          body: '',
          keepAlive: head.keepAlive,
          complete: false,
          upgrade: head.upgrade !== '' || head.method === 'CONNECT',
        })
        body = []
        raw = []
        left = head.contentLength
        chunks.reset()
        if (head.upgrade !== '' || head.method === 'CONNECT') state = 'opaque'
        else if (head.chunked) state = 'chunked'
        else if (left > 0) state = 'length'
        else if (kind === 'response' && left < 0) state = 'close'
        if (state === 'opaque' || state === 'head') reading.messages.at(-1)!.complete = true
        if (state === 'head' && !head.keepAlive) state = 'opaque'
      } else if (state === 'chunked') {
        const next = chunks.read(buf, at, end)
        if (next < 0) {
          reading.fault = faultName(next)
          at = end
          continue
        }
        body.push(Buffer.from(buf.subarray(chunks.from, chunks.to)))
        raw.push(Buffer.from(buf.subarray(at, next)))
        at = next
        if (!chunks.isDone) continue
        const content = Buffer.concat(body)
        assert.deepEqual(content, dechunk(Buffer.concat(raw)))
        finish(content)
      } else {
        const take = state === 'close' ? end - at : Math.min(left, end - at)
        body.push(Buffer.from(buf.subarray(at, at + take)))
        at += take
        left -= take
        if (state === 'length' && left === 0) finish(Buffer.concat(body))
      }
    }
    from += at - 1
    if (reading.fault !== '') break
  }
  if (state === 'length' || state === 'close')
    reading.messages.at(-1)!.body = Buffer.concat(body).toString('latin1')
  reading.open = reading.fault === '' && state !== 'head' && state !== 'opaque'
  return reading

  function finish(content: Buffer): void {
    const message = reading.messages.at(-1)!
    message.body = content.toString('latin1')
    message.complete = true
    // Nobody reads on behind the last message of a connection.
    state = message.keepAlive ? 'head' : 'opaque'
  }
}

/** The content of a chunked body that the reader has accepted, taken apart in the plainest way. */
function dechunk(raw: Buffer): Buffer {
  const parts: Buffer[] = []
  let at = 0
  for (;;) {
    const eol = raw.indexOf('\r\n', at)
    const size = Number.parseInt(raw.toString('latin1', at, eol), 16)
    if (size === 0) return Buffer.concat(parts)
    parts.push(raw.subarray(eol + 2, eol + 2 + size))
    at = eol + 2 + size + 2
  }
}
