// /v1/session
import type { Database } from './database.ts'
import { mayRead, mayUseSession, mayWriteNode } from './access.ts'
import { watch } from './catalog.ts'
import type { Catalogue } from './catalogue.ts'
import { duration, ok, parseObject, stringField, stringsField } from './request.ts'
import type { Call, Reply, Route } from './request.ts'
import type { Sessions, SessionRecord } from './sessions.ts'
import { Fault } from './fault.ts'

export interface SessionSettings {
  /** The node of sessions that name none, and its check. */
  readonly nodeName: string
  /** Consul's session_ttl_min. */
  readonly minTtlMs: number
}

const maxTtlMs = 86_400_000
const maxHostSessions = 64
const defaultLockDelayMs = 15_000
const maxLockDelayMs = 60_000
/** The check that says whether a node is there at all; ours has it, hosts without a Consul agent do not. */
export const nodeCheckId = 'serfHealth'

export function sessionRoutes(
  db: Database,
  catalogue: Catalogue,
  sessions: Sessions,
  settings: SessionSettings,
): Route[] {
  return [
    {
      method: 'PUT',
      path: 'session/create',
      handle: (call) => create(db, catalogue, sessions, settings, call),
    },
    {
      method: 'PUT',
      path: 'session/destroy/*',
      handle: async ({ rest, who }) => {
        mayUseSession(who, known(sessions, rest)?.owner ?? (who.kind === 'host' ? who.host : ''))
        await db.write((write) => sessions.end(write, rest))
        return ok(true)
      },
    },
    {
      method: 'PUT',
      path: 'session/renew/*',
      handle: ({ rest, who }) => {
        const session = known(sessions, rest)
        mayUseSession(who, session?.owner ?? (who.kind === 'host' ? who.host : ''))
        if (session === null || !sessions.renew(rest)) throw new Fault(404, `Session id '${rest}' not found`)
        return ok([sessionBody(session)])
      },
    },
    {
      method: 'GET',
      path: 'session/info/*',
      handle: (call) => {
        known(sessions, call.rest)
        const topic = `session:${call.rest}`
        return watch(topic, () => {
          const session = sessions.get(call.rest)
          return [db.changedAt('sessions'), session === null ? [] : [sessionBody(session)]]
        })(call)
      },
    },
    {
      method: 'GET',
      path: 'session/node/*',
      handle: (call) => {
        if (call.rest === '') throw new Fault(400, 'Missing node name')
        const topic = `sessions:${call.rest}`
        return watch(topic, () => [db.changedAt(topic), sessions.list(call.rest).map(sessionBody)])(call)
      },
    },
    {
      method: 'GET',
      path: 'session/list',
      handle: watch('sessions', () => [db.changedAt('sessions'), sessions.list(null).map(sessionBody)]),
    },
  ]
}

async function create(
  db: Database,
  catalogue: Catalogue,
  sessions: Sessions,
  settings: SessionSettings,
  { body, who }: Call,
): Promise<Reply> {
  mayRead(who)
  const asked = body.length === 0 ? {} : parseObject(body)
  const node = stringField(asked, 'Node') || (who.kind === 'host' ? who.host : settings.nodeName)
  mayWriteNode(who, node)
  if (who.kind === 'host' && sessions.list(node).length >= maxHostSessions) {
    throw new Fault(403, `Permission denied: a host has at most ${maxHostSessions} sessions`)
  }
  const ttl = stringField(asked, 'TTL')
  if (ttl !== '') {
    const ms = duration(ttl)
    if (ms === null) throw new Fault(400, `Request decode failed: invalid duration ${JSON.stringify(ttl)}`)
    if (ms !== 0 && (ms < settings.minTtlMs || ms > maxTtlMs)) {
      throw new Fault(
        500,
        `Invalid Session TTL '${ms * 1e6}', must be between [${settings.minTtlMs / 1000}s=24h0m0s]`,
      )
    }
  }
  const behavior = stringField(asked, 'Behavior') || 'release'
  if (behavior !== 'release' && behavior !== 'delete')
    throw new Fault(500, `Invalid Behavior setting '${behavior}'`)
  // Only our own node is known to have the default check: a host without a Consul agent stands by its TTL alone.
  const checks = stringsField(asked, 'NodeChecks') ?? stringsField(asked, 'Checks')
  const id = await db.write((write) =>
    sessions.create(
      write,
      {
        name: stringField(asked, 'Name'),
        node,
        lockDelay: lockDelay(asked['LockDelay']),
        behavior,
        ttl,
        nodeChecks: checks ?? (who.kind === 'host' ? [] : [nodeCheckId]),
        owner: who.kind === 'host' ? who.host : '',
      },
      catalogue,
    ),
  )
  return ok({ ID: id })
}

/** A duration, or a number of nanoseconds (of seconds below 1000), as Consul reads it; at most a minute. */
function lockDelay(value: unknown): number {
  if (value === undefined || value === null) return defaultLockDelayMs
  const ms =
    typeof value === 'string'
      ? duration(value)
      : typeof value === 'number' && value >= 0
        ? value < 1000
          ? value * 1000
          : value / 1e6
        : null
  if (ms === null) throw new Fault(400, 'Request decode failed: invalid LockDelay')
  return Math.min(Math.round(ms), maxLockDelayMs)
}

function known(sessions: Sessions, id: string): SessionRecord | null {
  if (id === '') throw new Fault(400, 'Missing session')
  if (!/^[0-9a-fA-F-]{36}$/.test(id))
    throw new Fault(400, 'failed session lookup: UUID must be 36 characters')
  return sessions.get(id)
}

function sessionBody(session: SessionRecord): Record<string, unknown> {
  return {
    ID: session.id,
    Name: session.name,
    Node: session.node,
    LockDelay: session.lockDelay * 1e6,
    Behavior: session.behavior,
    TTL: session.ttl,
    NodeChecks: session.nodeChecks,
    ServiceChecks: null,
    CreateIndex: session.created,
    ModifyIndex: session.modified,
  }
}
