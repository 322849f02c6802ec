// The alternative names of a certificate, found by walking its DER only as far as needed: the proxy does this once for
// every link connection.
import { MeshError } from '../errors.ts'
import * as asn1 from './asn1.ts'
import type { AlternativeNames, Extension } from './extension.ts'
import { oids, readAlternativeNames, readExtensions } from './extension.ts'

/** Far above any certificate of ours (about 700 bytes). */
export const maxCertificateBytes = 16384

const none: AlternativeNames = { uris: [], dns: [], ips: [], others: 0 }

/** The fields of TBSCertificate (RFC 5280 4.1) as nodes. */
export function toBeSigned(der: Buffer): { certificate: asn1.Node[]; fields: asn1.Node[] } {
  if (der.length > maxCertificateBytes) throw new MeshError('MSH0402', 'certificate too large')
  const certificate = asn1.sequenceOf(asn1.decode(der, 'certificate'), 'certificate')
  return { certificate, fields: asn1.sequenceOf(certificate[0], 'certificate') }
}

/** The extensions of a certificate; empty where there are none. */
export function extensionsOf(fields: readonly asn1.Node[]): Extension[] {
  const tagged = fields.find((field) => asn1.tagOf(field) === 3)
  return tagged === undefined ? [] : readExtensions(asn1.children(tagged, 'extensions')[0])
}

export function readNames(der: Buffer): AlternativeNames {
  const extension = extensionsOf(toBeSigned(der).fields).find(({ oid }) => oid === oids.alternativeName)
  return extension === undefined ? none : readAlternativeNames(extension.value)
}
