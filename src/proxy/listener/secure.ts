// Links from other hosts: mTLS 1.3, the peer's SPIFFE id proven, the server name says for which service port.
import { constants } from 'node:crypto'
import net from 'node:net'
import tls from 'node:tls'
import { nobody, peerOf } from '../../net/channel.ts'
import { Connection } from '../../net/connection.ts'
import { Strangers } from '../../net/strangers.ts'
import { reason } from '../../errors.ts'
import { isHttp, linkHttp2, linkTcp } from '../../snapshot/types.ts'
import { causes } from '../chain/reply.ts'
import { Server2 } from '../codec/server2.ts'
import type { Core } from '../core.ts'
import { clientCertificate } from '../filter/header.ts'
import type { Live, LiveInbound, Party, Scope } from '../live.ts'
import { Recent } from '../recent.ts'
import { groups, identify } from '../secret.ts'
import type { Guests } from './guests.ts'
import { openTunnel } from './hbone.ts'
import { Tunnel } from './tunnel.ts'

const handshakeTimeout = 10_000
/** Of one address at once, refused ones too: above what a host that lost all its links makes, below what would weigh on us. */
const maxHandshakes = 2048
/** For callers who have proved nothing to be told so. Milliseconds. */
const refusingTime = 1000

export function linkServer(core: Core, guests: Guests): tls.Server {
  const server = tls.createServer({
    requestCert: true,
    // Not because strangers are served: `accept` refuses them itself, so that it can be logged and said why. Node would
    // only close without a word.
    rejectUnauthorized: false,
    minVersion: 'TLSv1.3',
    ecdhCurve: groups,
    ALPNProtocols: [linkHttp2, linkTcp],
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
      if (net.isIP(name) !== 0) {
        done(null)
        return
      }
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
  // Before Node makes its TLS socket: that takes the context that the server has then.
  server.prependListener('connection', nameless(core, server))
  server.on('secureConnection', (socket) => {
    socket.allowHalfOpen = true
    if (accept(core, guests, socket)) strangers.proven(socket)
  })
  return server
}

/**
 * Ztunnels name no server, and then nobody is asked: they are shown the server's own certificate, which is that of the
 * only service of this host, or of the host itself. Keeps it that of the secrets that hold now.
 */
function nameless(core: Core, server: tls.Server): () => void {
  let shown: tls.SecureContext | null = null
  return () => {
    const { live, secrets } = core
    if (live === null) return
    const owners = new Set([...live.inboundByName.values()].map(({ spiffe }) => spiffe))
    const [only] = owners
    const spiffe = only !== undefined && owners.size === 1 ? only : live.identities[0]!.principal
    const context = secrets.context(spiffe)
    const credentials = secrets.credentials(spiffe)
    if (context === shown || credentials === null) return
    shown = context
    server.setSecureContext(credentials)
  }
}

/** False: the caller has proved nothing. */
function accept(core: Core, guests: Guests, socket: tls.TLSSocket): boolean {
  // A late error of a refused socket must not end the process.
  socket.on('error', () => {})
  const { live } = core
  const isHttp2 = socket.alpnProtocol === linkHttp2
  const serverName = serverNameOf(socket)
  const target = serverName === null ? null : live?.inboundByName.get(serverName)
  const certificate = socket.getPeerCertificate(false)
  const caller =
    target === undefined || live === null ? 'no such service' : callerOf(socket, certificate, live)
  const connection = new Connection(socket, nobody, null)
  const client = peerOf(socket)
  if (typeof caller === 'string' || target === undefined || live === null) {
    const why = typeof caller === 'string' ? caller : 'no such service'
    core.log.warn({ peer: client, reason: why }, 'link refused')
    const until = core.clock.monotonic() + refusingTime
    if (isHttp2) new Server2(core, connection, refusing(why, until, client), guests)
    else connection.destroy()
    return false
  }
  // A connection that stays must not outlive what proved it: a revoked host gets no new certificate.
  const left = Date.parse(certificate.valid_to) - core.clock.now()
  const until = core.clock.monotonic() + left
  const ofTarget = (asked: LiveInbound): Scope => scopeOf(asked, caller, until, client)
  const scope = target === null ? hostScope(live, caller, until, client) : ofTarget(target)
  if (isHttp2) {
    const link = {
      core,
      guests,
      socket,
      serverName,
      scope,
      scopeOf: (asked: LiveInbound) => (asked === target ? scope : ofTarget(asked)),
    }
    new Server2(core, connection, scope, guests, (stream, fields) => openTunnel(link, stream, fields))
  } else if (target === null) connection.destroy()
  else if (socket.alpnProtocol !== linkTcp || isHttp(target.protocol)) {
    // What was declared is not circumvented by calling it something else.
    core.log.warn({ peer: caller.principal, protocol: target.protocol }, 'link refused: no such protocol')
    connection.destroy()
  } else new Tunnel(core, live, scope, target, guests, null).adopt(connection, null)
  return true
}

/** Of the service port that is meant; null: the peer named none. */
function serverNameOf({ servername }: tls.TLSSocket): string | null {
  if (typeof servername !== 'string' || servername === '' || net.isIP(servername) !== 0) return null
  return servername.toLowerCase()
}

/** Who calls, as the certificate proves it; a string: why it proves nothing. */
function callerOf(socket: tls.TLSSocket, certificate: tls.PeerCertificate, live: Live): Party | string {
  if (!socket.authorized) return `the certificate of the caller: ${String(socket.authorizationError)}`
  // That alone is not believed: the certificate itself is looked at on every connection.
  let peer
  try {
    peer = identify(certificate.raw)
  } catch (error) {
    return reason(error)
  }
  if (peer.trustDomain !== live.snapshot.trustDomain) {
    return `${peer.id} is not of the trust domain ${live.snapshot.trustDomain}`
  }
  if (peer.kind !== 'service' && peer.kind !== 'host') return `${peer.id} is no workload`
  return {
    principal: peer.id,
    workload: peer.kind === 'service' ? peer.service : peer.host,
    namespace: peer.kind === 'service' ? peer.namespace : '',
  }
}

/** A caller who has proved nothing: his first request is answered with the reason, and he is gone soon whatever he does. */
function refusing(why: string, until: number, client: string): Scope {
  return {
    reporter: 'destination',
    source: { principal: '', workload: '', namespace: '' },
    client,
    dialAs: '',
    isSecure: true,
    until,
    adds: null,
    announced: null,
    refusal: { cause: causes.callerRefused, detail: why },
    recent: new Recent(),
    target: () => null,
    destination: { service: '', name: '', namespace: '' },
  }
}

/** Of a caller who has named no service: nothing but tunnels is for him. */
function hostScope(live: Live, source: Party, until: number, client: string): Scope {
  return {
    ...refusing('', until, client),
    source,
    refusal: null,
    destination: { service: '', name: live.snapshot.host, namespace: '' },
  }
}

function scopeOf(target: LiveInbound, source: Party, until: number, client: string): Scope {
  const { serverName } = target.service
  return {
    reporter: 'destination',
    source,
    client,
    dialAs: target.spiffe,
    isSecure: true,
    until,
    adds: ['x-forwarded-client-cert', clientCertificate(target.spiffe, source.principal)],
    announced: null,
    refusal: null,
    recent: new Recent(),
    target: (live) => live.inboundByName.get(serverName) ?? null,
    destination: target.destination,
  }
}
