// PROXY headers at this host's services: read from balancers outside the mesh where the port is declared so, and written to
// applications that want to know who calls. Which, is never guessed.
import { plainAddress } from '../../net/addr.ts'
import { peerOf } from '../../net/channel.ts'
import type { Accepted, Ends, Owner } from '../../net/channel.ts'
import { Deadline } from '../../net/wheel.ts'
import type { Expiring } from '../../net/wheel.ts'
import { proxyHeader, readProxyHeader, tlvTypes } from '../../wire/proxyprotocol.ts'
import type { ProxyHeader, Tlv } from '../../wire/proxyprotocol.ts'
import { causes } from '../chain/reply.ts'
import type { Core } from '../core.ts'
import type { Live, Scope } from '../live.ts'
import type { Guest, Guests } from './guests.ts'
import { refuseOpaque } from './refuse.ts'

/** Above any header that is read; see wire/proxyprotocol.ts. */
const firstLimit = 16_384

/** Owns an accepted connection until its header is read, then hands it on with what was behind the header. */
export class Announced implements Owner, Expiring, Guest {
  readonly #core: Core
  readonly #live: Live
  readonly #connection: Accepted
  readonly #scope: Scope
  readonly #guests: Guests
  /** Gives the connection its next owner. */
  readonly #serve: (scope: Scope) => void
  #first: Buffer | null
  #deadline: Deadline

  constructor(
    core: Core,
    live: Live,
    connection: Accepted,
    scope: Scope,
    guests: Guests,
    serve: (scope: Scope) => void,
  ) {
    this.#core = core
    this.#live = live
    this.#connection = connection
    this.#scope = scope
    this.#guests = guests
    this.#serve = serve
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
    const header = readProxyHeader(first, 0, first.length)
    if (header === 'more' && first.length < firstLimit) return
    if (typeof header === 'string') {
      this.#refuse('no PROXY header')
      return
    }
    this.#finish()
    const { source } = header
    const client =
      source === null
        ? this.#scope.client
        : peerOf({ remoteAddress: source.address, remotePort: source.port })
    this.#serve({ ...this.#scope, announced: header, adds: forwardedFor(header), client })
    if (header.length < first.length) this.#connection.owner.bytes(first, header.length, first.length)
  }

  ended(): void {
    this.#refuse('no PROXY header')
  }

  drained(): void {}

  closed(): void {
    this.#finish()
  }

  expire(): void {
    this.#refuse('no PROXY header in time')
  }

  drain(): boolean {
    return true
  }

  destroy(): void {
    this.#connection.destroy()
  }

  #refuse(detail: string): void {
    this.#finish()
    const refusal = { cause: causes.badRequest, detail }
    refuseOpaque(this.#core, this.#live, this.#connection, { ...this.#scope, refusal })
  }

  #finish(): void {
    this.#core.wheel.cancel(this.#deadline)
    this.#guests.delete(this)
  }
}

/** Appended to every HTTP request of the connection, behind what the client claims itself. */
function forwardedFor({ source }: ProxyHeader): readonly string[] | null {
  return source === null ? null : ['x-forwarded-for', plainAddress(source.address)]
}

/**
 * What an application is told of a connection: version 2, with the caller's SPIFFE id where a link has proven it. What a
 * balancer said is passed on, but for what it claims of an identity.
 */
export function announcement(scope: Scope, socket: Ends, port: number): Buffer {
  const { announced, source } = scope
  const { remoteAddress, remotePort, localAddress } = socket
  const isTold = announced !== null && announced.source !== null
  const from = isTold ? announced.source : endpoint(remoteAddress, remotePort)
  const to = isTold ? announced.destination : endpoint(localAddress, port)
  const tlvs: Tlv[] =
    announced === null ? [] : announced.tlvs.filter(({ type }) => type !== tlvTypes.principal)
  if (source.principal !== '') {
    tlvs.unshift({ type: tlvTypes.principal, value: Buffer.from(source.principal, 'latin1') })
  }
  return proxyHeader(from, to, tlvs)
}

function endpoint(address: string | undefined, port: number | undefined): ProxyHeader['source'] {
  return address === undefined || port === undefined ? null : { address: plainAddress(address), port }
}
