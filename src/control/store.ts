// What control must not forget: grants (by hash), hosts with their entitlement, and small facts. One SQLite file in
// state/. Every change is one transaction and on disk before it is answered.
import { chmodSync, mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { HostRecord } from '../api/signer.ts'

export type ServiceName = HostRecord['services'][number]

export interface GrantRow {
  /** SHA-256 of the grant, hex. The grant itself is nowhere. */
  readonly hash: string
  readonly host: string
  readonly address: string
  readonly services: readonly ServiceName[]
  readonly sshFingerprint: string
  readonly replace: boolean
  /** Milliseconds since the epoch. */
  readonly expiresAt: number
  readonly usedAt: number | null
}

export interface HostRow {
  readonly host: string
  readonly address: string
  readonly services: readonly ServiceName[]
  readonly sshFingerprint: string
  readonly joinedAt: number
  readonly renewedAt: number
  readonly revoked: boolean
}

type Row = Record<string, unknown>

const schema = `
create table if not exists grants (
  hash text primary key, host text not null, address text not null, services text not null, ssh text not null,
  replaces integer not null, expires integer not null, used integer) strict, without rowid;
create table if not exists hosts (
  host text primary key, address text not null, services text not null, ssh text not null,
  joined integer not null, renewed integer not null, revoked integer not null) strict, without rowid;
create table if not exists facts (name text primary key, value text not null) strict, without rowid;
`

export class Store {
  readonly #db: DatabaseSync

  /** `path` is a file, made 0600 in a folder made 0700, or `:memory:`. */
  constructor(path: string) {
    const onDisk = path !== ':memory:'
    if (onDisk) mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    this.#db = new DatabaseSync(path)
    if (onDisk) chmodSync(path, 0o600)
    // Waits for another process that has it open, rather than failing at once.
    this.#db.exec('pragma journal_mode = wal; pragma synchronous = full; pragma busy_timeout = 2000;')
    this.#db.exec(schema)
  }

  close(): void {
    this.#db.close()
  }

  addGrant(grant: Omit<GrantRow, 'usedAt'>): void {
    this.#db
      .prepare(
        'insert into grants (hash, host, address, services, ssh, replaces, expires) values (?, ?, ?, ?, ?, ?, ?)',
      )
      .run(
        grant.hash,
        grant.host,
        grant.address,
        JSON.stringify(grant.services),
        grant.sshFingerprint,
        grant.replace ? 1 : 0,
        grant.expiresAt,
      )
  }

  grant(hash: string): GrantRow | null {
    const row = this.#db.prepare('select * from grants where hash = ?').get(hash) as Row | undefined
    if (row === undefined) return null
    return {
      hash,
      host: String(row['host']),
      address: String(row['address']),
      services: readServices(row['services']),
      sshFingerprint: String(row['ssh']),
      replace: row['replaces'] === 1,
      expiresAt: Number(row['expires']),
      usedAt: row['used'] === null ? null : Number(row['used']),
    }
  }

  /** Uses the grant up and records its host, both or neither; false when another join used it first. */
  redeem(grant: GrantRow, now: number): boolean {
    return this.#transaction(() => {
      const { changes } = this.#db
        .prepare('update grants set used = ? where hash = ? and used is null and expires > ?')
        .run(now, grant.hash, now)
      if (changes !== 1) return false
      this.#db
        .prepare(
          `insert into hosts (host, address, services, ssh, joined, renewed, revoked) values (?, ?, ?, ?, ?, ?, 0)
           on conflict (host) do update set address = excluded.address, services = excluded.services,
             ssh = excluded.ssh, joined = excluded.joined, renewed = excluded.renewed, revoked = 0`,
        )
        .run(grant.host, grant.address, JSON.stringify(grant.services), grant.sshFingerprint, now, now)
      return true
    })
  }

  /** Grants stay for a day after their end, so that a late use is told what happened. */
  dropGrants(expiredBefore: number): void {
    this.#db.prepare('delete from grants where expires < ?').run(expiredBefore)
  }

  host(name: string): HostRow | null {
    const row = this.#db.prepare('select * from hosts where host = ?').get(name) as Row | undefined
    return row === undefined ? null : readHost(row)
  }

  hosts(): HostRow[] {
    return (this.#db.prepare('select * from hosts order by host').all() as Row[]).map(readHost)
  }

  countHosts(): number {
    const row = this.#db.prepare('select count(*) as n from hosts where revoked = 0').get() as Row
    return Number(row['n'])
  }

  renewed(host: string, now: number): void {
    this.#db.prepare('update hosts set renewed = ? where host = ?').run(now, host)
  }

  entitle(host: string, services: readonly ServiceName[]): void {
    this.#db.prepare('update hosts set services = ? where host = ?').run(JSON.stringify(services), host)
  }

  /** Marks a host revoked and ends grants for it that are still open. */
  revoke(host: string, now: number): void {
    this.#transaction(() => {
      this.#db.prepare('update hosts set revoked = 1 where host = ?').run(host)
      this.#db.prepare('update grants set used = ? where host = ? and used is null').run(now, host)
      return true
    })
  }

  fact(name: string): string | null {
    const row = this.#db.prepare('select value from facts where name = ?').get(name) as Row | undefined
    return row === undefined ? null : String(row['value'])
  }

  setFact(name: string, value: string): void {
    this.#db
      .prepare(
        'insert into facts (name, value) values (?, ?) on conflict (name) do update set value = excluded.value',
      )
      .run(name, value)
  }

  #transaction(run: () => boolean): boolean {
    this.#db.exec('begin immediate')
    try {
      const done = run()
      this.#db.exec('commit')
      return done
    } catch (error) {
      this.#db.exec('rollback')
      throw error
    }
  }
}

function readHost(row: Row): HostRow {
  return {
    host: String(row['host']),
    address: String(row['address']),
    services: readServices(row['services']),
    sshFingerprint: String(row['ssh']),
    joinedAt: Number(row['joined']),
    renewedAt: Number(row['renewed']),
    revoked: row['revoked'] === 1,
  }
}

function readServices(text: unknown): ServiceName[] {
  return JSON.parse(String(text)) as ServiceName[]
}
