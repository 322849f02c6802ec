// Who calls the signer: the SPIFFE id of the client certificate of this connection, and which role may do what.
import type { TLSSocket } from 'node:tls'
import type { Clock } from '../clock.ts'
import { MeshError } from '../errors.ts'
import { isWithinDates, readCertificate } from '../pki/cert.ts'
import { peerSpiffe } from '../pki/spiffe.ts'
import type { HostIdentity, OperatorIdentity, Spiffe } from '../pki/spiffe.ts'

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

export function asOperator(caller: Spiffe): OperatorIdentity {
  if (caller.kind !== 'operator') throw new MeshError('MSH0405', `${caller.id} is not an operator`)
  return caller
}

export function asHost(caller: Spiffe): HostIdentity {
  if (caller.kind !== 'host') throw new MeshError('MSH0405', `${caller.id} is not a host`)
  return caller
}

function expired(): MeshError {
  return new MeshError('MSH0411', 'the client certificate has expired, so it cannot renew itself', {
    hint: 'run `meshctl join` for this host again; it keeps its services',
  })
}
