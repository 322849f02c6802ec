// X.509 extensions (RFC 5280 4.2) as they stand in certificates and, for the alternative name, in requests.
import { MeshError } from '../errors.ts'
import * as asn1 from './asn1.ts'

export const oids = {
  commonName: '2.5.4.3',
  subjectKeyId: '2.5.29.14',
  keyUsage: '2.5.29.15',
  alternativeName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  nameConstraints: '2.5.29.30',
  authorityKeyId: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
  extensionRequest: '1.2.840.113549.1.9.14',
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
} as const

export interface Extension {
  readonly oid: string
  readonly critical: boolean
  /** DER of the extension's own structure. */
  readonly value: Buffer
}

/** The alternative names of a certificate; kinds that meshctl never uses are only counted. */
export interface AlternativeNames {
  readonly uris: readonly string[]
  readonly dns: readonly string[]
  /** IPv4 as 4 bytes, IPv6 as 16. */
  readonly ips: readonly Buffer[]
  readonly others: number
}

/** Bits of KeyUsage, first bit first (RFC 5280 4.2.1.3). */
const usageNames = [
  'digitalSignature',
  'nonRepudiation',
  'keyEncipherment',
  'dataEncipherment',
  'keyAgreement',
  'keyCertSign',
  'cRLSign',
  'encipherOnly',
] as const

export type KeyUsage = (typeof usageNames)[number]

const tags = { dns: 2, uri: 6, ip: 7 } as const

export function writeExtensions(extensions: readonly Extension[]): asn1.Node {
  return asn1.sequence(
    ...extensions.map(({ oid, critical, value }) =>
      asn1.sequence(asn1.oid(oid), ...(critical ? [asn1.boolean(true)] : []), asn1.octets(value)),
    ),
  )
}

/** Refuses the same extension twice: readers would differ in which one they believe. */
export function readExtensions(node: asn1.Node | undefined): Extension[] {
  const extensions = asn1.sequenceOf(node, 'extensions').map((item): Extension => {
    const parts = asn1.sequenceOf(item, 'extension')
    const flagged = asn1.isBoolean(parts[1])
    if (parts.length !== (flagged ? 3 : 2)) throw new MeshError('MSH0402', 'malformed extension')
    return {
      oid: asn1.oidOf(parts[0], 'extension'),
      critical: flagged && asn1.booleanOf(parts[1], 'extension'),
      value: asn1.octetsOf(parts[flagged ? 2 : 1], 'extension'),
    }
  })
  if (new Set(extensions.map(({ oid }) => oid)).size !== extensions.length) {
    throw new MeshError('MSH0402', 'malformed extensions: one stands twice')
  }
  return extensions
}

// --- the ones we write

export function alternativeName(names: {
  uri?: string
  dns?: readonly string[]
  ips?: readonly Buffer[]
}): Extension {
  const general = [
    ...(names.uri === undefined ? [] : [asn1.tagged(tags.uri, Buffer.from(names.uri, 'ascii'))]),
    ...(names.dns ?? []).map((name) => asn1.tagged(tags.dns, Buffer.from(name, 'ascii'))),
    ...(names.ips ?? []).map((ip) => asn1.tagged(tags.ip, ip)),
  ]
  return { oid: oids.alternativeName, critical: false, value: asn1.encode(asn1.sequence(...general)) }
}

export function basicConstraints(ca: { pathLength: number } | null): Extension {
  const content = ca === null ? [] : [asn1.boolean(true), asn1.integer(ca.pathLength)]
  return { oid: oids.basicConstraints, critical: true, value: asn1.encode(asn1.sequence(...content)) }
}

export function keyUsage(usages: readonly KeyUsage[]): Extension {
  let byte = 0
  let last = 0
  for (const usage of usages) {
    const bit = usageNames.indexOf(usage)
    byte |= 0x80 >> bit
    last = Math.max(last, bit)
  }
  return { oid: oids.keyUsage, critical: true, value: asn1.encode(asn1.bits(Buffer.from([byte]), 7 - last)) }
}

