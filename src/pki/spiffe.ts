// SPIFFE ids of a mesh: printed, read and matched strictly, byte for byte. Four forms exist:
//   spiffe://<trust-domain>/ns/<namespace>/sa/<service>
//   spiffe://<trust-domain>/host/<name>
//   spiffe://<trust-domain>/control
//   spiffe://<trust-domain>/operator/<name>
// Source: https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md and X509-SVID.md; ours is narrower (lower
// case only, no percent-encoding), so that equal identities are equal strings.
import { MeshError } from '../errors.ts'
import { readNames } from './names.ts'

interface Parts {
  readonly trustDomain: string
  /** The whole id; two identities are the same when these strings are. */
  readonly id: string
}

export interface ServiceIdentity extends Parts {
  readonly kind: 'service'
  readonly namespace: string
  readonly service: string
}

export interface HostIdentity extends Parts {
  readonly kind: 'host'
  readonly host: string
}

export interface ControlIdentity extends Parts {
  readonly kind: 'control'
}

export interface OperatorIdentity extends Parts {
  readonly kind: 'operator'
  readonly name: string
}

export type Spiffe = ServiceIdentity | HostIdentity | ControlIdentity | OperatorIdentity

/** X509-SVID: 2048 bytes at most. */
const maxLength = 2048
/** One label: services and namespaces, which also stand in DNS names. */
const label = /^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$/
/** Hosts, operators and trust domains: labels with dots between. */
const dotted = /^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?)*$/

export const isLabel = (text: string): boolean => label.test(text)
export const isDottedName = (text: string): boolean => text.length <= 253 && dotted.test(text)

/** Throws MSH0403 with the reason. */
export function parseSpiffe(text: string): Spiffe {
  const refuse = (why: string): never => {
    throw new MeshError('MSH0403', `not a SPIFFE id of a mesh: ${why}: ${printable(text)}`)
  }
  if (text.length > maxLength) return refuse('too long')
  // One check for upper case, %, NUL, ports, users, queries, fragments and everything outside ASCII.
  if (!/^spiffe:\/\/[a-z0-9._/-]+$/.test(text)) return refuse('characters that are not allowed')
  const [trustDomain = '', ...path] = text.slice('spiffe://'.length).split('/')
  if (!isDottedName(trustDomain)) return refuse('bad trust domain')
  const [first, second = '', third, fourth = ''] = path
  const parts = { trustDomain, id: text }
  if (first === 'ns' && third === 'sa' && path.length === 4) {
    if (!isLabel(second) || !isLabel(fourth)) return refuse('bad namespace or service')
    return { kind: 'service', namespace: second, service: fourth, ...parts }
  }
  if (first === 'host' && path.length === 2) {
    return isDottedName(second) ? { kind: 'host', host: second, ...parts } : refuse('bad host name')
  }
  if (first === 'operator' && path.length === 2) {
    return isDottedName(second) ? { kind: 'operator', name: second, ...parts } : refuse('bad operator name')
  }
  if (first === 'control' && path.length === 1) return { kind: 'control', ...parts }
  return refuse('unknown path')
}

/** Null instead of an error, for callers that only ask. */
export function spiffeOrNull(text: string): Spiffe | null {
  try {
    return parseSpiffe(text)
  } catch (error) {
    if (error instanceof MeshError) return null
    throw error
  }
}

/**
 * The one identity that a peer's certificate proves. Takes what `tlsSocket.getPeerCertificate(true)` and
 * `new X509Certificate` give. Reads the names from the certificate's DER, never from the `subjectaltname` text, in which
 * a hostile name may imitate a second one (CVE-2021-44532). Throws MSH0403 unless there is exactly one URI name.
 * It does not verify the chain: that is TLS's or verifyChain's part.
 */
export function peerSpiffe(certificate: { readonly raw?: Buffer | undefined }): Spiffe {
  const { raw } = certificate
  if (!Buffer.isBuffer(raw)) throw new MeshError('MSH0403', 'the peer showed no certificate')
  const { uris } = readNames(raw)
  const [uri] = uris
  if (uri === undefined) throw new MeshError('MSH0403', 'the certificate holds no SPIFFE id')
  if (uris.length > 1) throw new MeshError('MSH0403', 'the certificate holds more than one URI name')
  return parseSpiffe(uri)
}

/** Whether the certificate proves exactly this id. For `checkServerIdentity` and the like; never throws. */
export function provesSpiffe(certificate: { readonly raw?: Buffer | undefined }, id: string): boolean {
  try {
    return peerSpiffe(certificate).id === id
  } catch (error) {
    if (error instanceof MeshError) return false
    throw error
  }
}

/** Hostile text made safe for a message: printable ASCII, at most 120 characters. */
function printable(text: string): string {
  return JSON.stringify(text.slice(0, 120)).replaceAll(/[^\x20-\x7e]/g, '?')
}
