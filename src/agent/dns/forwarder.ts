// Sends a query as it is to the resolvers that were there before us, and gives back their answer as it is.
import { randomInt } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { connect } from 'node:net'
import { type Clock, systemClock } from '../../clock.ts'
import { servfail } from './answer.ts'

export interface Upstream {
  readonly address: string
  readonly port: number
}

export interface ForwarderOptions {
  /** For one server; the next is asked after it. */
  readonly timeoutMs?: number
  readonly maxOutstanding?: number
  readonly clock?: Clock
}

export type Transport = 'udp' | 'tcp'

/** Answers are never made up here: a server's own, or SERVFAIL when none answers. */
export class Forwarder {
  #upstreams: readonly Upstream[] = []
  #outstanding = 0
  #closed = false
  readonly #timeoutMs: number
  readonly #max: number
  readonly #clock: Clock
  readonly #cancel = new Set<() => void>()

  constructor(options: ForwarderOptions = {}) {
    this.#timeoutMs = options.timeoutMs ?? 2000
    this.#max = options.maxOutstanding ?? 1024
    this.#clock = options.clock ?? systemClock
  }

  setUpstreams(upstreams: readonly Upstream[]): void {
    this.#upstreams = upstreams
  }

  async forward(query: Buffer, transport: Transport): Promise<Buffer> {
    const question = questionOf(query)
    if (question === null || this.#outstanding >= this.#max) return servfail(query)
    this.#outstanding++
    try {
      for (const upstream of this.#upstreams) {
        const reply = await (transport === 'udp'
          ? this.#udp(query, question, upstream)
          : this.#tcp(query, question, upstream))
        if (reply !== null) return reply
        if (this.#closed) break
      }
      return servfail(query)
    } finally {
      this.#outstanding--
    }
  }

  close(): void {
    this.#closed = true
    for (const cancel of this.#cancel) cancel()
  }

  /**
   * A socket, and so a random port, and a random id per query: an answer that did not come from the server we asked
   * cannot be guessed. A truncated answer goes back as it is; the caller then comes again over TCP.
   */
  #udp(query: Buffer, question: string, upstream: Upstream): Promise<Buffer | null> {
    return this.#once((settle) => {
      const socket = createSocket(upstream.address.includes(':') ? 'udp6' : 'udp4')
      const sent = withId(query, randomInt(0x10000))
      socket.on('error', () => settle(null))
      socket.on('message', (reply) => {
        if (matches(reply, sent, question)) settle(withId(reply, query.readUInt16BE(0)))
      })
      // A connected socket takes packets of this server only, and hears "connection refused" at once.
      socket.connect(upstream.port, upstream.address, (...failed: unknown[]) => {
        if (failed[0] !== undefined && failed[0] !== null) settle(null)
        else socket.send(sent, (error) => (error === null ? undefined : settle(null)))
      })
      return () => socket.close()
    })
  }

  #tcp(query: Buffer, question: string, upstream: Upstream): Promise<Buffer | null> {
    return this.#once((settle) => {
      const socket = connect(upstream.port, upstream.address)
      const sent = withId(query, randomInt(0x10000))
      let read = Buffer.alloc(0)
      socket.on('error', () => settle(null))
      socket.on('close', () => settle(null))
      socket.on('connect', () => socket.write(framed(sent)))
      socket.on('data', (bytes: Buffer) => {
        read = Buffer.concat([read, bytes])
        const end = read.length < 2 ? Infinity : 2 + read.readUInt16BE(0)
        if (read.length < end) return
        const reply = read.subarray(2, end)
        settle(matches(reply, sent, question) ? withId(reply, query.readUInt16BE(0)) : null)
      })
      return () => socket.destroy()
    })
  }

  /** Runs `start` until it settles, times out or the forwarder closes; then its stop, once. */
  #once(start: (settle: (reply: Buffer | null) => void) => () => void): Promise<Buffer | null> {
    return new Promise((resolve) => {
      let stop: (() => void) | null = null
      let settled = false
      const settle = (reply: Buffer | null): void => {
        if (settled) return
        settled = true
        timer.cancel()
        this.#cancel.delete(cancel)
        stop?.()
        resolve(reply)
      }
      const cancel = (): void => settle(null)
      const timer = this.#clock.after(this.#timeoutMs, cancel)
      this.#cancel.add(cancel)
      stop = start(settle)
    })
  }
}

/** Length-prefixed, RFC 1035 4.2.2. */
export function framed(packet: Buffer): Buffer {
  const length = Buffer.alloc(2)
  length.writeUInt16BE(packet.length)
  return Buffer.concat([length, packet])
}

function withId(packet: Buffer, id: number): Buffer {
  const copy = Buffer.from(packet)
  copy.writeUInt16BE(id, 0)
  return copy
}

function matches(reply: Buffer, sent: Buffer, question: string): boolean {
  if (reply.length < 12 || reply.readUInt16BE(0) !== sent.readUInt16BE(0)) return false
  if ((reply.readUInt8(2) & 0x80) === 0) return false
  // Some servers leave the question out of an error.
  return reply.readUInt16BE(4) === 0 ? (reply.readUInt8(3) & 0x0f) !== 0 : questionOf(reply) === question
}

/** Name, type and class of the first question as one text; null where there is none. */
function questionOf(packet: Buffer): string | null {
  if (packet.length < 12 || packet.readUInt16BE(4) < 1) return null
  let at = 12
  while (at < packet.length) {
    const length = packet.readUInt8(at)
    if (length === 0) {
      const end = at + 5
      return end > packet.length ? null : packet.toString('latin1', 12, end).toLowerCase()
    }
    if (length > 63) return null
    at += 1 + length
  }
  return null
}
