// What a supervisor and its successor say to each other while one takes over from the other: JSON lines on a socket pair
// that the older one made. The two may be of different releases: messages and fields are only ever added, and unknown
// ones ignored.
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { finished } from 'node:stream/promises'
import { Lines } from '../snapshot/lines.ts'
import { maxPushBytes } from '../snapshot/push.ts'
import type { Secrets, Snapshot } from '../snapshot/types.ts'
import type { Dump } from './stats.ts'

/** The successor's end of the channel. */
export const channelFd = 3

export type Message =
  /** First word of the older one: the config in force. */
  | { readonly type: 'config'; readonly snapshot: Snapshot | null; readonly secrets: Secrets | null }
  /** All workers of the younger one serve. */
  | { readonly type: 'ready' }
  /** It gives up; everything stays as it was. */
  | { readonly type: 'failed'; readonly reason: string }
  /** What the older one has counted; the first time it says: take over. Again and again until its end. */
  | { readonly type: 'counts'; readonly dump: Dump }
  /** The younger one answers agent, probes and Prometheus from now on. */
  | { readonly type: 'serving'; readonly pid: number; readonly version: string }
  /** The access log has been moved aside. */
  | { readonly type: 'reopen' }
  /** What the older one still drains must be over within `timeout` ms. */
  | { readonly type: 'hurry'; readonly timeout: number }

type Type = Message['type']
type Handler<T extends Type> = (message: Extract<Message, { type: T }>) => void

export class Channel {
  /** The other end is gone. */
  readonly ended: Promise<void>
  isEnded = false
  readonly #stream: Duplex
  readonly #handlers = new Map<Type, (message: never) => void>()

  constructor(stream: Duplex = new Socket({ fd: channelFd, readable: true, writable: true })) {
    this.#stream = stream
    const lines = new Lines(maxPushBytes)
    stream.on('data', (chunk: Buffer) => {
      for (const line of lines.feed(chunk) ?? []) {
        const message = JSON.parse(line) as Message
        this.#handlers.get(message.type)?.(message as never)
      }
    })
    // A broken pipe is an end like any other.
    stream.on('error', () => undefined)
    this.ended = new Promise((resolve) => {
      const end = (): void => {
        this.isEnded = true
        resolve()
      }
      stream.on('end', end)
      stream.on('close', end)
    })
  }

  on<T extends Type>(type: T, handler: Handler<T>): void {
    this.#handlers.set(type, handler)
  }

  /** The next message of that type; null: the other end has gone first. */
  next<T extends Type>(type: T): Promise<Extract<Message, { type: T }> | null> {
    return new Promise((resolve) => {
      this.on(type, resolve)
      void this.ended.then(() => resolve(null))
    })
  }

  send(message: Message): void {
    if (!this.isEnded) this.#stream.write(`${JSON.stringify(message)}\n`)
  }

  /** The last word; resolves when it has left. */
  finish(message: Message): Promise<void> {
    this.send(message)
    this.#stream.end()
    return finished(this.#stream, { readable: false, error: false })
  }

  close(): void {
    this.#stream.destroy()
  }
}
