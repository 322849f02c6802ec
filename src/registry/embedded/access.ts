// Who may do what. The management token may do everything. A host's token reads what its mesh has and writes what is
// its own: its node in the catalogue, its sessions, its lease and its report. What it registers there and the virtual
// addresses it takes are those of services that it is entitled to speak for: whoever could register an instance of any
// service, or at any address, would draw other services' traffic to itself.
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { defaultNamespace } from '../../model/name.ts'
import { metaKeys } from '../../model/service.ts'
import { keys } from '../registry.ts'
import { text } from './database.ts'
import type { Database } from './database.ts'
import { denied, Fault } from './fault.ts'

/** What a host may say of itself in the catalogue. */
export interface Entitlement {
  /** The address at which it was joined, its node's and its instances' only one. */
  readonly address: string
  readonly services: readonly { readonly name: string; readonly namespace: string }[]
}

/** Asked at every write, so that a change holds at once. Null: the host is not known, or revoked. */
export type EntitlementOf = (host: string) => Entitlement | null

/** A token's holder. `revoked` is set while requests of it may still be waiting. */
export type Principal =
  | { readonly kind: 'anonymous' }
  | { readonly kind: 'management' }
  | {
      readonly kind: 'host'
      readonly host: string
      readonly mesh: string
      readonly entitlementOf: EntitlementOf
      revoked: boolean
    }

/**
 * A re-join makes a new token while the host still uses an old one, and may fail: the oldest go only when this many were
 * made since.
 */
const tokensPerHost = 16

const digest = (token: string): string => createHash('sha256').update(token).digest('hex')

export class Access {
  readonly #db: Database
  readonly #management: string
  readonly #entitlementOf: EntitlementOf
  readonly #hosts = new Map<string, Extract<Principal, { kind: 'host' }>>()

  constructor(db: Database, managementToken: string, entitlementOf: EntitlementOf) {
    if (managementToken.length < 16) throw new Error('the management token is too short to be a secret')
    this.#db = db
    this.#management = digest(managementToken)
    this.#entitlementOf = entitlementOf
    for (const row of db.all('select hash, host, mesh from tokens')) {
      this.#hosts.set(text(row, 'hash'), {
        kind: 'host',
        host: text(row, 'host'),
        mesh: text(row, 'mesh'),
        entitlementOf,
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
    this.#hosts.set(hash, { kind: 'host', host, mesh, entitlementOf: this.#entitlementOf, revoked: false })
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

/** `address` '' leaves the node as it is. */
export function mayRegisterNode(who: Principal, node: string, address: string): void {
  mayWriteNode(who, node)
  if (who.kind !== 'host' || address === '') return
  const entitlement = who.entitlementOf(who.host)
  if (entitlement === null) throw denied()
  if (address !== entitlement.address)
    throw refusal(`host ${who.host} was joined at ${entitlement.address} and cannot be at another address`)
}

/** An instance on a host's own node: of a service, at an address and with mesh fields that are the host's. */
export function mayRegister(
  who: Principal,
  instance: {
    readonly name: string
    readonly address: string
    readonly meta: Readonly<Record<string, string>> | null
  },
): void {
  if (who.kind === 'management') return
  if (who.kind === 'anonymous') throw denied()
  const entitlement = who.entitlementOf(who.host)
  if (entitlement === null) throw denied()
  const meta = instance.meta ?? {}
  const namespace = meta[metaKeys.namespace] ?? defaultNamespace
  if (!speaksFor(entitlement, instance.name, namespace))
    throw refusal(`host ${who.host} is not entitled to the service ${instance.name}.${namespace}`)
  if (instance.address !== '' && instance.address !== entitlement.address)
    throw refusal(`host ${who.host} was joined at ${entitlement.address} and cannot be at another address`)
  if ((meta[metaKeys.mesh] ?? who.mesh) !== who.mesh || (meta[metaKeys.host] ?? who.host) !== who.host)
    throw refusal(`an instance of host ${who.host} cannot say that it is of another host or mesh`)
}

export function speaksFor({ services }: Entitlement, name: string, namespace: string): boolean {
  return services.some((service) => service.name === name && service.namespace === namespace)
}

/** `created`: what is written, where the write takes place only if the key does not exist; else null. */
export function mayWriteKey(who: Principal, key: string, created: Uint8Array | null): void {
  if (who.kind === 'management') return
  if (who.kind === 'anonymous') throw denied()
  if (key === `${keys.leases(who.mesh)}${who.host}` || key === `${keys.reports(who.mesh)}${who.host}`) return
  // An address that is free may be claimed, for a service of its own; one that is taken would be another service's
  // traffic.
  if (created === null || !isVirtualAddress(who, key)) throw denied()
  const named = readClaim(created)
  const entitlement = who.entitlementOf(who.host)
  if (entitlement === null || named === null || !speaksFor(entitlement, named.service, named.namespace))
    throw denied()
}

export function isVirtualAddress(who: Extract<Principal, { kind: 'host' }>, key: string): boolean {
  return /^[0-9.]+$/.test(afterPrefix(key, keys.vips(who.mesh)))
}

/** The service that a claim of a virtual address names, in the one spelling of vip.ts; null: none. */
export function readClaim(value: Uint8Array): { service: string; namespace: string } | null {
  if (value.length > 1024) return null
  const text = Buffer.from(value).toString('utf8')
  const [, service, namespace] = /^\{"service":"([a-z0-9-]+)","namespace":"([a-z0-9-]+)"\}$/.exec(text) ?? []
  return service === undefined || namespace === undefined ? null : { service, namespace }
}

export function mayUseSession(who: Principal, owner: string): void {
  if (who.kind === 'management') return
  if (who.kind === 'anonymous' || owner !== who.host) throw denied()
}

function afterPrefix(key: string, prefix: string): string {
  return key.startsWith(prefix) ? key.slice(prefix.length) : ''
}

/** A denial that says what to mend: the token is good, what it asks for is not its host's. */
function refusal(why: string): Fault {
  return new Fault(403, `Permission denied: ${why}`)
}
