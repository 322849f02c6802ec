// Certificates and requests that meshctl never makes, built from the same parts, to see that they are refused.
import type { KeyObject } from 'node:crypto'
import { sign } from 'node:crypto'
import * as asn1 from '../../src/pki/asn1.ts'
import type { Extension } from '../../src/pki/extension.ts'
import { oids, writeExtensions } from '../../src/pki/extension.ts'
import type { Issuer } from '../../src/pki/issue.ts'
import { publicBytes } from '../../src/pki/key.ts'
import { pem } from '../../src/pki/pem.ts'

const algorithm = (): asn1.Node => asn1.sequence(asn1.oid(oids.ecdsaWithSha256))
const named = (name: string): asn1.Node =>
  asn1.sequence(asn1.set(asn1.sequence(asn1.oid(oids.commonName), asn1.utf8(name))))

/** An alternative name from raw general names: [tag, bytes]. */
export function rawNames(...names: (readonly [number, string])[]): Extension {
  const general = names.map(([tag, text]) => asn1.tagged(tag, Buffer.from(text, 'latin1')))
  return { oid: oids.alternativeName, critical: false, value: asn1.encode(asn1.sequence(...general)) }
}

/** Any certificate at all, signed by any key. */
export function forgeCertificate(options: {
  issuer: Issuer
  publicKey: KeyObject
  extensions: readonly Extension[]
  now?: number
  seconds?: number
}): string {
  const now = options.now ?? Date.now()
  const body = asn1.sequence(
    asn1.tagged(0, [asn1.integer(2)]),
    asn1.integer(77),
    algorithm(),
    named(options.issuer.certificate.subject),
    asn1.sequence(asn1.time(now - 60_000), asn1.time(now + (options.seconds ?? 3600) * 1000)),
    named('forged'),
    asn1.decode(publicBytes(options.publicKey), 'key'),
    asn1.tagged(3, [writeExtensions(options.extensions)]),
  )
  const signature = sign('sha256', asn1.encode(body), options.issuer.key)
  return pem('CERTIFICATE', asn1.encode(asn1.sequence(body, algorithm(), asn1.bits(signature))))
}

/** Any request at all; `signer` may be another key than the one asked for. */
export function forgeRequest(options: {
  key: KeyObject
  signer?: KeyObject
  extensions: readonly Extension[]
  attribute?: string
}): string {
  const info = asn1.sequence(
    asn1.integer(0),
    asn1.sequence(),
    asn1.decode(publicBytes(options.key), 'key'),
    asn1.tagged(0, [
      asn1.sequence(
        asn1.oid(options.attribute ?? oids.extensionRequest),
        asn1.set(writeExtensions(options.extensions)),
      ),
    ]),
  )
  const signature = sign('sha256', asn1.encode(info), options.signer ?? options.key)
  return pem('CERTIFICATE REQUEST', asn1.encode(asn1.sequence(info, algorithm(), asn1.bits(signature))))
}
