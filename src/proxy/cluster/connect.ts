// One opaque connection to an endpoint as a CONNECT on a link that it shares with others.
import { printAddress } from '../../net/addr.ts'
import type { Channel } from '../../net/channel.ts'
import { Deadline } from '../../net/wheel.ts'
import type { Expiring } from '../../net/wheel.ts'
import type { Fields } from '../../wire/h2/fields.ts'
import { Code, codeName } from '../../wire/h2/frame.ts'
import type { Stream, StreamOwner } from '../../wire/h2/stream.ts'
import { causes } from '../chain/reply.ts'
import type { Cause } from '../chain/reply.ts'
import { writeConnect } from '../codec/connect2.ts'
import { StreamChannel } from '../codec/streamchannel.ts'
import type { Link } from './link.ts'
import type { Links } from './links.ts'

/** A link that dies before it has answered is replaced so often. */
const maxLinksTried = 3

export interface Reacher {
  /** The application has accepted. The channel is the reacher's now; its owner must be set before return. */
  dialed(channel: Channel): void
  /** The endpoint knows of it already. */
  dialFailed(cause: Cause, detail: string): void
}

export class Connect implements StreamOwner, Expiring {
  readonly #links: Links
  #reacher: Reacher | null
  #link: Link | null
  #stream: Stream | null
  #linksTried: number
  #deadline: Deadline

  /** Starts at once. */
  constructor(links: Links, reacher: Reacher) {
    const { core, cluster } = links.endpoint
    this.#links = links
    this.#reacher = reacher
    this.#link = null
    this.#stream = null
    this.#linksTried = 0
    this.#deadline = new Deadline(this, 0)
    core.wheel.arm(this.#deadline, cluster.config.connectTimeout)
    links.connect(this)
  }

  /** Nobody wants it any more; the reacher hears nothing. */
  cancel(): void {
    if (this.#reacher === null) return
    this.#finish()
    this.#leave()
  }

  // --- from the links

  /** Here is room. */
  linked(link: Link): void {
    const { session } = link
    const { address, port } = this.#links.endpoint.config
    this.#linksTried++
    this.#link = link
    this.#stream = session.open(this, 'CONNECT')
    writeConnect(session, this.#stream, printAddress(address, port))
  }

  failed(cause: Cause, detail: string): void {
    this.#finish()?.dialFailed(cause, detail)
  }

  // --- from the wheel

  expire(): void {
    this.#leave()
    this.failed(causes.connectTimeout, `after ${this.#links.endpoint.cluster.config.connectTimeout} ms`)
  }

  // --- from the stream

  headers(stream: Stream, fields: Fields): void {
    const { status } = fields
    if (status < 200) return
    if (status === 200) {
      this.#finish()?.dialed(new StreamChannel(stream, this.#link))
      return
    }
    const detail = `the proxy of the instance says ${status} ${fields.get('x-meshctl-reason') ?? ''}`
    this.#leave()
    const isUnreached = status === causes.connectFailure.status
    if (isUnreached) this.#links.endpoint.connectFailed(this.#links.identity)
    this.failed(isUnreached ? causes.connectFailure : causes.callerRefused, detail)
  }

  // Nothing comes before the head, and nobody wants what comes behind a refusal.
  data(): void {}

  trailers(): void {}

  /** Nothing was said on it yet, so it may be asked for again. */
  reset(_stream: Stream, code: number, isUnprocessed: boolean): void {
    const link = this.#link
    this.#stream = null
    this.#link = null
    link?.streamOver()
    if ((isUnprocessed || code === Code.gone) && this.#linksTried < maxLinksTried) {
      this.#links.connect(this)
      return
    }
    if (code !== Code.gone || link === null) this.failed(causes.reset, codeName(code))
    else {
      this.#links.endpoint.connectFailed(this.#links.identity)
      this.failed(link.cause, link.failure)
    }
  }

  writable(): void {}

  // --- inside

  /** Gives up the stream, or its place among those who wait for one. */
  #leave(): void {
    const stream = this.#stream
    this.#stream = null
    if (stream === null) {
      this.#links.forgetConnect(this)
      return
    }
    stream.session.reset(stream, Code.cancel)
    this.#link?.streamOver()
  }

  #finish(): Reacher | null {
    const reacher = this.#reacher
    this.#reacher = null
    this.#links.endpoint.core.wheel.cancel(this.#deadline)
    return reacher
  }
}
