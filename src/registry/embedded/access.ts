// Who may do what. The management token may do everything. A host's token reads what its mesh has and writes what is
// its own: its node in the catalogue, its sessions, its lease and its report, and virtual addresses that are still free.
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { keys } from '../registry.ts'
import { text } from './database.ts'
import type { Database } from './database.ts'
import { denied } from './fault.ts'

/** A token's holder. `revoked` is set while requests of it may still be waiting. */
export type Principal =
  | { readonly kind: 'anonymous' }
  | { readonly kind: 'management' }
  | { readonly kind: 'host'; readonly host: string; readonly mesh: string; revoked: boolean }

/**
 * A re-join makes a new token while the host still uses an old one, and may fail: the oldest go only when this many were
 * made since.
 */
const tokensPerHost = 16

const digest = (token: string): string => createHash('sha256').update(token).digest('hex')

export class Access {
  readonly #db: Database
  readonly #management: string
  readonly #hosts = new Map<string, Extract<Principal, { kind: 'host' }>>()

  constructor(db: Database, managementToken: string) {
    if (managementToken.length < 16) throw new Error('the management token is too short to be a secret')
    this.#db = db
    this.#management = digest(managementToken)
    for (const row of db.all('select hash, host, mesh from tokens')) {
      this.#hosts.set(text(row, 'hash'), {
        kind: 'host',
        host: text(row, 'host'),
        mesh: text(row, 'mesh'),
        revoked: false,
      })
    }
  }

  /** Throws 403 for a token that nobody holds. */
  who(token: string | null): Principal {
    if (token === null || token === '' || token === 'anonymous') return { kind: 'anonymous' }
    const hash = digest(token)
    if (timingSafeEqual(Buffer.from(hash), Buffer.from(this.#management))) return { kind: 'management' }
    const host = this.#hosts.get(hash)
    if (host === undefined) throw denied()
    return host
  }

  /** A new token for a host, 256 bits; only its hash is stored. */
  async create(host: string, mesh: string): Promise<string> {
    const token = randomBytes(32).toString('base64url')
    const hash = digest(token)
    const dropped = await this.#db.write(() => {
      this.#db.run(
        'insert into tokens (hash, host, mesh, made) values (?, ?, ?, (select coalesce(max(made), 0) + 1 from tokens))',
        hash,
        host,
        mesh,
      )
      const rest = this.#db.all(
        'select hash from tokens where host = ? order by made desc limit -1 offset ?',
        host,
        tokensPerHost,
      )
      for (const row of rest) this.#db.run('delete from tokens where hash = ?', text(row, 'hash'))
      return rest.map((row) => text(row, 'hash'))
    })
    for (const old of dropped) this.#forget(old)
    this.#hosts.set(hash, { kind: 'host', host, mesh, revoked: false })
    return token
  }

  /** Ends every token of a host at once, waiting requests included. */
  async revoke(host: string): Promise<void> {
    await this.#db.write(() => this.#db.run('delete from tokens where host = ?', host))
    for (const [hash, principal] of this.#hosts) if (principal.host === host) this.#forget(hash)
  }

  #forget(hash: string): void {
    const principal = this.#hosts.get(hash)
    if (principal !== undefined) principal.revoked = true
    this.#hosts.delete(hash)
  }
}

/** The catalogue, the states of checks, sessions and the server's own state. */
export function mayRead(who: Principal): void {
  if (who.kind === 'anonymous') throw denied()
}

export function mayManage(who: Principal): void {
  if (who.kind !== 'management') throw denied()
}

export function mayReadKey(who: Principal, key: string): void {
  if (who.kind === 'management') return
  if (who.kind === 'anonymous' || !key.startsWith(`meshctl/${who.mesh}/`)) throw denied()
}

export function mayWriteNode(who: Principal, node: string): void {
  if (who.kind === 'management') return
  if (who.kind === 'anonymous' || node !== who.host) throw denied()
}

/** `create`: the write takes place only where the key does not exist. */
export function mayWriteKey(who: Principal, key: string, create: boolean): void {
  if (who.kind === 'management') return
  if (who.kind === 'anonymous') throw denied()
  if (key === `${keys.leases(who.mesh)}${who.host}` || key === `${keys.reports(who.mesh)}${who.host}`) return
  // An address that is free may be claimed; one that is taken would be another service's traffic.
  if (create && /^[0-9.]+$/.test(afterPrefix(key, keys.vips(who.mesh)))) return
  throw denied()
}

export function mayUseSession(who: Principal, owner: string): void {
  if (who.kind === 'management') return
  if (who.kind === 'anonymous' || owner !== who.host) throw denied()
}

function afterPrefix(key: string, prefix: string): string {
  return key.startsWith(prefix) ? key.slice(prefix.length) : ''
}