export function extendedKeyUsage(): Extension {
  const value = asn1.encode(asn1.sequence(asn1.oid(oids.serverAuth), asn1.oid(oids.clientAuth)))
  return { oid: oids.extendedKeyUsage, critical: false, value }
}

/** Below this CA every URI name lies in the trust domain (RFC 5280 4.2.1.10: the constraint is on the host part). */
export function nameConstraints(trustDomain: string): Extension {
  const permitted = asn1.sequence(asn1.tagged(tags.uri, Buffer.from(trustDomain, 'ascii')))
  return {
    oid: oids.nameConstraints,
    critical: true,
    value: asn1.encode(asn1.sequence(asn1.tagged(0, [permitted]))),
  }
}

export function subjectKeyId(id: Buffer): Extension {
  return { oid: oids.subjectKeyId, critical: false, value: asn1.encode(asn1.octets(id)) }
}

export function authorityKeyId(id: Buffer): Extension {
  return { oid: oids.authorityKeyId, critical: false, value: asn1.encode(asn1.sequence(asn1.tagged(0, id))) }
}

// --- the ones we read

export function readAlternativeNames(value: Buffer): AlternativeNames {
  const uris: string[] = []
  const dns: string[] = []
  const ips: Buffer[] = []
  let others = 0
  for (const name of asn1.sequenceOf(asn1.decode(value, 'alternative name'), 'alternative name')) {
    const tag = asn1.tagOf(name)
    // latin1 keeps every byte: a NUL or a byte above 127 stays visible to whoever checks the text.
    if (tag === tags.uri) uris.push(asn1.bytesOf(name, 'URI name').toString('latin1'))
    else if (tag === tags.dns) dns.push(asn1.bytesOf(name, 'DNS name').toString('latin1'))
    else if (tag === tags.ip) ips.push(asn1.bytesOf(name, 'IP name'))
    else others++
  }
  return { uris, dns, ips, others }
}

/** `pathLength` is null where the CA has no bound. */
export function readBasicConstraints(value: Buffer): { ca: boolean; pathLength: number | null } {
  const parts = asn1.sequenceOf(asn1.decode(value, 'basic constraints'), 'basic constraints')
  const flagged = asn1.isBoolean(parts[0])
  const length = parts[flagged ? 1 : 0]
  return {
    ca: flagged && asn1.booleanOf(parts[0], 'basic constraints'),
    pathLength: length === undefined ? null : asn1.integerOf(length, 'basic constraints'),
  }
}

export function readKeyUsage(value: Buffer): KeyUsage[] {
  const byte = asn1.bitsOf(asn1.decode(value, 'key usage'), 'key usage', true)[0] ?? 0
  return usageNames.filter((_, bit) => (byte & (0x80 >> bit)) !== 0)
}

export function readExtendedKeyUsage(value: Buffer): string[] {
  const what = 'extended key usage'
  return asn1.sequenceOf(asn1.decode(value, what), what).map((node) => asn1.oidOf(node, what))
}

/** The trust domains under which URI names are permitted. Any other kind of constraint is refused: nobody here checks it. */
export function readNameConstraints(value: Buffer): string[] {
  const what = 'name constraints'
  const parts = asn1.sequenceOf(asn1.decode(value, what), what)
  const [permitted] = parts
  if (permitted === undefined || parts.length !== 1 || asn1.tagOf(permitted) !== 0) {
    throw new MeshError('MSH0402', 'name constraints of a kind that is not supported')
  }
  return asn1.children(permitted, what).map((subtree) => {
    const [base, ...bounds] = asn1.sequenceOf(subtree, what)
    if (base === undefined || bounds.length > 0 || asn1.tagOf(base) !== tags.uri) {
      throw new MeshError('MSH0402', 'name constraints of a kind that is not supported')
    }
    return asn1.bytesOf(base, what).toString('latin1')
  })
}
