// Who calls the signer: the SPIFFE id of the client certificate of this connection, and which role may do what.
import type { TLSSocket } from 'node:tls'
import type { Clock } from '../clock.ts'
import { MeshError } from '../errors.ts'
import { isWithinDates, readCertificate, type Certificate } from '../pki/cert.ts'
import { backdateMs } from '../pki/issue.ts'
import { peerSpiffe } from '../pki/spiffe.ts'
import type { HostIdentity, OperatorIdentity, Spiffe } from '../pki/spiffe.ts'
import { verifyChain } from '../pki/trust.ts'

/** How long after its end a host's leaf may still be renewed: a VM that was off over its holidays comes back by itself. */
export const lapseMs = 30 * 86_400_000

/**
 * The identity that the connection proves. TLS verified the chain at the handshake; the dates are looked at again for
 * each request, because connections outlive certificates. Throws MSH0403 or MSH0411.
 */
export function callerOf(socket: TLSSocket, trustDomain: string, clock: Clock): Spiffe {
  const { raw } = socket.getPeerX509Certificate() ?? {}
  if (raw === undefined) {
    throw new MeshError('MSH0403', 'a client certificate of the mesh is needed', {
      hint: 'this machine has none yet: `meshctl join` for a host, `meshctl init` for an operator',
    })
  }
  if (!socket.authorized) {
    // Node's type says Error; at run time it is OpenSSL's name of the reason.
    const why = String(socket.authorizationError)
    throw why.includes('CERT_HAS_EXPIRED')
      ? expired()
      : new MeshError('MSH0403', `the client certificate is refused: ${why}`)
  }
  const certificate = readCertificate(raw)
  if (certificate.isCa) throw new MeshError('MSH0403', 'the client certificate is a CA')
  if (!isWithinDates(certificate, clock.now())) throw expired()
  const identity = peerSpiffe({ raw })
  if (identity.trustDomain !== trustDomain) {
    throw new MeshError(
      'MSH0403',
      `the client certificate is of another trust domain, ${identity.trustDomain}`,
    )
  }
  return identity
}

/** A host whose leaf has ended, and when that leaf was issued. */
export interface LapsedHost {
  readonly host: HostIdentity
  readonly issuedAt: number
}

/**
 * The host that an expired leaf of ours names, for renewal and nothing else; null where it is no such leaf or ended
 * longer ago than `lapseMs`. TLS has proved that the caller holds its key, but says nothing of its chain once the dates
 * are wrong: that is verified here, as of the leaf's last moment.
 */
export function lapsedCaller(
  socket: TLSSocket,
  authority: {
    readonly trustDomain: string
    readonly issuer: Certificate
    readonly roots: readonly Certificate[]
  },
  clock: Clock,
): LapsedHost | null {
  const { raw } = socket.getPeerX509Certificate() ?? {}
  if (raw === undefined) return null
  const leaf = readCertificate(raw)
  if (clock.now() < leaf.notAfter || clock.now() > leaf.notAfter + lapseMs) return null
  verifyChain(leaf.pem + authority.issuer.pem, authority.roots, { now: leaf.notAfter, toleranceMs: 0 })
  const identity = peerSpiffe({ raw })
  if (identity.kind !== 'host' || identity.trustDomain !== authority.trustDomain) return null
  return { host: identity, issuedAt: leaf.notBefore + backdateMs }
}

export function asOperator(caller: Spiffe): OperatorIdentity {
  if (caller.kind !== 'operator') throw new MeshError('MSH0405', `${caller.id} is not an operator`)
  return caller
}

export function asHost(caller: Spiffe): HostIdentity {
  if (caller.kind !== 'host') throw new MeshError('MSH0405', `${caller.id} is not a host`)
  return caller
}

function expired(): MeshError {
  return new MeshError('MSH0411', 'the client certificate has expired', {
    hint: 'run `meshctl join` for this host again; it keeps its services',
  })
}
