// Our HPACK against Node's own (nghttp2), both ways, on loopback with the least of frames around it.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http2 from 'node:http2'
import net from 'node:net'
import { test } from 'node:test'
import type { AddressInfo, Socket } from 'node:net'
import { HpackDecoder } from '../../../src/wire/h2/decoder.ts'
import { HpackEncoder } from '../../../src/wire/h2/encoder.ts'
import { Fields } from '../../../src/wire/h2/fields.ts'
import { listOf } from './reference.ts'

type List = [string, string][]

const HEADERS = 1
const SETTINGS = 4
const END_STREAM = 1
const ACK = 1
const END_HEADERS = 4
const TABLE_SIZE = 1

function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head[3] = type
  head[4] = flags
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

function setting(id: number, value: number): Buffer {
  const payload = Buffer.alloc(6)
  payload.writeUInt16BE(id, 0)
  payload.writeUInt32BE(value, 2)
  return payload
}

interface Frame {
  type: number
  flags: number
  stream: number
  payload: Buffer
}

/** Takes frames from what arrives, behind `skip` bytes. */
function frames(socket: Socket, skip: number, take: (frame: Frame) => void): void {
  let rest = Buffer.alloc(0)
  socket.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk])
    if (skip > 0) {
      const cut = Math.min(skip, rest.length)
      rest = rest.subarray(cut)
      skip -= cut
    }
    while (rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
      const end = 9 + rest.readUIntBE(0, 3)
      const [type, flags] = [rest[3]!, rest[4]!]
      take({ type, flags, stream: rest.readUInt32BE(5), payload: Buffer.from(rest.subarray(9, end)) })
      rest = rest.subarray(end)
    }
  })
}

/** Heads that repeat in parts, with every byte that a value may have. */
function heads(count: number): List[] {
  const text = String.fromCharCode(
    9,
    ...Array.from({ length: 224 }, (_, i) => i + 32).filter((byte) => byte !== 127),
  )
  return Array.from({ length: count }, (_, i): List => {
    const at = (i * 37) % text.length
    return [
      [':method', i % 3 === 0 ? 'POST' : 'GET'],
      [':scheme', 'http'],
      [':authority', `host-${i % 5}.mesh`],
      [':path', `/p/${i % 7}`],
      ['user-agent', 'curl/8.1'],
      ['x-bytes', `<${text.slice(at)}${text.slice(0, at)}>`.slice(0, 20 + ((i * 13) % 230))],
      ['x-id', String(i * 7919)],
      ['x-long', `${i % 4}`.repeat(100 + (i % 4) * 400)],
      ['cookie', `a=${i}`],
      ['grpc-timeout', '1S'],
    ]
  })
}

for (const tableBytes of [4096, 0, 200, 16384]) {
  test(`nghttp2 reads what we write, table of ${tableBytes}`, async () => {
    const server = http2.createServer({ settings: { headerTableSize: tableBytes } })
    const got: List[] = []
    const sent = heads(120)
    const done = new Promise<void>((resolve, reject) => {
      server.on(
        'stream',
        (stream: http2.ServerHttp2Stream, _headers: unknown, _flags: unknown, raw: string[]) => {
          got.push(Array.from({ length: raw.length / 2 }, (_, i) => [raw[2 * i]!, raw[2 * i + 1]!]))
          stream.on('error', reject)
          stream.respond({ ':status': 200 }, { endStream: true })
          if (got.length === sent.length) resolve()
        },
      )
      server.on('session', (session) => session.on('error', reject))
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const socket = net.connect((server.address() as AddressInfo).port, '127.0.0.1')
    const encoder = new HpackEncoder(8192)
    const decoder = new HpackDecoder({ maxFields: 100, maxListBytes: 65536, maxTableBytes: 4096 })
    const answer = new Fields()
    const statuses: number[] = []
    const out = Buffer.alloc(16384)
    socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
    socket.write(frame(SETTINGS, 0, 0, Buffer.alloc(0)))
    const send = (first: number, last: number): void => {
      for (let i = first; i < last; i++) {
        let at = encoder.begin(out, 0)
        for (const [name, value] of sent[i]!) at = encoder.text(out, at, name, value, name === 'cookie')
        socket.write(frame(HEADERS, END_STREAM | END_HEADERS, 2 * i + 1, Buffer.from(out.subarray(0, at))))
      }
    }
    const over = new Promise<void>((resolve, reject) => {
      frames(socket, 0, ({ type, flags, payload }) => {
        if (type === SETTINGS && (flags & ACK) === 0) {
          for (let i = 0; i < payload.length; i += 6) {
            if (payload.readUInt16BE(i) === TABLE_SIZE) encoder.setPeerTableBytes(payload.readUInt32BE(i + 2))
          }
          socket.write(frame(SETTINGS, ACK, 0, Buffer.alloc(0)))
          send(60, 120)
        } else if (type === HEADERS) {
          const fault = decoder.decode(payload, 0, payload.length, answer)
          if (fault !== 0) reject(new Error(String(fault)))
          statuses.push(answer.status)
          if (statuses.length === sent.length) resolve()
        }
      })
      // Half of them before the server's SETTINGS are known.
      send(0, 60)
    })
    await Promise.all([done, over])
    socket.destroy()
    server.close()
    assert.deepEqual(got, sent)
    assert.deepEqual(new Set(statuses), new Set([200]))
  })

  test(`we read what nghttp2 writes, table of ${tableBytes}`, async () => {
    const decoder = new HpackDecoder({ maxFields: 100, maxListBytes: 65536, maxTableBytes: tableBytes })
    const fields = new Fields()
    const got: List[] = []
    const sent = heads(120)
    const server = net.createServer((socket) => {
      socket.on('error', () => socket.destroy())
      socket.write(frame(SETTINGS, 0, 0, setting(TABLE_SIZE, tableBytes)))
      frames(socket, 24, ({ type, flags, stream, payload }) => {
        if (type === SETTINGS && (flags & ACK) !== 0) decoder.acknowledged()
        else if (type === SETTINGS) socket.write(frame(SETTINGS, ACK, 0, Buffer.alloc(0)))
        if (type !== HEADERS) return
        // No padding and no priority is used by Node unless asked for.
        assert.equal(flags & ~(END_STREAM | END_HEADERS), 0)
        assert.equal(decoder.decode(payload, 0, payload.length, fields), 0)
        assert.equal(fields.fault, 0)
        got.push(listOf(fields))
        socket.write(frame(HEADERS, END_STREAM | END_HEADERS, stream, Buffer.from([0x88])))
      })
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const client = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
    for (const [i, list] of sent.entries()) {
      const request = client.request(Object.fromEntries(list), { endStream: true })
      await once(request, 'response')
      request.resume()
      assert.equal(got.length, i + 1)
    }
    client.destroy()
    server.close()
    assert.deepEqual(got, sent)
  })
}
