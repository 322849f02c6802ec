// Sessions: what holds locks. A session ends when it is destroyed, not renewed in time, its node goes or one of its
// checks turns critical; its locks are then released or their keys deleted.
import { randomUUID } from 'node:crypto'
import type { Clock, Timer } from '../../clock.ts'
import type { Catalogue } from './catalogue.ts'
import { integer, json, text } from './database.ts'
import type { Database, Row, Write } from './database.ts'
import { Fault } from './fault.ts'
import type { KeyValue } from './keyvalue.ts'
import { duration } from './request.ts'

export interface SessionRecord {
  readonly id: string
  readonly name: string
  readonly node: string
  /** Milliseconds. */
  readonly lockDelay: number
  readonly behavior: 'release' | 'delete'
  /** As given, `15s`; '' for none. */
  readonly ttl: string
  readonly nodeChecks: readonly string[]
  /** The host whose token made it; '' for the management token. */
  readonly owner: string
  readonly created: number
  readonly modified: number
}

/** Consul ends a session between one and two times its TTL after the last renewal; this is what it does in practice. */
const grace = 2

export class Sessions {
  readonly #db: Database
  readonly #kv: KeyValue
  readonly #clock: Clock
  readonly #timers = new Map<string, Timer>()
  readonly #failed: (error: unknown) => void

  /** After a restart every session has its whole TTL again, as after a change of Consul's leader. */
  constructor(
    db: Database,
    kv: KeyValue,
    catalogue: Catalogue,
    clock: Clock,
    failed: (error: unknown) => void,
  ) {
    this.#db = db
    this.#kv = kv
    this.#clock = clock
    this.#failed = failed
    for (const session of this.list(null)) this.#arm(session.id, session.ttl)
    catalogue.lost((write, { node, check }) => {
      for (const session of this.list(node)) {
        if (check === null || session.nodeChecks.includes(check)) this.end(write, session.id)
      }
    })
  }

  get(id: string): SessionRecord | null {
    const row = this.#db.get('select * from sessions where id = ?', id)
    return row === undefined ? null : record(row)
  }

  /** Those of one node, or all. */
  list(node: string | null): SessionRecord[] {
    const rows =
      node === null
        ? this.#db.all('select * from sessions order by created, id')
        : this.#db.all('select * from sessions where node = ? order by created, id', node)
    return rows.map(record)
  }

  create(
    write: Write,
    asked: Omit<SessionRecord, 'id' | 'created' | 'modified'>,
    catalogue: Catalogue,
  ): string {
    if (catalogue.node(asked.node) === null) throw new Fault(500, 'Missing node registration')
    for (const id of asked.nodeChecks) {
      const check = catalogue.check(asked.node, id)
      if (check === null) throw new Fault(500, `Missing check '${id}' registration`)
      if (check.status === 'critical') throw new Fault(500, `Check '${id}' is in critical state`)
    }
    const id = randomUUID()
    this.#db.run(
      `insert into sessions (id, name, node, lock_delay, behavior, ttl, node_checks, owner, created, modified)
       values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      id,
      asked.name,
      asked.node,
      asked.lockDelay,
      asked.behavior,
      asked.ttl,
      JSON.stringify(asked.nodeChecks),
      asked.owner,
      write.index,
      write.index,
    )
    this.#touch(write, id, asked.node)
    this.#arm(id, asked.ttl)
    return id
  }

  /** False where it is gone. */
  renew(id: string): boolean {
    const session = this.get(id)
    if (session === null) return false
    this.#arm(id, session.ttl)
    return true
  }

  end(write: Write, id: string): void {
    const session = this.get(id)
    if (session === null) return
    this.#db.run('delete from sessions where id = ?', id)
    this.#kv.abandon(write, id, session.behavior, session.lockDelay)
    this.#touch(write, id, session.node)
    this.#timers.get(id)?.cancel()
    this.#timers.delete(id)
  }

  close(): void {
    for (const timer of this.#timers.values()) timer.cancel()
    this.#timers.clear()
  }

  #arm(id: string, ttl: string): void {
    this.#timers.get(id)?.cancel()
    this.#timers.delete(id)
    const ms = duration(ttl)
    if (ms === null || ms <= 0) return
    const timer = this.#clock.after(ms * grace, () => {
      this.#timers.delete(id)
      this.#db.write((write) => this.end(write, id)).catch(this.#failed)
    })
    this.#timers.set(id, timer)
  }

  #touch(write: Write, id: string, node: string): void {
    write.touch('sessions')
    write.touch(`session:${id}`)
    write.touch(`sessions:${node}`)
  }
}

function record(row: Row): SessionRecord {
  return {
    id: text(row, 'id'),
    name: text(row, 'name'),
    node: text(row, 'node'),
    lockDelay: integer(row, 'lock_delay'),
    behavior: text(row, 'behavior') === 'delete' ? 'delete' : 'release',
    ttl: text(row, 'ttl'),
    nodeChecks: json(row, 'node_checks') as string[],
    owner: text(row, 'owner'),
    created: integer(row, 'created'),
    modified: integer(row, 'modified'),
  }
}
