// Links from other hosts: mTLS 1.3, the peer's SPIFFE id proven, the server name says for which service port.
import { constants } from 'node:crypto'
import type net from 'node:net'
import tls from 'node:tls'
import { Connection } from '../../net/connection.ts'
import { Strangers } from '../../net/strangers.ts'
import { reason } from '../../errors.ts'
import { isHttp, isOpaque, linkHttp1, linkTcp } from '../../snapshot/types.ts'
import { causes, localReply } from '../chain/reply.ts'
import { Downstream } from '../codec/server1.ts'
import type { Core } from '../core.ts'
import { clientCertificateLine } from '../filter/header.ts'
import type { LiveInbound, Party, Scope } from '../live.ts'
import { Recent } from '../recent.ts'
import { identify } from '../secret.ts'
import type { Guests } from './guests.ts'
import { nobody } from './refuse.ts'
import { Tunnel } from './tunnel.ts'

const handshakeTimeout = 10_000
const lingerMs = 2000
/** Of one address at once: above what a host that lost all its links makes, below what would weigh on us. */
const maxHandshakes = 2048

export function linkServer(core: Core, guests: Guests): tls.Server {
  const server = tls.createServer({
    requestCert: true,
    // Not because strangers are served: `accept` refuses them itself, so that it can be logged and said why. Node would
    // only close without a word.
    rejectUnauthorized: false,
    minVersion: 'TLSv1.3',
    ecdhCurve: 'P-256',
    ALPNProtocols: [linkHttp1, linkTcp],
    secureOptions: constants.SSL_OP_NO_TICKET,
    handshakeTimeout,
    // Only what has proved itself may half-close: a peer that goes away in its handshake must not leave its socket here.
    allowHalfOpen: false,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: 5000,
    // The context decides both our certificate and the roots that the peer must chain to. Asked per connection, so that
    // new secrets hold from the next one on.
    SNICallback: (name, done) => {
      const service = core.live?.inboundByName.get(name.toLowerCase())
      const context = service === undefined ? null : core.secrets.context(service.spiffe)
      if (context === null)
        done(new Error(`no service for the server name ${JSON.stringify(name.slice(0, 100))}`))
      else done(null, context)
    },
  })
  server.on('tlsClientError', (error, socket) => {
    core.log.debug({ reason: error.message }, 'link refused in its handshake')
    // Node tells of a handshake that takes too long and leaves its socket open.
    socket.destroy()
  })
  const strangers = new Strangers(maxHandshakes)
  server.on('connection', (socket: net.Socket) => strangers.admit(socket))
  server.on('secureConnection', (socket) => {
    strangers.proven(socket)
    socket.allowHalfOpen = true
    accept(core, guests, socket)
  })
  return server
}

function accept(core: Core, guests: Guests, socket: tls.TLSSocket): void {
  const refuse = (why: string): void => {
    core.log.warn({ peer: socket.remoteAddress, reason: why }, 'link refused')
    if (socket.alpnProtocol === linkHttp1) socket.write(callerRefused(why))
    socket.end()
    // What it still sends is thrown away for a while: closing at once would reset the connection under the answer.
    socket.resume()
    const timer = core.clock.after(lingerMs, () => socket.destroy())
    socket.once('close', () => timer.cancel())
  }
  // A late error of a refused socket must not end the process.
  socket.on('error', () => {})
  const { live } = core
  const target =
    typeof socket.servername === 'string'
      ? live?.inboundByName.get(socket.servername.toLowerCase())
      : undefined
  if (live === null || target === undefined) {
    refuse('no such service')
    return
  }
  if (!socket.authorized) {
    refuse(`the certificate of the caller: ${String(socket.authorizationError)}`)
    return
  }
  // That alone is not believed: the certificate itself is looked at on every connection.
  const certificate = socket.getPeerCertificate(false)
  let peer
  try {
    peer = identify(certificate.raw)
  } catch (error) {
    refuse(reason(error))
    return
  }
  if (peer.trustDomain !== live.snapshot.trustDomain) {
    refuse(`${peer.id} is not of the trust domain ${live.snapshot.trustDomain}`)
    return
  }
  if (peer.kind !== 'service' && peer.kind !== 'host') {
    refuse(`${peer.id} is no workload`)
    return
  }
  const isHttpLink = socket.alpnProtocol === linkHttp1
  if (!isHttpLink && socket.alpnProtocol !== linkTcp) {
    refuse('no protocol was agreed on')
    return
  }
  // What was declared is not circumvented by calling it something else.
  if (isHttpLink ? isOpaque(target.protocol) : isHttp(target.protocol)) {
    refuse(`${target.destination.service} speaks ${target.protocol}`)
    return
  }
  const source: Party = {
    principal: peer.id,
    workload: peer.kind === 'service' ? peer.service : peer.host,
    namespace: peer.kind === 'service' ? peer.namespace : '',
  }
  // A connection that stays must not outlive what proved it: a revoked host gets no new certificate.
  const left = Date.parse(certificate.valid_to) - core.clock.now()
  const scope = scopeOf(target, source, core.clock.monotonic() + left)
  const connection = new Connection(socket, nobody, null)
  if (isHttpLink) new Downstream(core, connection, scope, guests)
  else new Tunnel(core, live, scope, target, guests, null).adopt(connection, null)
}

function callerRefused(why: string): Buffer {
  return localReply(causes.callerRefused, why, { status: 0, method: 'GET', close: true, requestId: '' })
}

function scopeOf(target: LiveInbound, source: Party, until: number): Scope {
  const { serverName } = target.service
  return {
    reporter: 'destination',
    source,
    dialAs: target.spiffe,
    isSecure: true,
    until,
    clientCertificate: clientCertificateLine(target.spiffe, source.principal),
    announced: null,
    refusal: null,
    recent: new Recent(),
    target: (live) => live.inboundByName.get(serverName) ?? null,
    destination: target.destination,
  }
}
