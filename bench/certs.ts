// The certificates of a benchmark: made by the product's own PKI, the same for every system in the run.
import { makeIssuing, makeLeaf, makeRoot } from '../src/pki/issue.ts'
import { readCertificate } from '../src/pki/cert.ts'
import { keyPem, makeKey, publicOf } from '../src/pki/key.ts'
import { hostSpiffe, serviceSpiffe } from '../src/model/service.ts'
import type { Secrets } from '../src/snapshot/types.ts'

export const trustDomain = 'bench.mesh'
export const ids = {
  client: hostSpiffe(trustDomain, 'client'),
  server: hostSpiffe(trustDomain, 'server'),
  web: serviceSpiffe(trustDomain, 'default', 'web'),
} as const
export const webName = 'web.default.mesh'

/** The secrets of each side in the contract's form. */
export function makeSecrets(): Record<'client' | 'server', Secrets> {
  const now = Date.now()
  const rootKey = makeKey()
  const root = makeRoot({ key: rootKey, trustDomain, now })
  const issuingKey = makeKey()
  const issuing = makeIssuing({
    root: { certificate: readCertificate(root), key: rootKey },
    publicKey: publicOf(issuingKey),
    trustDomain,
    now,
  })
  const issuer = { certificate: readCertificate(issuing), key: issuingKey }
  const leaf = (spiffe: string): Secrets['leafs'][number] => {
    const key = makeKey()
    const chain = makeLeaf({
      issuer,
      publicKey: publicOf(key),
      spiffe,
      now,
      lifeSeconds: 86_400,
      names: [webName],
    })
    return { spiffe, chain: chain + issuing, key: keyPem(key), notAfter: now + 86_400_000 }
  }
  return {
    client: { roots: root, leafs: [leaf(ids.client)] },
    server: { roots: root, leafs: [leaf(ids.server), leaf(ids.web)] },
  }
}
