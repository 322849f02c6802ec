// A whole certificate authority in memory, for tests of every part that needs real certificates.
import type { KeyObject } from 'node:crypto'
import { readCertificate } from '../../src/pki/cert.ts'
import type { Issuer } from '../../src/pki/issue.ts'
import { makeIssuing, makeLeaf, makeRoot } from '../../src/pki/issue.ts'
import { keyPem, makeKey, publicOf } from '../../src/pki/key.ts'

export interface Leaf {
  /** Leaf and issuing certificate, PEM. */
  readonly chain: string
  readonly key: string
  readonly keyObject: KeyObject
}

export class Authority {
  readonly trustDomain: string
  readonly root: Issuer
  readonly issuing: Issuer
  readonly roots: string

  constructor(trustDomain: string = 'demo.mesh', now: number = Date.now()) {
    this.trustDomain = trustDomain
    const rootKey = makeKey()
    this.roots = makeRoot({ key: rootKey, trustDomain, now })
    this.root = { certificate: readCertificate(this.roots), key: rootKey }
    const key = makeKey()
    const pem = makeIssuing({ root: this.root, publicKey: publicOf(key), trustDomain, now })
    this.issuing = { certificate: readCertificate(pem), key }
  }

  leaf(
    spiffe: string,
    options: { now?: number; lifeSeconds?: number; names?: readonly string[]; issuer?: Issuer } = {},
  ): Leaf {
    const keyObject = makeKey()
    const pem = makeLeaf({
      issuer: options.issuer ?? this.issuing,
      publicKey: publicOf(keyObject),
      spiffe,
      now: options.now ?? Date.now(),
      lifeSeconds: options.lifeSeconds ?? 3600,
      names: options.names ?? [],
    })
    return { chain: pem + this.issuing.certificate.pem, key: keyPem(keyObject), keyObject }
  }

  host(name: string): Leaf {
    return this.leaf(`spiffe://${this.trustDomain}/host/${name}`)
  }

  service(name: string, namespace: string = 'default'): Leaf {
    return this.leaf(`spiffe://${this.trustDomain}/ns/${namespace}/sa/${name}`)
  }

  operator(name: string): Leaf {
    return this.leaf(`spiffe://${this.trustDomain}/operator/${name}`)
  }
}
