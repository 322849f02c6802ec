// Keys and certificates of this host on disk: paths.identity, 0700; each file 0600.
import type { KeyObject } from 'node:crypto'
import { mkdir, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { MeshError, reason } from '../errors.ts'
import { hostSpiffe, serviceSpiffe } from '../model/service.ts'
import type { Paths } from '../paths.ts'
import { matchesKey, readCertificates } from '../pki/cert.ts'
import { keyPem, readKey, storeFile } from '../pki/key.ts'
import { peerSpiffe } from '../pki/spiffe.ts'
import type { Secrets } from '../snapshot/types.ts'

/** What a certificate is for: a file name and a SPIFFE id. */
export interface Holder {
  readonly file: string
  readonly spiffe: string
}

export interface Leaf extends Holder {
  readonly key: KeyObject
  readonly keyPem: string
  /** Leaf first, then intermediates. */
  readonly chain: string
  readonly notBefore: number
  readonly notAfter: number
}

/** Everybody who needs a certificate on this host: the host first, then each service once. */
export function holdersOf(
  trustDomain: string,
  host: string,
  services: readonly { readonly name: string; readonly namespace: string }[],
): Holder[] {
  const holders = new Map<string, Holder>([['host', { file: 'host', spiffe: hostSpiffe(trustDomain, host) }]])
  for (const { name, namespace } of services) {
    const file = `${namespace}.${name}`
    holders.set(file, { file, spiffe: serviceSpiffe(trustDomain, namespace, name) })
  }
  return [...holders.values()]
}

export class Keyring {
  readonly #folder: string
  readonly #roots: string

  constructor(paths: Pick<Paths, 'identity' | 'roots'>) {
    this.#folder = paths.identity
    this.#roots = paths.roots
  }

  /** Null where the holder has none yet. Throws MSH0603 where the files are damaged or another's. */
  async load(holder: Holder): Promise<Leaf | null> {
    const path = join(this.#folder, holder.file)
    try {
      let key = await readOrNull(`${path}.key`)
      let chain = await readOrNull(`${path}.pem`)
      const next = await readOrNull(`${path}.pem.next`)
      // A rotation was cut off between its two renames: the new certificate waits for its key, which is in place.
      if (key !== null && next !== null && matchesKey(first(next), readKey(key))) {
        await rename(`${path}.pem.next`, `${path}.pem`)
        chain = next
      }
      if (key === null || chain === null) return null
      const leaf = first(chain)
      const read = readKey(key)
      key = keyPem(read)
      if (!matchesKey(leaf, read)) throw new Error('the certificate does not belong to the key')
      if (peerSpiffe(leaf.x509).id !== holder.spiffe) throw new Error(`it is not for ${holder.spiffe}`)
      return { ...holder, key: read, keyPem: key, chain, notBefore: leaf.notBefore, notAfter: leaf.notAfter }
    } catch (error) {
      throw new MeshError('MSH0603', `${path}: ${reason(error)}`, { cause: error })
    }
  }

  /** The key alone, for a certificate that was asked for but never came; null: none. */
  async key(holder: Holder): Promise<KeyObject | null> {
    const text = await readOrNull(join(this.#folder, `${holder.file}.key`))
    return text === null ? null : readKey(text)
  }

  async storeKey(holder: Holder, key: KeyObject): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 })
    await storeFile(join(this.#folder, `${holder.file}.key`), keyPem(key), 0o600)
  }

  /** Both or, after a crash, still the pair before: `load` completes what was cut off. */
  async store(holder: Holder, key: KeyObject, chain: string): Promise<Leaf> {
    const path = join(this.#folder, holder.file)
    const leaf = first(chain)
    if (!matchesKey(leaf, key))
      throw new MeshError('MSH0603', `${path}: the new certificate is not for the key`)
    if (peerSpiffe(leaf.x509).id !== holder.spiffe) {
      throw new MeshError('MSH0603', `${path}: the new certificate is not for ${holder.spiffe}`)
    }
    await mkdir(this.#folder, { recursive: true, mode: 0o700 })
    await storeFile(`${path}.pem.next`, chain, 0o600)
    await storeFile(`${path}.key`, keyPem(key), 0o600)
    await rename(`${path}.pem.next`, `${path}.pem`)
    const { notBefore, notAfter } = leaf
    return { ...holder, key, keyPem: keyPem(key), chain, notBefore, notAfter }
  }

  /** PEM. Throws MSH0603. */
  async roots(): Promise<string> {
    try {
      return await readFile(this.#roots, 'utf8')
    } catch (error) {
      throw new MeshError('MSH0603', `${this.#roots}: ${reason(error)}`, { cause: error })
    }
  }

  async storeRoots(bundle: string): Promise<void> {
    readCertificates(bundle)
    await storeFile(this.#roots, bundle, 0o644)
  }
}

export function secretsOf(roots: string, leafs: readonly Leaf[]): Secrets {
  return {
    roots,
    leafs: leafs.map(({ spiffe, chain, keyPem: key, notAfter }) => ({ spiffe, chain, key, notAfter })),
  }
}

function first(chain: string): ReturnType<typeof readCertificates>[number] {
  const [leaf] = readCertificates(chain)
  if (leaf === undefined) throw new Error('no certificate')
  return leaf
}

async function readOrNull(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}
