// A connection whose protocol nobody has declared. Its first bytes decide, without delaying a protocol in which the
// server speaks first: the opaque upstream is dialled at once, and whichever side speaks first settles it. What was
// learned about a service port spares later connections the needless dial.
import type { Accepted, Owner } from '../../net/channel.ts'
import { Deadline } from '../../net/wheel.ts'
import type { Expiring } from '../../net/wheel.ts'
import { sniff } from '../../wire/sniff.ts'
import { Server1 } from '../codec/server1.ts'
import type { Core } from '../core.ts'
import type { Live, Scope, Target } from '../live.ts'
import type { Guest, Guests } from './guests.ts'
import { Hello } from './hello.ts'
import { refuseOpaque } from './refuse.ts'
import { Tunnel } from './tunnel.ts'
import type { Listener } from './tunnel.ts'

/** On a port where the client was seen to speak first, a silent client gets the opaque dial after this. Milliseconds. */
const silence = 100
/** Undecided bytes after this are opaque; a refused connection that says nothing is closed. */
const patience = 1000
const firstLimit = 16_384

export class Sniffing implements Owner, Expiring, Guest, Listener {
  readonly #core: Core
  readonly #live: Live
  readonly #connection: Accepted
  readonly #scope: Scope
  readonly #target: Target | null
  readonly #guests: Guests
  #first: Buffer | null
  #tunnel: Tunnel | null
  #deadline: Deadline
  #isDone: boolean

  /** `target` null: no service; the scope's refusal is the answer. */
  constructor(
    core: Core,
    live: Live,
    connection: Accepted,
    scope: Scope,
    target: Target | null,
    guests: Guests,
  ) {
    this.#core = core
    this.#live = live
    this.#connection = connection
    this.#scope = scope
    this.#target = target
    this.#guests = guests
    this.#first = null
    this.#tunnel = null
    this.#deadline = new Deadline(this, 0)
    this.#isDone = false
    connection.owner = this
    guests.add(this)
    const learned = target === null ? undefined : core.learned.get(target.key)
    if (scope.refusal !== null || target === null) core.wheel.arm(this.#deadline, patience)
    else if (learned === 'client') core.wheel.arm(this.#deadline, silence)
    else this.#dial()
    if (learned === 'server' && scope.refusal === null && target !== null) this.#opaque()
  }

  bytes(buffer: Buffer, start: number, end: number): void {
    const more = buffer.subarray(start, end)
    const first = this.#first === null ? Buffer.from(more) : Buffer.concat([this.#first, more])
    this.#first = first
    const found = sniff(first, 0, first.length)
    if (found === 'more' && first.length < firstLimit) {
      this.#core.wheel.arm(this.#deadline, patience)
      return
    }
    this.#learn('client')
    if (found === 'http1' || found === 'http2') this.#http(first)
    else if (found === 'tls' && this.#scope.refusal === null && this.#target?.tls)
      this.#hello(first, this.#target)
    else this.#opaque()
  }

  ended(): void {
    // Nothing was said, or half a word: the end is passed on as it came.
    if (!this.#isDone) this.#opaque()
  }

  drained(): void {}

  closed(): void {
    this.#finish()
    this.#tunnel?.discard()
  }

  expire(): void {
    if (this.#scope.refusal !== null || this.#first !== null) this.#opaque()
    else this.#dial()
  }

  serverSpoke(): void {
    if (this.#isDone) return
    this.#learn('server')
    this.#opaque()
  }

  /** Of who speaks first it says nothing: applications close connections on which nothing comes. */
  serverEnded(): void {
    if (!this.#isDone) this.#opaque()
  }

  tunnelFailed(): void {
    // An HTTP client still gets an answer in words; a silent one is let go after a while.
    if (!this.#isDone) this.#core.wheel.arm(this.#deadline, patience)
  }

  drain(): boolean {
    return true
  }

  destroy(): void {
    this.#connection.destroy()
  }

  #dial(): void {
    if (this.#isDone || this.#target === null) return
    // A second silence after a failed dial: give up through the tunnel's own refusal.
    if (this.#tunnel !== null) this.#opaque()
    else this.#tunnel = new Tunnel(this.#core, this.#live, this.#scope, this.#target, this.#guests, this)
  }

  #learn(who: 'client' | 'server'): void {
    if (this.#target !== null) this.#core.learned.set(this.#target.key, who)
  }

  #http(first: Buffer): void {
    this.#finish()
    this.#tunnel?.discard()
    const downstream = new Server1(this.#core, this.#connection, this.#scope, this.#guests)
    downstream.bytes(first, 0, first.length)
  }

  #hello(first: Buffer, target: Target): void {
    this.#finish()
    this.#tunnel?.discard()
    const hello = new Hello(this.#core, this.#live, this.#connection, this.#scope, target, this.#guests)
    hello.bytes(first, 0, first.length)
  }

  #opaque(): void {
    this.#finish()
    if (this.#scope.refusal !== null || this.#target === null) {
      refuseOpaque(this.#core, this.#live, this.#connection, this.#scope)
      return
    }
    this.#tunnel ??= new Tunnel(this.#core, this.#live, this.#scope, this.#target, this.#guests, null)
    this.#tunnel.adopt(this.#connection, this.#first)
  }

  #finish(): void {
    this.#isDone = true
    this.#core.wheel.cancel(this.#deadline)
    this.#guests.delete(this)
  }
}
