// The key-value store: entries with create, modify and lock indexes, check-and-set, locks held by sessions, tombstones.
import type { Clock } from '../../clock.ts'
import { integer, text } from './database.ts'
import type { Database, Row, Write } from './database.ts'
import { Fault } from './fault.ts'

/** Consul's kv_max_value_size. */
export const maxValueBytes = 512 * 1024

/** How long a deleted key is remembered by itself; afterwards a floor under all of the store stands in for it. */
const tombstoneMs = 15 * 60_000

export interface Pair {
  readonly key: string
  readonly value: Uint8Array
  readonly flags: number
  readonly session: string
  readonly locks: number
  readonly created: number
  readonly modified: number
}

/** Above every key that starts with `prefix`: no code point sorts after this one. */
const beyond = (prefix: string): string => `${prefix}\u{10FFFF}`

export class KeyValue {
  readonly #db: Database
  readonly #clock: Clock
  /** Keys that a lost lock keeps closed, until when (monotonic); as in Consul, not kept over a restart. */
  readonly #delays = new Map<string, number>()

  constructor(db: Database, clock: Clock) {
    this.#db = db
    this.#clock = clock
  }

  get(key: string): Pair | null {
    const row = this.#db.get('select * from kv where key = ?', key)
    return row === undefined ? null : pair(row)
  }

  list(prefix: string): Pair[] {
    return this.#db
      .all('select * from kv where key >= ? and key < ? order by key', prefix, beyond(prefix))
      .map(pair)
  }

