// A TLS connection that is passed through by its server name: nothing is dialled before the client's hello is read, and
// not a byte of it is changed.
import type { Accepted, Owner } from '../../net/channel.ts'
import { Deadline } from '../../net/wheel.ts'
import type { Expiring } from '../../net/wheel.ts'
import { readClientHello } from '../../wire/clienthello.ts'
import { causes } from '../chain/reply.ts'
import type { Core } from '../core.ts'
import type { Live, Scope, Target } from '../live.ts'
import type { Guest, Guests } from './guests.ts'
import { refuseOpaque } from './refuse.ts'
import { Tunnel } from './tunnel.ts'

/** Bytes in which a hello must be complete: its message and the heads of its records. */
const helloLimit = 16_384 + 1024

export class Hello implements Owner, Expiring, Guest {
  readonly #core: Core
  readonly #live: Live
  readonly #connection: Accepted
  readonly #scope: Scope
  readonly #target: Target
  readonly #guests: Guests
  #first: Buffer | null
  #deadline: Deadline

  /** Owns the connection until it knows where it goes. `target.tls` is there. */
  constructor(core: Core, live: Live, connection: Accepted, scope: Scope, target: Target, guests: Guests) {
    this.#core = core
    this.#live = live
    this.#connection = connection
    this.#scope = scope
    this.#target = target
    this.#guests = guests
    this.#first = null
    this.#deadline = new Deadline(this, 0)
    connection.owner = this
    guests.add(this)
    core.wheel.arm(this.#deadline, live.settings.headTimeout)
  }

  bytes(buffer: Buffer, start: number, end: number): void {
    const more = buffer.subarray(start, end)
    const first = this.#first === null ? Buffer.from(more) : Buffer.concat([this.#first, more])
    this.#first = first
    const hello = readClientHello(first, 0, first.length)
    if (hello === 'more' && first.length < helloLimit) return
    if (typeof hello === 'string') this.#go('', 'no TLS')
    else this.#go(hello.serverName, hello.serverName === '' ? 'no server name' : hello.serverName)
  }

  ended(): void {
    this.#go('', 'no TLS')
  }

  drained(): void {}

  closed(): void {
    this.#finish()
  }

  expire(): void {
    this.#go('', 'no hello in time')
  }

  drain(): boolean {
    return true
  }

  destroy(): void {
    this.#connection.destroy()
  }

  /** `*` also takes what names no server, as Istio has it; on a sniffed port there is the opaque way besides. */
  #go(name: string, detail: string): void {
    this.#finish()
    const split = this.#target.tls?.pick(name) ?? this.#target.tcp
    if (split === null) {
      const refusal = { cause: causes.noRoute, detail }
      refuseOpaque(this.#core, this.#live, this.#connection, { ...this.#scope, refusal })
      return
    }
    const tunnel = new Tunnel(this.#core, this.#live, this.#scope, this.#target, this.#guests, null, split)
    tunnel.adopt(this.#connection, this.#first)
  }

  #finish(): void {
    this.#core.wheel.cancel(this.#deadline)
    this.#guests.delete(this)
  }
}
