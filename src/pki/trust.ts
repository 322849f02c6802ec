// The roots of a mesh as a PEM bundle, and what chains to them.
import { MeshError } from '../errors.ts'
import { isWithinDates, readCertificates } from './cert.ts'
import type { Certificate } from './cert.ts'

/** How far clocks of two hosts may differ before dates are believed. Milliseconds. */
export const dateToleranceMs = 60_000

export interface VerifyOptions {
  /** Milliseconds since the epoch. */
  readonly now: number
  readonly toleranceMs?: number
}

/** Reads a bundle of roots. Throws MSH0402 where it is empty or holds anything that is not a self-signed CA. */
export function readRoots(bundle: string): Certificate[] {
  const roots = readCertificates(bundle)
  for (const root of roots) {
    if (!root.isCa || !root.keyUsages.includes('keyCertSign') || !isIssuedBy(root, root)) {
      throw new MeshError('MSH0402', `not a root certificate: ${root.subject}`)
    }
  }
  return roots
}

/** The bundle with one more root; unchanged when it is there already. */
export function addRoot(bundle: string, root: string): string {
  const roots = bundle.trim() === '' ? [] : readRoots(bundle)
  const added = readRoots(root).filter(({ fingerprint }) =>
    roots.every((old) => old.fingerprint !== fingerprint),
  )
  return printBundle([...roots, ...added])
}

/** The bundle without the root of this fingerprint (SHA-256, hex). The last root cannot be retired. */
export function retireRoot(bundle: string, fingerprint: string): string {
  const wanted = fingerprint.replaceAll(':', '').toLowerCase()
  const roots = readRoots(bundle)
  const left = roots.filter((root) => root.fingerprint !== wanted)
  if (left.length === roots.length) throw new MeshError('MSH0403', `no root has the fingerprint ${wanted}`)
  if (left.length === 0)
    throw new MeshError('MSH0403', 'the last root cannot be retired: nothing would be trusted')
  return printBundle(left)
}

/**
 * Verifies that `chain` (leaf first, PEM; order of the others does not matter) leads to one of `roots`: signatures, CA
 * flags, path lengths, name constraints and dates. Gives the leaf. Throws MSH0403 with the reason. TLS does the same for
 * connections; this is for files and for whoever wants the reason in words.
 */
export function verifyChain(
  chain: string,
  roots: readonly Certificate[],
  options: VerifyOptions,
): Certificate {
  const [leaf, ...others] = readCertificates(chain)
  if (leaf === undefined) throw new MeshError('MSH0402', 'no certificate in PEM form')
  if (leaf.isCa) throw refused(leaf, 'it is a CA, not a leaf')
  checkDates(leaf, options)
  let below = leaf
  // Every certificate is used at most once, so the walk ends.
  const left = [...others]
  for (let depth = 0; ; depth++) {
    const root = roots.find((candidate) => isIssuedBy(below, candidate))
    if (root !== undefined) {
      checkIssuer(root, leaf, depth, options)
      return leaf
    }
    const place = left.findIndex((candidate) => isIssuedBy(below, candidate))
    const issuer = left[place]
    if (issuer === undefined) throw refused(below, 'it does not lead to a root of this mesh')
    left.splice(place, 1)
    checkIssuer(issuer, leaf, depth, options)
    below = issuer
  }
}

/** Verifies that an issuing CA stands directly below one of the roots and is within its dates. Throws MSH0403. */
export function verifyIssuer(
  issuer: Certificate,
  roots: readonly Certificate[],
  options: VerifyOptions,
): void {
  const root = roots.find((candidate) => isIssuedBy(issuer, candidate))
  if (root === undefined) throw refused(issuer, 'it does not lead to a root of this mesh')
  checkIssuer(issuer, issuer, 0, options)
  checkIssuer(root, issuer, 1, options)
}

/** `depth` is the number of CAs between the issuer and the leaf. */
function checkIssuer(issuer: Certificate, leaf: Certificate, depth: number, options: VerifyOptions): void {
  if (!issuer.isCa || !issuer.keyUsages.includes('keyCertSign')) throw refused(issuer, 'it is not a CA')
  if (issuer.pathLength !== null && depth > issuer.pathLength)
    throw refused(issuer, 'the path below it is too long')
  if (issuer.permitted !== null) {
    for (const uri of leaf.names.uris) {
      const domain = /^[a-z]+:\/\/([^/]*)/.exec(uri)?.[1]
      if (domain === undefined || !issuer.permitted.includes(domain)) {
        throw refused(leaf, `its issuer may not sign for ${JSON.stringify(uri)}`)
      }
    }
  }
  checkDates(issuer, options)
}

function checkDates(certificate: Certificate, { now, toleranceMs = dateToleranceMs }: VerifyOptions): void {
  if (isWithinDates(certificate, now, toleranceMs)) return
  const early = now < certificate.notBefore
  const at = new Date(early ? certificate.notBefore : certificate.notAfter).toISOString()
  throw refused(certificate, early ? `it begins only at ${at}` : `it ended at ${at}`)
}

function isIssuedBy(certificate: Certificate, issuer: Certificate): boolean {
  return certificate.x509.checkIssued(issuer.x509) && certificate.x509.verify(issuer.publicKey)
}

function printBundle(roots: readonly Certificate[]): string {
  return roots.map(({ pem }) => pem).join('')
}

function refused(certificate: Certificate, why: string): MeshError {
  return new MeshError('MSH0403', `certificate ${JSON.stringify(certificate.subject)} refused: ${why}`)
}
