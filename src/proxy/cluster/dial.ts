// Makes one connection to an endpoint: plain, or mTLS with the caller's certificate and the peer's identity proven before
// a byte of ours leaves.
import net from 'node:net'
import tls from 'node:tls'
import { Connection, Reading } from '../../net/connection.ts'
import type { Owner } from '../../net/channel.ts'
import { Deadline } from '../../net/wheel.ts'
import type { Expiring } from '../../net/wheel.ts'
import { causes } from '../chain/reply.ts'
import type { Cause } from '../chain/reply.ts'
import { checkPeer } from '../secret.ts'
import type { EndpointState } from './endpoint.ts'

export interface Dialer {
  /** The connection is the dialer's now; its owner must be set before return. */
  dialed(connection: Connection, epoch: number): void
  dialFailed(cause: Cause, detail: string): void
}

class IdentityError extends Error {}

/** Idle probes on links, so that a host that vanished is noticed while a response is awaited. Milliseconds. */
const keepAliveDelay = 5000

export class Dial implements Owner, Expiring {
  readonly endpoint: EndpointState
  isDone: boolean
  #dialer: Dialer | null
  #connection: Connection | null
  #deadline: Deadline
  #epoch: number

  /** Starts at once. `alpn` is what travels on a link; plain endpoints have none. */
  constructor(endpoint: EndpointState, identity: string, alpn: string, dialer: Dialer) {
    this.endpoint = endpoint
    this.#dialer = dialer
    this.#connection = null
    this.#deadline = new Deadline(this, 0)
    this.isDone = false
    const { core, config, cluster } = endpoint
    const reading = new Reading()
    const shared = {
      host: config.address,
      port: config.via === 'link' ? config.linkPort : config.port,
      onread: { buffer: reading.buffer, callback: reading.callback },
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: keepAliveDelay,
      // Node's own race of address families starts timers; addresses here are numeric.
      autoSelectFamily: false,
    }
    this.#epoch = core.secrets.epochOf(identity)
    if (config.via === 'plain') {
      const socket = net.connect(shared)
      socket.once('connect', () => this.#ready())
      this.#connection = new Connection(socket, this, reading)
    } else {
      const secureContext = core.secrets.context(identity)
      if (secureContext === null) {
        queueMicrotask(() => this.#fail(causes.noCertificate, identity))
        return
      }
      const socket = tls.connect({
        ...shared,
        secureContext,
        servername: cluster.config.serverName,
        ALPNProtocols: [alpn],
        minVersion: 'TLSv1.3',
        rejectUnauthorized: true,
        checkServerIdentity: (_host, certificate) => {
          const wrong = checkPeer(certificate.raw, cluster.config.spiffe)
          return wrong === null ? undefined : new IdentityError(wrong)
        },
      })
      socket.once('secureConnect', () => {
        if (socket.alpnProtocol === alpn) this.#ready()
        else this.#fail(causes.connectFailure, 'the peer is not a link of this mesh')
      })
      this.#connection = new Connection(socket, this, reading)
    }
    core.wheel.arm(this.#deadline, cluster.config.connectTimeout)
  }

  /** Nobody wants it any more; the dialer hears nothing. */
  cancel(): void {
    if (this.isDone) return
    this.#dialer = null
    this.#finish()
    this.#connection?.destroy()
  }

  expire(): void {
    const { cluster } = this.endpoint
    this.#fail(causes.connectTimeout, `after ${cluster.config.connectTimeout} ms`)
  }

  bytes(): void {
    // A plain peer that speaks before `connect` is impossible; TLS hands out bytes only after the handshake.
    this.#fail(causes.protocol, 'bytes before the connection was ready')
  }

  ended(): void {
    this.#fail(causes.connectFailure, 'the peer ended the connection')
  }

  drained(): void {}

  closed(error: Error | null): void {
    if (error instanceof IdentityError || isTrustError(error)) {
      this.#fail(causes.identityMismatch, error?.message ?? '')
    } else {
      this.#fail(causes.connectFailure, describe(error))
    }
  }

  #ready(): void {
    if (this.isDone || this.#connection === null) return
    this.#finish()
    this.endpoint.connected()
    this.#dialer?.dialed(this.#connection, this.#epoch)
  }

  #fail(cause: Cause, detail: string): void {
    if (this.isDone) return
    this.#finish()
    this.#connection?.destroy()
    this.#dialer?.dialFailed(cause, detail)
  }

  #finish(): void {
    this.isDone = true
    this.endpoint.core.wheel.cancel(this.#deadline)
  }
}

function codeOf(error: Error | null): string {
  return error !== null && 'code' in error && typeof error.code === 'string' ? error.code : ''
}

/** The peer's chain does not lead to our roots, or is out of date: OpenSSL's words, as Node passes them on. */
function isTrustError(error: Error | null): boolean {
  return /^(CERT_|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|INVALID_CA|INVALID_PURPOSE|HOSTNAME|ERR_TLS_CERT)/.test(
    codeOf(error),
  )
}

/** Whether the peer refused our certificate or our greeting. In TLS 1.3 its alert arrives only after our first bytes. */
export function isHandshakeAlert(error: Error | null): boolean {
  return /^ERR_SSL_.*ALERT|^ERR_SSL_TLSV1|^ERR_SSL_SSL\/TLS/.test(codeOf(error))
}

export function describe(error: Error | null): string {
  if (error === null) return 'closed by the peer'
  const code = codeOf(error)
  return code === '' ? error.message : code
}
