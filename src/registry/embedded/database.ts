// The embedded registry's state in one SQLite file: one writer, one index that only grows, and which topics changed at
// which index. Writes that arrive in the same turn of the event loop share one commit, so that a thousand hosts that
// renew their leases cost a few fsyncs a second.
import { chmodSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import type { SQLInputValue, SQLOutputValue, StatementSync } from 'node:sqlite'

export type Row = Record<string, SQLOutputValue>

/** One write within a commit. Everything that it changes carries `index`. */
export interface Write {
  readonly index: number
  /** Says that what readers of `topic` see has changed. */
  touch(topic: string): void
}

const schema = `
create table if not exists facts (name text primary key, value integer not null) strict;
create table if not exists topics (topic text primary key, at integer not null) strict, without rowid;
create table if not exists nodes (
  node text primary key, id text not null, address text not null, tagged text not null, meta text not null,
  created integer not null, modified integer not null) strict, without rowid;
create table if not exists services (
  node text not null, id text not null, name text not null, tags text not null, address text not null,
  port integer not null, meta text not null, weights text not null, override integer not null,
  created integer not null, modified integer not null, primary key (node, id)) strict, without rowid;
create index if not exists services_name on services (name);
create table if not exists checks (
  node text not null, id text not null, name text not null, status text not null, notes text not null,
  output text not null, service_id text not null, service_name text not null, service_tags text not null,
  type text not null, created integer not null, modified integer not null, primary key (node, id)) strict, without rowid;
create index if not exists checks_service on checks (service_name);
create table if not exists kv (
  key text primary key, value blob not null, flags integer not null, session text not null, locks integer not null,
  created integer not null, modified integer not null) strict, without rowid;
create index if not exists kv_session on kv (session) where session <> '';
create table if not exists tombstones (key text primary key, at integer not null, died integer not null)
  strict, without rowid;
create table if not exists sessions (
  id text primary key, name text not null, node text not null, lock_delay integer not null, behavior text not null,
  ttl text not null, node_checks text not null, owner text not null,
  created integer not null, modified integer not null) strict, without rowid;
create table if not exists local_checks (id text primary key, ttl integer not null) strict, without rowid;
create table if not exists tokens (hash text primary key, host text not null, mesh text not null, made integer not null)
  strict, without rowid;
`

interface Pending {
  run(write: Write): void
  settle(): void
  fail(error: unknown): void
}

export class Database {
  readonly #db: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()
  readonly #listeners: ((topics: ReadonlySet<string>) => void)[] = []
  #pending: Pending[] = []
  #scheduled = false
  #index: number
  #closed = false

  constructor(path: string) {
    this.#db = new DatabaseSync(path, { timeout: 5000 })
    if (path !== ':memory:') chmodSync(path, 0o600)
    // FULL: a commit that was answered survives a power cut as well as kill -9.
    this.#db.exec(
      'pragma journal_mode=wal; pragma synchronous=full; pragma foreign_keys=on; pragma trusted_schema=off',
    )
    this.#db.exec(schema)
    this.#index = Number(this.get(`select value from facts where name = 'index'`)?.['value'] ?? 1)
  }

  /** The index of the last write. */
  get index(): number {
    return this.#index
  }

  get(sql: string, ...values: SQLInputValue[]): Row | undefined {
    return this.#statement(sql).get(...values)
  }

  all(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.#statement(sql).all(...values)
  }

  /** Only inside `write`. The number of rows changed. */
  run(sql: string, ...values: SQLInputValue[]): number {
    return Number(this.#statement(sql).run(...values).changes)
  }

  /** When a topic last changed; `floor` where it never did. */
  changedAt(topic: string, floor: number = 1): number {
    return Number(this.get('select at from topics where topic = ?', topic)?.['at'] ?? floor)
  }

  /**
   * Runs `apply` in the next commit and resolves when it is on disk. What `apply` throws undoes its own changes only
   * and rejects.
   */
  write<T>(apply: (write: Write) => T): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    if (this.#closed) {
      reject(new Error('the registry is closed'))
      return promise
    }
    let result: { value: T } | null = null
    this.#pending.push({
      run: (write) => {
        result = { value: apply(write) }
      },
      settle: () => {
        if (result !== null) resolve(result.value)
      },
      fail: reject,
    })
    if (!this.#scheduled) {
      this.#scheduled = true
      setImmediate(() => this.#flush())
    }
    return promise
  }

  /** Told after each commit, with everything that it touched. */
  committed(listener: (topics: ReadonlySet<string>) => void): void {
    this.#listeners.push(listener)
  }

  close(): void {
    this.#flush()
    this.#closed = true
    this.#statements.clear()
    this.#db.close()
  }

  #flush(): void {
    this.#scheduled = false
    const batch = this.#pending
    this.#pending = []
    if (batch.length === 0 || this.#closed) return
    const before = this.#index
    const topics = new Set<string>()
    const done: Pending[] = []
    try {
      this.#db.exec('begin immediate')
      for (const pending of batch) if (this.#attempt(pending, topics)) done.push(pending)
      this.run(`insert or replace into facts (name, value) values ('index', ?)`, this.#index)
      this.#db.exec('commit')
    } catch (error) {
      this.#index = before
      if (this.#db.isTransaction) this.#db.exec('rollback')
      for (const pending of batch) pending.fail(error)
      return
    }
    for (const pending of done) pending.settle()
    if (topics.size > 0) for (const listener of this.#listeners) listener(topics)
  }

  #attempt(pending: Pending, topics: Set<string>): boolean {
    const mine = new Set<string>()
    const index = this.#index + 1
    this.#db.exec('savepoint one')
    try {
      pending.run({ index, touch: (topic) => mine.add(topic) })
      for (const topic of mine) {
        // Keys carry their own index, sessions share one: a row for each that ever was would stay for good.
        if (topic.startsWith('key:') || topic.startsWith('session:')) continue
        this.run('insert or replace into topics (topic, at) values (?, ?)', topic, index)
      }
      this.#db.exec('release one')
    } catch (error) {
      this.#db.exec('rollback to one; release one')
      pending.fail(error)
      return false
    }
    if (mine.size > 0) this.#index = index
    for (const topic of mine) topics.add(topic)
    return true
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql)
    if (statement === undefined) {
      statement = this.#db.prepare(sql)
      this.#statements.set(sql, statement)
    }
    return statement
  }
}

/** Readers of columns whose type the schema fixes. */
export const text = (row: Row, column: string): string => String(row[column])
export const integer = (row: Row, column: string): number => Number(row[column])
export const json = (row: Row, column: string): unknown => JSON.parse(String(row[column]))
