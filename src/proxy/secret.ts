// Keys, chains and roots by SPIFFE id, swapped in place: connections that stand are kept, new ones use the new.
import { constants, X509Certificate } from 'node:crypto'
import tls from 'node:tls'
import { MeshError, reason } from '../errors.ts'
import { peerSpiffe } from '../pki/spiffe.ts'
import type { Secrets } from '../snapshot/types.ts'

/** Ours is the first; the others are what peers of other makes begin with, or insist on (ztunnels under a post-quantum policy). */
export const groups = 'P-256:X25519:X25519MLKEM768'

interface Held {
  readonly chain: string
  readonly key: string
  readonly context: tls.SecureContext
  /** Changes when the leaf or the roots do: connections of an older epoch are not reused. */
  readonly epoch: number
}

export class SecretStore {
  #roots: string
  #held: Map<string, Held>
  #epoch: number

  constructor() {
    this.#roots = ''
    this.#held = new Map()
    this.#epoch = 0
  }

  /** All or nothing; throws MSH0704. */
  set(secrets: Secrets): void {
    const next = new Map<string, Held>()
    const epoch = this.#epoch + 1
    for (const { spiffe, chain, key } of secrets.leafs) {
      const old = this.#held.get(spiffe)
      if (old !== undefined && old.chain === chain && old.key === key && this.#roots === secrets.roots) {
        next.set(spiffe, old)
        continue
      }
      next.set(spiffe, { chain, key, context: makeContext(spiffe, chain, key, secrets.roots), epoch })
    }
    this.#held = next
    this.#roots = secrets.roots
    this.#epoch = epoch
  }

  /** For connections made or accepted as this identity; null: no certificate yet. */
  context(spiffe: string): tls.SecureContext | null {
    return this.#held.get(spiffe)?.context ?? null
  }

  /** What a server needs that shows this identity to whoever names none. */
  credentials(spiffe: string): tls.SecureContextOptions | null {
    const held = this.#held.get(spiffe)
    return held === undefined ? null : optionsOf(held.chain, held.key, this.#roots)
  }

  epochOf(spiffe: string): number {
    return this.#held.get(spiffe)?.epoch ?? 0
  }
}

function makeContext(spiffe: string, chain: string, key: string, roots: string): tls.SecureContext {
  try {
    return tls.createSecureContext(optionsOf(chain, key, roots))
  } catch (error) {
    throw new MeshError('MSH0704', `the secret of ${spiffe} is not usable: ${reason(error)}`)
  }
}

function optionsOf(chain: string, key: string, roots: string): tls.SecureContextOptions {
  return {
    cert: chain,
    key,
    ca: roots,
    minVersion: 'TLSv1.3',
    ecdhCurve: groups,
    // Every connection proves itself: no tickets, no resumption.
    secureOptions: constants.SSL_OP_NO_TICKET,
  }
}

/**
 * Whether the peer's certificate (DER), whose chain TLS has verified, proves exactly this id and is a leaf; null when it
 * does, else why not.
 */
export function checkPeer(raw: Buffer | undefined, spiffe: string): string | null {
  try {
    const proven = identify(raw).id
    return proven === spiffe ? null : `the peer is ${proven}, wanted ${spiffe}`
  } catch (error) {
    return reason(error)
  }
}

/** The SPIFFE id that a verified leaf proves. Throws MSH0403. */
export function identify(raw: Buffer | undefined): ReturnType<typeof peerSpiffe> {
  if (raw !== undefined && new X509Certificate(raw).ca) {
    throw new MeshError('MSH0403', 'the peer showed a CA certificate as its own')
  }
  return peerSpiffe({ raw })
}
