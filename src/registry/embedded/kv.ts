// /v1/kv/<key>
import type { Database } from './database.ts'
import type { KeyValue, Pair } from './keyvalue.ts'
import { maxValueBytes } from './keyvalue.ts'
import type { Call, Reply, Route } from './request.ts'
import type { Answer, Watch } from './waits.ts'
import { answer, ok, unsigned } from './request.ts'
import { Fault } from './fault.ts'
import { denied } from './fault.ts'
import { isVirtualAddress, mayReadKey, mayUseSession, mayWriteKey } from './access.ts'
import type { Principal } from './access.ts'
import { text } from './database.ts'

const empty = Buffer.alloc(0)

/** An entry as Consul writes it. */
export function entry(pair: Pair, value: boolean = true): Record<string, unknown> {
  return {
    LockIndex: pair.locks,
    Key: pair.key,
    Flags: pair.flags,
    Value: value && pair.value.length > 0 ? Buffer.from(pair.value).toString('base64') : null,
    ...(pair.session === '' ? {} : { Session: pair.session }),
    CreateIndex: pair.created,
    ModifyIndex: pair.modified,
  }
}

export function kvRoutes(db: Database, kv: KeyValue): Route[] {
  return [
    { method: 'GET', path: 'kv/*', handle: (call) => read(kv, call) },
    { method: 'PUT', path: 'kv/*', handle: (call) => put(db, kv, call) },
    { method: 'DELETE', path: 'kv/*', handle: (call) => remove(db, kv, call) },
  ]
}

function read(kv: KeyValue, { rest: key, query, who }: Call): Watch {
  mayReadKey(who, key)
  if (query.has('keys')) {
    const separator = query.get('separator') ?? ''
    return {
      topic: `prefix:${key}`,
      question: `keys ${separator}`,
      read: () => found(kv.indexUnder(key), kv.keys(key, separator)),
    }
  }
  if (query.has('recurse')) {
    return {
      topic: `prefix:${key}`,
      question: 'recurse',
      read: () =>
        found(
          kv.indexUnder(key),
          kv.list(key).map((pair) => entry(pair)),
        ),
    }
  }
  if (key === '') throw new Fault(400, 'Missing key name')
  const raw = query.has('raw')
  return {
    topic: `key:${key}`,
    question: raw ? 'raw' : 'get',
    read: () => {
      const pair = kv.get(key)
      const index = kv.indexOf(key)
      if (pair === null || !raw) return found(index, pair === null ? [] : [entry(pair)])
      return { status: 200, index, type: 'text/plain', body: Buffer.from(pair.value) }
    },
  }
}

function found(index: number, items: readonly unknown[]): Answer {
  return items.length > 0 ? answer(index, items) : { status: 404, index, type: '', body: empty }
}

async function put(db: Database, kv: KeyValue, { rest: key, query, body, who }: Call): Promise<Reply> {
  if (key === '') throw new Fault(400, 'Missing key name')
  if (body.length > maxValueBytes) throw tooLarge(body.length)
  const flags = unsigned(query, 'flags') ?? 0
  const cas = unsigned(query, 'cas')
  const acquire = query.get('acquire')
  const release = query.get('release')
  if ([cas, acquire, release].filter((value) => value !== null).length > 1) {
    throw new Fault(400, 'Conflicting flags: at most one of cas, acquire and release')
  }
  mayWriteKey(who, key, cas === 0 ? body : null)
  const session = acquire ?? release
  if (session !== null) mayLock(db, who, session)
  return ok(
    await db.write((write) => {
      if (cas !== null) return kv.cas(write, key, body, flags, cas) && mayKeep(kv, who, key, body)
      if (acquire !== null) return kv.acquire(write, key, body, flags, acquire)
      if (release !== null) return kv.release(write, key, body, flags, release)
      kv.set(write, key, body, flags)
      return true
    }),
  )
}

async function remove(db: Database, kv: KeyValue, { rest: key, query, who }: Call): Promise<Reply> {
  const cas = unsigned(query, 'cas')
  const recurse = query.has('recurse')
  if (key === '' && !recurse) throw new Fault(400, 'Missing key name')
  if (recurse && cas !== null) throw new Fault(400, 'Conflicting flags: recurse and cas')
  // A tree reaches beyond the one key that a host may own.
  mayWriteKey(who, recurse ? `${key}*` : key, null)
  return ok(
    await db.write((write) => {
      if (cas !== null) return kv.deleteCas(write, key, cas)
      if (recurse) kv.deleteTree(write, key)
      else kv.delete(write, key)
      return true
    }),
  )
}

/** Hosts that claim for one service at the same time may take two; whoever takes more takes them from others. */
const maxAddresses = 8

/** True, or a denial that undoes the write that took one virtual address too many. */
export function mayKeep(kv: KeyValue, who: Principal, key: string, value: Uint8Array): true {
  if (who.kind === 'host' && isVirtualAddress(who, key)) {
    const prefix = key.slice(0, key.lastIndexOf('/') + 1)
    if (kv.count(prefix, value) > maxAddresses) throw denied()
  }
  return true
}

/** Only the host that made a session may lock with it. One that is gone is refused by the lock itself. */
export function mayLock(db: Database, who: Principal, session: string): void {
  const row = db.get('select owner from sessions where id = ?', session)
  if (row !== undefined) mayUseSession(who, text(row, 'owner'))
}

export function tooLarge(bytes: number): Fault {
  return new Fault(413, `Request body(${bytes} bytes) too large, max size: ${maxValueBytes} bytes`)
}
