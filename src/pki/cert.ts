// A certificate, read. What is checked elsewhere by OpenSSL (TLS) is readable here for people and for renewal.
import { X509Certificate } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { MeshError } from '../errors.ts'
import type { AlternativeNames, KeyUsage } from './extension.ts'
import {
  oids,
  readAlternativeNames,
  readBasicConstraints,
  readExtendedKeyUsage,
  readKeyUsage,
  readNameConstraints,
} from './extension.ts'
import { publicBytes } from './key.ts'
import { extensionsOf, maxCertificateBytes, toBeSigned } from './names.ts'
import { certificateBlocks } from './pem.ts'

export interface Certificate {
  readonly x509: X509Certificate
  readonly raw: Buffer
  readonly pem: string
  /** Common names. */
  readonly subject: string
  readonly issuer: string
  /** Upper-case hex. */
  readonly serial: string
  /** SHA-256 of the DER, lower-case hex. */
  readonly fingerprint: string
  /** Milliseconds since the epoch. */
  readonly notBefore: number
  readonly notAfter: number
  readonly isCa: boolean
  readonly pathLength: number | null
  readonly keyUsages: readonly KeyUsage[]
  readonly serverAuth: boolean
  readonly clientAuth: boolean
  readonly names: AlternativeNames
  /** Trust domains a CA is confined to; null: not confined. */
  readonly permitted: readonly string[] | null
  readonly publicKey: KeyObject
}

/** A chain has a leaf, an issuing CA and at most one more; a bundle of roots a few. */
const maxBlocks = 16

const known: readonly string[] = [
  oids.alternativeName,
  oids.basicConstraints,
  oids.keyUsage,
  oids.extendedKeyUsage,
  oids.nameConstraints,
  oids.subjectKeyId,
  oids.authorityKeyId,
]

/** Reads PEM (one block) or DER. Throws MSH0402. */
export function readCertificate(source: string | Buffer | X509Certificate): Certificate {
  const x509 = source instanceof X509Certificate ? source : parse(source)
  const { raw } = x509
  const extensions = extensionsOf(toBeSigned(raw).fields)
  for (const { oid, critical } of extensions) {
    // RFC 5280 4.2: a certificate with a critical extension that is not understood must be refused.
    if (critical && !known.includes(oid))
      throw new MeshError('MSH0402', `certificate with an unknown critical extension ${oid}`)
  }
  const value = (oid: string): Buffer | undefined =>
    extensions.find((extension) => extension.oid === oid)?.value
  const names = value(oids.alternativeName)
  const constraints = value(oids.basicConstraints)
  const usage = value(oids.keyUsage)
  const extended = value(oids.extendedKeyUsage)
  const confined = value(oids.nameConstraints)
  const basic = constraints === undefined ? null : readBasicConstraints(constraints)
  const purposes = extended === undefined ? [] : readExtendedKeyUsage(extended)
  return {
    x509,
    raw,
    pem: `${x509.toString().trimEnd()}\n`,
    subject: commonName(x509.subject),
    issuer: commonName(x509.issuer),
    serial: x509.serialNumber.toUpperCase(),
    fingerprint: x509.fingerprint256.replaceAll(':', '').toLowerCase(),
    notBefore: x509.validFromDate.getTime(),
    notAfter: x509.validToDate.getTime(),
    isCa: basic?.ca ?? false,
    pathLength: basic?.pathLength ?? null,
    keyUsages: usage === undefined ? [] : readKeyUsage(usage),
    serverAuth: purposes.includes(oids.serverAuth),
    clientAuth: purposes.includes(oids.clientAuth),
    names: names === undefined ? { uris: [], dns: [], ips: [], others: 0 } : readAlternativeNames(names),
    permitted: confined === undefined ? null : readNameConstraints(confined),
    publicKey: x509.publicKey,
  }
}

/** The certificates of a chain or bundle, in order. Throws MSH0402 where there is none or far too many. */
export function readCertificates(text: string): Certificate[] {
  const blocks = certificateBlocks(text)
  if (blocks.length === 0) throw new MeshError('MSH0402', 'no certificate in PEM form')
  if (blocks.length > maxBlocks) throw new MeshError('MSH0402', `more than ${maxBlocks} certificates`)
  return blocks.map((block) => readCertificate(block))
}

/** `toleranceMs` is how far the clocks of two hosts may differ. */
export function isWithinDates(certificate: Certificate, now: number, toleranceMs: number = 0): boolean {
  return now >= certificate.notBefore - toleranceMs && now <= certificate.notAfter + toleranceMs
}

/** Whether the key is the certificate's. */
export function matchesKey(certificate: Certificate, key: KeyObject): boolean {
  return publicBytes(certificate.publicKey).equals(publicBytes(key))
}

function parse(source: string | Buffer): X509Certificate {
  if (source.length > maxCertificateBytes * 2) throw new MeshError('MSH0402', 'certificate too large')
  try {
    return new X509Certificate(source)
  } catch (error) {
    throw new MeshError('MSH0402', 'not a certificate', { cause: error })
  }
}

function commonName(name: string): string {
  return /^CN=(.*)$/m.exec(name)?.[1] ?? ''
}
