// Grants: single-use permissions to join, bound to one host, its services and its SSH host key. 256 random bits of which
// only the hash is kept.
import { createHash, randomBytes } from 'node:crypto'
import type { GrantReply, GrantRequest } from '../api/signer.ts'
import type { Clock } from '../clock.ts'
import { MeshError } from '../errors.ts'
import { fingerprint } from './body.ts'
import type { GrantRow, Store } from './store.ts'

export const grantLifeMs = 15 * 60_000
const keepExpiredMs = 24 * 3_600_000

export function createGrant(store: Store, clock: Clock, wanted: GrantRequest): GrantReply {
  const now = clock.now()
  const sshFingerprint = fingerprint(wanted.sshHostKey)
  checkSshKey(store, wanted.host, sshFingerprint, wanted.replace)
  store.dropGrants(now - keepExpiredMs)
  const grant = randomBytes(32).toString('base64url')
  const expiresAt = now + grantLifeMs
  store.addGrant({
    hash: hashOf(grant),
    host: wanted.host,
    address: wanted.address,
    services: wanted.services,
    sshFingerprint,
    replace: wanted.replace,
    expiresAt,
  })
  return { grant, expiresAt: new Date(expiresAt).toISOString() }
}

/** The grant as recorded, if it may still be used for `host`. It is not used up yet: `Store.redeem` does that. */
export function findGrant(store: Store, clock: Clock, grant: string, host: string): GrantRow {
  const row = store.grant(hashOf(grant))
  const hint = 'run `meshctl join` again: it asks for a new grant'
  if (row === null) throw new MeshError('MSH0406', 'the grant is unknown', { hint })
  if (row.usedAt !== null) throw alreadyUsed()
  if (row.expiresAt <= clock.now()) {
    throw new MeshError('MSH0407', `the grant expired at ${new Date(row.expiresAt).toISOString()}`, { hint })
  }
  if (row.host !== host) throw new MeshError('MSH0408', `the grant is not for the host ${host}`)
  // Another join may have recorded the host since the grant was made.
  checkSshKey(store, row.host, row.sshFingerprint, row.replace)
  return row
}

export function alreadyUsed(): MeshError {
  return new MeshError('MSH0406', 'the grant was used before', {
    hint: 'run `meshctl join` again: it asks for a new grant',
  })
}

function checkSshKey(store: Store, host: string, sshFingerprint: string, replace: boolean): void {
  const known = store.host(host)
  if (known === null || replace || known.sshFingerprint === sshFingerprint) return
  throw new MeshError('MSH0409', `the host ${host} is known under another SSH key, ${known.sshFingerprint}`, {
    hint: 'if it was reinstalled, run `meshctl join --replace`',
  })
}

function hashOf(grant: string): string {
  return createHash('sha256').update(grant).digest('hex')
}
