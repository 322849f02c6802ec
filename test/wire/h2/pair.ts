// Sessions back to back in memory, whose owners write down what they are told.
import assert from 'node:assert/strict'
import { HpackDecoder } from '../../../src/wire/h2/decoder.ts'
import { HpackEncoder } from '../../../src/wire/h2/encoder.ts'
import type { Field } from '../../../src/wire/h2/field.ts'
import { Fields } from '../../../src/wire/h2/fields.ts'
import { codeName } from '../../../src/wire/h2/frame.ts'
import { defaultLimits } from '../../../src/wire/h2/limits.ts'
import type { SessionLimits } from '../../../src/wire/h2/limits.ts'
import { Session } from '../../../src/wire/h2/session.ts'
import type { SessionOwner } from '../../../src/wire/h2/session.ts'
import type { Stream, StreamOwner } from '../../../src/wire/h2/stream.ts'
import { faultName } from '../../../src/wire/fault.ts'

export type Head = readonly (readonly [name: string, value: string])[]

/** Owns a session and all of its streams. What it is told stands in `events`, one line each; the hooks may act on it. */
export class Peer implements SessionOwner, StreamOwner {
  readonly session: Session
  readonly events: string[] = []
  /** Body bytes by stream id. */
  readonly bodies = new Map<number, Buffer[]>()
  /** Consumes what arrives at once. */
  isReading = true
  onHeaders: (stream: Stream, isEnd: boolean, fields: Fields) => void = () => undefined
  onData: (stream: Stream, bytes: Buffer, isEnd: boolean) => void = () => undefined
  onTrailers: (stream: Stream, fields: Fields) => void = () => undefined
  onWritable: (stream: Stream) => void = () => undefined
  onReset: (stream: Stream) => void = () => undefined

  constructor(role: 'client' | 'server', limits: Partial<SessionLimits> = {}) {
    this.session = new Session(role, this, { ...defaultLimits, ...limits })
  }

  accept(): StreamOwner {
    return this
  }

  refused(fault: number): void {
    this.events.push(`refused ${faultName(fault)}`)
  }

  wantsFlush(): void {}

  settled(): void {
    this.events.push('settled')
  }

  goingAway(): void {
    this.events.push('going away')
  }

  failed(code: number, why: string): void {
    this.events.push(`failed ${codeName(code)}: ${why}`)
  }

  headers(stream: Stream, fields: Fields, isEnd: boolean): void {
    const first =
      fields.status === 0
        ? `${fields.method} ${fields.protocol}${fields.scheme}://${fields.authority}${fields.path}`
        : String(fields.status)
    this.events.push(`${stream.id} headers ${first}${lines(fields)}${isEnd ? ' end' : ''}`)
    this.onHeaders(stream, isEnd, fields)
  }

  data(stream: Stream, buf: Buffer, start: number, end: number, isEnd: boolean): void {
    const bytes = Buffer.from(buf.subarray(start, end))
    const body = this.bodies.get(stream.id)
    if (body === undefined) this.bodies.set(stream.id, [bytes])
    else body.push(bytes)
    // Where one frame ends and the next begins says nothing.
    const last = this.events.at(-1)
    const [, sum] = /^(?:\d+) data (\d+)$/.exec(last ?? '') ?? []
    const isMore = sum !== undefined && last?.startsWith(`${stream.id} `) === true
    if (isMore) this.events.pop()
    const total = (isMore ? Number(sum) : 0) + bytes.length
    this.events.push(`${stream.id} data ${total}${isEnd ? ' end' : ''}`)
    if (this.isReading) this.session.consumed(stream, bytes.length)
    this.onData(stream, bytes, isEnd)
  }

  trailers(stream: Stream, fields: Fields): void {
    this.events.push(`${stream.id} trailers${lines(fields)}`)
    this.onTrailers(stream, fields)
  }

  reset(stream: Stream, code: number, isUnprocessed: boolean): void {
    this.events.push(`${stream.id} reset ${codeName(code)}${isUnprocessed ? ' unprocessed' : ''}`)
    this.onReset(stream)
  }

  writable(stream: Stream): void {
    this.events.push(`${stream.id} writable`)
    this.onWritable(stream)
  }

  /** Writes a head; false: the stream is over. */
  head(stream: Stream, fields: Head, isEnd = false): boolean {
    const { session } = this
    const bound = fields.reduce((sum, [name, value]) => sum + name.length + value.length + 16, 0)
    let at = session.beginHead(stream, bound)
    if (at < 0) return false
    for (const [name, value] of fields) at = session.encoder.text(session.out, at, name, value, false)
    session.endHead(stream, at, isEnd)
    return true
  }

  /** Opens a stream with a request on it. */
  request(fields: Head = [], isEnd = true, method = 'GET', path = '/'): Stream {
    const stream = this.session.open(this, method)
    const pseudo: Head = [
      [':method', method],
      [':scheme', 'https'],
      [':authority', 'web'],
      [':path', path],
    ]
    this.head(stream, [...pseudo, ...fields], isEnd)
    return stream
  }

  respond(stream: Stream, status = 200, fields: Head = [], isEnd = true): void {
    this.head(stream, [[':status', String(status)], ...fields], isEnd)
  }

  write(stream: Stream, bytes: Buffer | string, isEnd = false): boolean {
    const buf = Buffer.from(bytes)
    return this.session.data(stream, buf, 0, buf.length, isEnd)
  }

  /** Fields as they come out of a decoder. */
  fields(head: Head): Field[] {
    const encoder = new HpackEncoder(0)
    const out = Buffer.alloc(65536)
    let at = encoder.begin(out, 0)
    for (const [name, value] of head) at = encoder.text(out, at, name, value, false)
    const fields = new Fields()
    new HpackDecoder({ maxFields: 100, maxListBytes: 65536, maxTableBytes: 4096 }).decode(out, 0, at, fields)
    return kept(fields)
  }

  body(id: number): string {
    return Buffer.concat(this.bodies.get(id) ?? []).toString('latin1')
  }

  /** The events since the last call. */
  told(): string[] {
    return this.events.splice(0)
  }
}

function lines(fields: Fields): string {
  let text = ''
  for (let i = 0; i < fields.count; i++) text += ` ${fields.name(i)}=${fields.value(i)}`
  return text
}

/** Hands bytes over in both directions until nobody has more to say. */
export function settle(a: Peer, b: Peer, now = 0): void {
  while (a.session.outEnd > 0 || b.session.outEnd > 0) {
    pass(a, b, now)
    pass(b, a, now)
  }
}

/** Hands over what one side has to say. */
export function pass(from: Peer, to: Peer, now = 0): void {
  const bytes = from.session.take()
  from.session.written(false)
  to.session.receive(bytes, 0, bytes.length, now)
}

/** A client and a server that have exchanged SETTINGS. */
export function pair(limits: Partial<SessionLimits> = {}): { client: Peer; server: Peer } {
  const client = new Peer('client', limits)
  const server = new Peer('server', limits)
  settle(client, server)
  client.told()
  server.told()
  return { client, server }
}

/** The server's side of the client's last request. */
export function taken(server: Peer, client: Peer): Stream {
  const stream = server.session.streams.get(client.session.lastId)
  assert.ok(stream !== null)
  return stream
}

/** Fields that may be kept, of borrowed ones. */
export function kept(fields: Fields): Field[] {
  return fields.items.slice(0, fields.count)
}
