// Certificate requests (PKCS#10, RFC 2986) with exactly one URI name, the SPIFFE id asked for.
import { createPublicKey, sign, verify } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { MeshError } from '../errors.ts'
import * as asn1 from './asn1.ts'
import { alternativeName, oids, readAlternativeNames, readExtensions, writeExtensions } from './extension.ts'
import { isP256, publicBytes } from './key.ts'
import { pem, unpem } from './pem.ts'
import { parseSpiffe } from './spiffe.ts'
import type { Spiffe } from './spiffe.ts'

/** Ours have about 350 bytes. */
const maxRequestBytes = 8192

export interface CertificateRequest {
  readonly publicKey: KeyObject
  readonly spiffe: Spiffe
}

/** A PEM request for `spiffe` (checked first), signed by the key whose certificate is wanted. */
export function makeRequest(key: KeyObject, spiffe: string): string {
  const { id } = parseSpiffe(spiffe)
  const wanted = writeExtensions([alternativeName({ uri: id })])
  const info = asn1.sequence(
    asn1.integer(0),
    asn1.sequence(),
    asn1.decode(publicBytes(key), 'public key'),
    asn1.tagged(0, [asn1.sequence(asn1.oid(oids.extensionRequest), asn1.set(wanted))]),
  )
  const signature = sign('sha256', asn1.encode(info), key)
  const algorithm = asn1.sequence(asn1.oid(oids.ecdsaWithSha256))
  return pem('CERTIFICATE REQUEST', asn1.encode(asn1.sequence(info, algorithm, asn1.bits(signature))))
}

/**
 * Reads a request from hostile bytes. Throws MSH0402 where it is malformed and MSH0404 unless it proves a P-256 key,
 * asks for one SPIFFE id and for nothing else. The subject is ignored: control writes its own.
 */
export function readRequest(text: string): CertificateRequest {
  const what = 'certificate request'
  const parts = asn1.sequenceOf(asn1.decode(unpem(text, 'CERTIFICATE REQUEST', maxRequestBytes), what), what)
  const [info, algorithm, signature] = parts
  if (info === undefined || parts.length !== 3)
    throw new MeshError('MSH0402', 'malformed certificate request')
  if (asn1.oidOf(asn1.sequenceOf(algorithm, what)[0], what) !== oids.ecdsaWithSha256) {
    throw refused('it is not signed with ECDSA and SHA-256')
  }
  const [version, , spki, attributes, ...rest] = asn1.sequenceOf(info, what)
  if (asn1.integerOf(version, what) !== 0 || spki === undefined || rest.length > 0) {
    throw new MeshError('MSH0402', 'malformed certificate request')
  }
  const publicKey = readPublicKey(asn1.encode(spki))
  // Proof of possession: only the holder of the private key can have signed this.
  if (!verify('sha256', asn1.encode(info), publicKey, asn1.bitsOf(signature, what))) {
    throw refused('its signature is wrong, so it does not prove its key')
  }
  return { publicKey, spiffe: wantedSpiffe(attributes) }
}

function wantedSpiffe(attributes: asn1.Node | undefined): Spiffe {
  const what = 'certificate request'
  if (attributes === undefined || asn1.tagOf(attributes) !== 0) throw refused('it asks for no SPIFFE id')
  const [attribute, ...others] = asn1.children(attributes, what)
  const [type, values] = asn1.sequenceOf(attribute, what)
  if (others.length > 0 || asn1.oidOf(type, what) !== oids.extensionRequest) {
    throw refused('it holds attributes that are not allowed')
  }
  const [wanted, ...more] = asn1.setOf(values, what)
  const [extension, ...extras] = readExtensions(wanted)
  if (more.length > 0 || extras.length > 0 || extension?.oid !== oids.alternativeName) {
    throw refused('it asks for extensions other than the alternative name')
  }
  const { uris, dns, ips, others: unknown } = readAlternativeNames(extension.value)
  const [uri] = uris
  if (uri === undefined || uris.length > 1 || dns.length + ips.length + unknown > 0) {
    throw refused('it must ask for exactly one URI name and no other')
  }
  return parseSpiffe(uri)
}

function readPublicKey(der: Buffer): KeyObject {
  let key: KeyObject
  try {
    key = createPublicKey({ key: der, format: 'der', type: 'spki' })
  } catch (error) {
    throw new MeshError('MSH0402', 'malformed certificate request: public key', { cause: error })
  }
  if (!isP256(key)) throw refused('its key is not ECDSA P-256')
  return key
}

function refused(why: string): MeshError {
  return new MeshError('MSH0404', `certificate request refused: ${why}`)
}