  /** How many keys under a prefix hold exactly this. */
  count(prefix: string, value: Uint8Array): number {
    const row = this.#db.get(
      'select count(*) as n from kv where key >= ? and key < ? and value = ?',
      prefix,
      beyond(prefix),
      value,
    )
    return Number(row?.['n'] ?? 0)
  }

  /** Keys under a prefix, cut after the first `separator` beyond it. */
  keys(prefix: string, separator: string): string[] {
    const found = this.#db.all(
      'select key from kv where key >= ? and key < ? order by key',
      prefix,
      beyond(prefix),
    )
    const names = found.map((row) => text(row, 'key'))
    if (separator === '') return names
    const cut = names.map((name) => {
      const at = name.indexOf(separator, prefix.length)
      return at === -1 ? name : name.slice(0, at + separator.length)
    })
    return [...new Set(cut)]
  }

  /** When `key` last changed, deletion included. */
  indexOf(key: string): number {
    const row =
      this.#db.get('select modified as at from kv where key = ?', key) ??
      this.#db.get('select at from tombstones where key = ?', key)
    return row === undefined ? this.#floor() : integer(row, 'at')
  }

  /** When anything under `prefix` last changed. */
  indexUnder(prefix: string): number {
    const newest = (table: string, column: string): number =>
      Number(
        this.#db.get(
          `select max(${column}) as at from ${table} where key >= ? and key < ?`,
          prefix,
          beyond(prefix),
        )?.['at'] ?? 0,
      )
    return Math.max(newest('kv', 'modified'), newest('tombstones', 'at'), this.#floor())
  }

  set(write: Write, key: string, value: Uint8Array, flags: number): void {
    const old = this.get(key)
    this.#store(write, old, { key, value, flags, session: old?.session ?? '', locks: old?.locks ?? 0 })
  }

  /** Index 0: only where there is no such key. */
  cas(write: Write, key: string, value: Uint8Array, flags: number, index: number): boolean {
    if ((this.get(key)?.modified ?? 0) !== index) return false
    this.set(write, key, value, flags)
    return true
  }

  delete(write: Write, key: string): void {
    if (this.#db.run('delete from kv where key = ?', key) > 0) this.#bury(write, key)
  }

  deleteCas(write: Write, key: string, index: number): boolean {
    const old = this.get(key)
    if (old === null) return true
    if (index === 0 || old.modified !== index) return false
    this.delete(write, key)
    return true
  }

  deleteTree(write: Write, prefix: string): void {
    for (const key of this.keys(prefix, '')) this.delete(write, key)
  }

  /** Throws where the session is unknown; false where another holds the lock or its delay runs. */
  acquire(write: Write, key: string, value: Uint8Array, flags: number, session: string): boolean {
    if (this.#db.get('select id from sessions where id = ?', session) === undefined) {
      throw new Fault(500, `invalid session ${JSON.stringify(session)}`)
    }
    const until = this.#delays.get(key)
    if (until !== undefined) {
      if (until > this.#clock.monotonic()) return false
      this.#delays.delete(key)
    }
    const old = this.get(key)
    if (old !== null && old.session !== '' && old.session !== session) return false
    // The lock index counts how often the lock was taken, not how often its holder wrote.
    const locks = (old?.locks ?? 0) + (old?.session === session ? 0 : 1)
    this.#store(write, old, { key, value, flags, session, locks })
    return true
  }

  release(write: Write, key: string, value: Uint8Array, flags: number, session: string): boolean {
    const old = this.get(key)
    if (old === null || old.session !== session || session === '') return false
    this.#store(write, old, { key, value, flags, session: '', locks: old.locks })
    return true
  }

  /** The session is gone: its locks are released or its keys deleted, and closed to others for `delayMs`. */
  abandon(write: Write, session: string, behavior: string, delayMs: number): void {
    for (const row of this.#db.all(`select * from kv where session = ? and session <> ''`, session)) {
      const held = pair(row)
      if (behavior === 'delete') this.delete(write, held.key)
      else this.#store(write, held, { ...held, session: '' })
      if (delayMs > 0) this.#delays.set(held.key, this.#clock.monotonic() + delayMs)
    }
  }

  #store(write: Write, old: Pair | null, next: Omit<Pair, 'created' | 'modified'>): void {
    // As in Consul, what is equal to what is there is no change: no index, nobody woken.
    if (old !== null && same(old, next)) return
    this.#db.run(
      'insert or replace into kv (key, value, flags, session, locks, created, modified) values (?, ?, ?, ?, ?, ?, ?)',
      next.key,
      next.value,
      next.flags,
      next.session,
      next.locks,
      old?.created ?? write.index,
      write.index,
    )
    if (old === null) this.#db.run('delete from tombstones where key = ?', next.key)
    write.touch(`key:${next.key}`)
  }

  #bury(write: Write, key: string): void {
    const now = this.#clock.now()
    this.#db.run('insert or replace into tombstones (key, at, died) values (?, ?, ?)', key, write.index, now)
    write.touch(`key:${key}`)
    const newest = this.#db.get('select max(at) as at from tombstones where died < ?', now - tombstoneMs)?.[
      'at'
    ]
    if (newest === null || newest === undefined) return
    // The floor keeps indexes from going back when the tombstones that carried them go.
    this.#db.run(
      `insert or replace into facts (name, value) values ('floor', ?)`,
      Math.max(this.#floor(), Number(newest)),
    )
    this.#db.run('delete from tombstones where died < ?', now - tombstoneMs)
  }

  #floor(): number {
    return Number(this.#db.get(`select value from facts where name = 'floor'`)?.['value'] ?? 1)
  }
}

function same(a: Pair, b: Omit<Pair, 'created' | 'modified'>): boolean {
  return (
    a.flags === b.flags &&
    a.session === b.session &&
    a.locks === b.locks &&
    Buffer.compare(a.value, b.value) === 0
  )
}

function pair(row: Row): Pair {
  const value = row['value']
  return {
    key: text(row, 'key'),
    value: value instanceof Uint8Array ? value : new Uint8Array(0),
    flags: integer(row, 'flags'),
    session: text(row, 'session'),
    locks: integer(row, 'locks'),
    created: integer(row, 'created'),
    modified: integer(row, 'modified'),
  }
}
