// /v1/txn: up to 64 operations on keys, all or nothing; where one does not hold the answer says which and why.
import type { Database, Write } from './database.ts'
import { mayReadKey, mayWriteKey } from './access.ts'
import type { Principal } from './access.ts'
import { Fault } from './fault.ts'
import type { KeyValue, Pair } from './keyvalue.ts'
import { maxValueBytes } from './keyvalue.ts'
import { entry, mayKeep, mayLock, tooLarge } from './kv.ts'
import { integerField, isObject, jsonBody, objectField, ok, parseArray, stringField } from './request.ts'
import type { Call, Reply, Route } from './request.ts'

const maxOperations = 64

interface Operation {
  readonly verb: string
  readonly key: string
  readonly value: Uint8Array
  readonly flags: number
  readonly index: number
  readonly session: string
}

/** What one operation brings: pairs for the results, or why it does not hold. */
type Outcome = { readonly pairs: readonly Pair[]; readonly values: boolean } | { readonly what: string }

interface Mistake {
  readonly OpIndex: number
  readonly What: string
}

/** Undoes the transaction. */
class Conflict extends Error {
  readonly mistakes: readonly Mistake[]

  constructor(mistakes: readonly Mistake[]) {
    super('transaction rolled back')
    this.mistakes = mistakes
  }
}

export function txnRoutes(db: Database, kv: KeyValue): Route[] {
  return [{ method: 'PUT', path: 'txn', handle: (call) => transact(db, kv, call) }]
}

async function transact(db: Database, kv: KeyValue, { body, who }: Call): Promise<Reply> {
  if (body.length > maxValueBytes) throw tooLarge(body.length)
  const asked = parseArray(body)
  if (asked.length > maxOperations) {
    throw new Fault(413, `Transaction contains too many operations (${asked.length} > ${maxOperations})`)
  }
  const operations = asked.map(parse)
  const refused = operations.flatMap((operation, at) => {
    const what = mayDo(db, who, operation)
    return what === null ? [] : [{ OpIndex: at, What: what }]
  })
  if (refused.length > 0) return conflict(refused)
  try {
    const results = await db.write((write) => {
      const outcomes = operations.map((operation) => {
        const outcome = run(write, kv, operation)
        if (operation.verb === 'cas') mayKeep(kv, who, operation.key, operation.value)
        return outcome
      })
      const mistakes = outcomes.flatMap((outcome, at) =>
        'what' in outcome ? [{ OpIndex: at, What: outcome.what }] : [],
      )
      if (mistakes.length > 0) throw new Conflict(mistakes)
      return outcomes.flatMap((outcome) =>
        'pairs' in outcome ? outcome.pairs.map((pair) => ({ KV: entry(pair, outcome.values) })) : [],
      )
    })
    return ok({ Results: results, Errors: null })
  } catch (error) {
    if (error instanceof Conflict) return conflict(error.mistakes)
    throw error
  }
}

function conflict(mistakes: readonly Mistake[]): Reply {
  return { status: 409, type: 'application/json', body: jsonBody({ Results: null, Errors: mistakes }) }
}

function parse(item: unknown): Operation {
  const asked = isObject(item) ? objectField(item, 'KV') : null
  if (asked === null) {
    throw new Fault(400, 'Failed to parse body: the embedded registry takes operations on KV only')
  }
  const value = stringField(asked, 'Value')
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(value)) throw new Fault(400, 'Failed to parse body: Value is not base64')
  return {
    verb: stringField(asked, 'Verb'),
    key: stringField(asked, 'Key'),
    value: Buffer.from(value, 'base64'),
    flags: integerField(asked, 'Flags'),
    index: integerField(asked, 'Index'),
    session: stringField(asked, 'Session'),
  }
}

const reading = new Set(['get', 'get-tree', 'check-index', 'check-session', 'check-not-exists'])

/** Null where it is allowed; as in Consul a denial is told like any other reason. */
function mayDo(db: Database, who: Principal, { verb, key, value, index, session }: Operation): string | null {
  try {
    if (reading.has(verb)) mayReadKey(who, key)
    else
      mayWriteKey(who, verb === 'delete-tree' ? `${key}*` : key, verb === 'cas' && index === 0 ? value : null)
    if (verb === 'lock' || verb === 'unlock') mayLock(db, who, session)
    return null
  } catch (error) {
    if (error instanceof Fault && error.status === 403) return error.message
    throw error
  }
}

const none = { pairs: [], values: false } as const

function run(write: Write, kv: KeyValue, { verb, key, value, flags, index, session }: Operation): Outcome {
  const quoted = JSON.stringify(key)
  const old = kv.get(key)
  /** What a write left behind, without its value. */
  const written = (): Outcome => {
    const pair = kv.get(key)
    return pair === null ? none : { pairs: [pair], values: false }
  }
  switch (verb) {
    case 'set':
      kv.set(write, key, value, flags)
      return written()
    case 'cas':
      return kv.cas(write, key, value, flags, index)
        ? written()
        : { what: `failed to set key ${quoted}, index is stale` }
    case 'lock':
      try {
        return kv.acquire(write, key, value, flags, session)
          ? written()
          : { what: `failed to lock key ${quoted}, lock is already held` }
      } catch (error) {
        if (error instanceof Fault) return { what: error.message }
        throw error
      }
    case 'unlock':
      return kv.release(write, key, value, flags, session)
        ? written()
        : { what: `failed to unlock key ${quoted}, lock isn't held, or is held by another session` }
    case 'get':
      return old === null ? { what: `key ${quoted} doesn't exist` } : { pairs: [old], values: true }
    case 'get-tree':
      return { pairs: kv.list(key), values: true }
    case 'check-index':
      if (old === null) return { what: `failed to check index, key ${quoted} doesn't exist` }
      return old.modified === index
        ? { pairs: [old], values: false }
        : { what: `failed index check for key ${quoted}, current modify index ${old.modified} != ${index}` }
    case 'check-session':
      if (old === null) return { what: `failed to check session, key ${quoted} doesn't exist` }
      return old.session === session
        ? { pairs: [old], values: false }
        : {
            what: `failed session check for key ${quoted}, current session ${JSON.stringify(old.session)} != ${JSON.stringify(session)}`,
          }
    case 'check-not-exists':
      return old === null ? none : { what: `key ${quoted} exists` }
    case 'delete':
      kv.delete(write, key)
      return none
    case 'delete-cas':
      return kv.deleteCas(write, key, index)
        ? none
        : { what: `failed to delete key ${quoted}, index is stale` }
    case 'delete-tree':
      kv.deleteTree(write, key)
      return none
    default:
      return { what: `unknown KV verb ${JSON.stringify(verb)}` }
  }
}
