// The certificates that meshctl makes (X.509 v3, RFC 5280): a root, issuing CAs below it, leafs with one SPIFFE id.
import type { KeyObject } from 'node:crypto'
import { createHash, randomBytes, sign } from 'node:crypto'
import { isIPv4, isIPv6, SocketAddress } from 'node:net'
import { MeshError } from '../errors.ts'
import * as asn1 from './asn1.ts'
import { readCertificate } from './cert.ts'
import type { Certificate } from './cert.ts'
import {
  alternativeName,
  authorityKeyId,
  basicConstraints,
  extendedKeyUsage,
  keyUsage,
  nameConstraints,
  oids,
  subjectKeyId,
  writeExtensions,
} from './extension.ts'
import type { Extension } from './extension.ts'
import { publicBytes } from './key.ts'
import { pem } from './pem.ts'
import { isDottedName, parseSpiffe } from './spiffe.ts'
import type { Spiffe } from './spiffe.ts'

const day = 86_400
/** Certificates begin this much before they are made, for hosts whose clock is behind. Milliseconds. */
export const backdateMs = 60_000
/** Lives in seconds. */
export const rootSeconds = 3650 * day
export const issuingSeconds = 730 * day
export const leafSeconds = day
export const operatorSeconds = 90 * day

export interface Issuer {
  readonly certificate: Certificate
  readonly key: KeyObject
}

export interface LeafOptions {
  readonly issuer: Issuer
  readonly publicKey: KeyObject
  readonly spiffe: string
  /** Milliseconds since the epoch. */
  readonly now: number
  readonly lifeSeconds: number
  /** DNS names and IP addresses beside the SPIFFE id, for browsers and curl at control. */
  readonly names?: readonly string[]
}

/** A self-signed root, confined to its trust domain; below it one level of issuing CAs. PEM. */
export function makeRoot(options: {
  key: KeyObject
  trustDomain: string
  now: number
  lifeSeconds?: number
}): string {
  const { key, trustDomain, now } = options
  checkTrustDomain(trustDomain)
  return certify({
    subject: `meshctl root ${trustDomain}`,
    issuer: null,
    publicKey: key,
    key,
    now,
    notAfter: now + (options.lifeSeconds ?? rootSeconds) * 1000,
    extensions: [
      basicConstraints({ pathLength: 1 }),
      keyUsage(['keyCertSign', 'cRLSign']),
      nameConstraints(trustDomain),
    ],
  })
}

/** A CA that signs leafs only; ends with its root at the latest. PEM. */
export function makeIssuing(options: {
  root: Issuer
  publicKey: KeyObject
  trustDomain: string
  now: number
  lifeSeconds?: number
}): string {
  const { root, trustDomain, now } = options
  checkTrustDomain(trustDomain)
  return certify({
    subject: `meshctl issuing ${trustDomain}`,
    issuer: root.certificate,
    publicKey: options.publicKey,
    key: root.key,
    now,
    notAfter: within(root, now, now + (options.lifeSeconds ?? issuingSeconds) * 1000),
    extensions: [
      basicConstraints({ pathLength: 0 }),
      keyUsage(['keyCertSign', 'cRLSign']),
      nameConstraints(trustDomain),
    ],
  })
}

/** A leaf for both ends of TLS; ends with its issuer at the latest. PEM, without the issuer's certificate. */
export function makeLeaf(options: LeafOptions): string {
  const { issuer, now } = options
  const spiffe = parseSpiffe(options.spiffe)
  const { permitted } = issuer.certificate
  if (permitted !== null && !permitted.includes(spiffe.trustDomain)) {
    throw new MeshError('MSH0404', `the issuing CA may not sign for the trust domain ${spiffe.trustDomain}`)
  }
  const names = options.names ?? []
  return certify({
    subject: leafName(spiffe),
    issuer: issuer.certificate,
    publicKey: options.publicKey,
    key: issuer.key,
    now,
    notAfter: within(issuer, now, now + options.lifeSeconds * 1000),
    extensions: [
      basicConstraints(null),
      keyUsage(['digitalSignature']),
      extendedKeyUsage(),
      alternativeName({
        uri: spiffe.id,
        dns: names.filter((name) => !isAddress(name)).map(checkDnsName),
        ips: names.filter(isAddress).map(addressBytes),
      }),
    ],
  })
}

interface Content {
  readonly subject: string
  /** Null: self-signed. */
  readonly issuer: Certificate | null
  readonly publicKey: KeyObject
  readonly key: KeyObject
  readonly now: number
  readonly notAfter: number
  readonly extensions: readonly Extension[]
}

function certify(content: Content): string {
  const { issuer, publicKey } = content
  const subject = name(content.subject)
  const algorithm = asn1.sequence(asn1.oid(oids.ecdsaWithSha256))
  const signer = keyId(issuer?.publicKey ?? publicKey)
  const extensions = [
    ...content.extensions,
    subjectKeyId(keyId(publicKey)),
    ...(issuer === null ? [] : [authorityKeyId(signer)]),
  ]
  const toBeSigned = asn1.sequence(
    asn1.tagged(0, [asn1.integer(2)]),
    asn1.integer(randomBytes(16)),
    algorithm,
    issuer === null ? subject : name(issuer.subject),
    asn1.sequence(asn1.time(content.now - backdateMs), asn1.time(content.notAfter)),
    subject,
    asn1.decode(publicBytes(publicKey), 'public key'),
    asn1.tagged(3, [writeExtensions(extensions)]),
  )
  const signature = sign('sha256', asn1.encode(toBeSigned), content.key)
  const text = pem('CERTIFICATE', asn1.encode(asn1.sequence(toBeSigned, algorithm, asn1.bits(signature))))
  // Read back what was made: a certificate that we could not read ourselves must never leave.
  return readCertificate(text).pem
}

function within(issuer: Issuer, now: number, notAfter: number): number {
  const end = issuer.certificate.notAfter
  if (end <= now) {
    throw new MeshError(
      'MSH0403',
      `the CA ${issuer.certificate.subject} ended at ${new Date(end).toISOString()}`,
    )
  }
  return Math.min(notAfter, end)
}

function leafName(spiffe: Spiffe): string {
  if (spiffe.kind === 'service') return `${spiffe.service}.${spiffe.namespace}`
  if (spiffe.kind === 'host') return spiffe.host
  return spiffe.kind === 'control' ? 'control' : spiffe.name
}

/** One common name; 64 characters at most (RFC 5280 A.1). Only for people: the identity is the URI name. */
function name(commonName: string): asn1.Node {
  const value = asn1.utf8(commonName.slice(0, 64))
  return asn1.sequence(asn1.set(asn1.sequence(asn1.oid(oids.commonName), value)))
}

/** RFC 7093 method 1: the first 160 bits of the SHA-256 of the key. */
function keyId(key: KeyObject): Buffer {
  const spki = asn1.sequenceOf(asn1.decode(publicBytes(key), 'public key'), 'public key')
  return createHash('sha256').update(asn1.bitsOf(spki[1], 'public key')).digest().subarray(0, 20)
}

function checkTrustDomain(trustDomain: string): void {
  if (!isDottedName(trustDomain)) throw new MeshError('MSH0403', `not a trust domain: ${trustDomain}`)
}

function checkDnsName(dns: string): string {
  if (!isDottedName(dns.toLowerCase())) throw new MeshError('MSH0404', `not a DNS name or address: ${dns}`)
  return dns.toLowerCase()
}

const isAddress = (text: string): boolean => isIPv4(text) || (isIPv6(text) && !text.includes('%'))

function addressBytes(text: string): Buffer {
  if (isIPv4(text)) return Buffer.from(text.split('.').map(Number))
  // SocketAddress prints the shortest form, without a dotted end, so only "::" is left to fill.
  const { address } = new SocketAddress({ address: text, family: 'ipv6' })
  const plain = address.replace(
    /(\d+)\.(\d+)\.(\d+)\.(\d+)$/,
    (_, a: string, b: string, c: string, d: string) =>
      [Number(a) * 256 + Number(b), Number(c) * 256 + Number(d)].map((group) => group.toString(16)).join(':'),
  )
  const [head = '', tail] = plain.split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const groups = [...left, ...Array.from({ length: 8 - left.length - right.length }, () => '0'), ...right]
  return Buffer.from(groups.map((group) => group.padStart(4, '0')).join(''), 'hex')
}
