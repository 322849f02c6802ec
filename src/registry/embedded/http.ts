// From bytes to endpoints and back: routes, limits, blocking queries. Whatever a client sends ends in a 4xx or an answer.
import type { IncomingMessage, ServerResponse } from 'node:http'
import { isIP } from 'node:net'
import type { Socket } from 'node:net'
import { hostname } from 'node:os'
import type { Clock } from '../../clock.ts'
import type { Log } from '../../log.ts'
import { reason } from '../../errors.ts'
import type { Access, Principal } from './access.ts'
import type { Database } from './database.ts'
import { denied, Fault } from './fault.ts'
import { maxValueBytes } from './keyvalue.ts'
import { tooLarge } from './kv.ts'
import type { Places } from './places.ts'
import { duration, unsigned } from './request.ts'
import type { Call, Reply, Route } from './request.ts'
import type { Answer, Waits, Watch } from './waits.ts'

const defaultWaitMs = 5 * 60_000
const maxWaitMs = 10 * 60_000
const nothing = Buffer.alloc(0)

interface Parts {
  readonly db: Database
  readonly access: Access
  readonly waits: Waits
  readonly routes: readonly Route[]
  readonly clock: Clock
  readonly log: Log
  readonly places: Places
  /** A token was shown on this connection. */
  readonly proven: (socket: Socket) => void
  /** Names by which clients may call this server, besides addresses, localhost and the machine's own. */
  readonly names: readonly string[]
}

export function handler(parts: Parts): (request: IncomingMessage, response: ServerResponse) => void {
  const names = new Set([
    'localhost',
    hostname().toLowerCase(),
    ...parts.names.map((name) => name.toLowerCase()),
  ])
  return (request, response) => {
    serve(parts, names, request, response).catch((error: unknown) => {
      if (error instanceof Fault) {
        refuse(request, response, error.status, error.message)
        return
      }
      parts.log.error({ error: reason(error) }, 'registry request failed')
      refuse(request, response, 500, 'internal error')
    })
  }
}

async function serve(
  parts: Parts,
  names: ReadonlySet<string>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  checkCaller(request, names)
  const token = request.headers['x-consul-token'] ?? bearer(request.headers.authorization)
  const who = parts.access.who(typeof token === 'string' ? token : null)
  if (who.kind !== 'anonymous') parts.proven(request.socket)
  if (who.kind === 'host' && !parts.places.take(who.host, request.socket)) {
    throw new Fault(429, `host ${who.host} has too many connections`)
  }
  const url = target(request.url ?? '')
  const route = find(parts.routes, request.method ?? '', url.path)
  const query = new URLSearchParams(url.query)
  checkQuery(query)
  // Whoever has no token may write nothing: what he sends is not even read.
  if (who.kind === 'anonymous' && route.method !== 'GET') throw denied()
  const body = who.kind === 'anonymous' ? nothing : await readBody(request)
  const call: Call = { method: route.method, rest: route.rest, query, body, who }
  const outcome = await route.handle(call)
  if ('topic' in outcome) block(parts, query, who, outcome, response)
  else send(response, outcome)
}

/**
 * A page that an attacker's name leads to this address (DNS rebinding) or another site's page has no business here,
 * token or not.
 */
function checkCaller(request: IncomingMessage, names: ReadonlySet<string>): void {
  const host = request.headers.host ?? ''
  const name = host
    .replace(/:\d{1,5}$/, '')
    .replace(/^\[(.*)\]$/, '$1')
    .toLowerCase()
  if (isIP(name) === 0 && !names.has(name)) throw new Fault(421, 'this registry is not called by that name')
  const origin = request.headers.origin
  if (origin !== undefined && origin !== `http://${host}` && origin !== `https://${host}`) {
    throw new Fault(403, 'requests of other sites are refused')
  }
}

function bearer(header: string | undefined): string | undefined {
  return header?.startsWith('Bearer ') === true ? header.slice(7) : undefined
}

function target(url: string): { path: string; query: string } {
  const at = url.indexOf('?')
  const path = at === -1 ? url : url.slice(0, at)
  if (!path.startsWith('/v1/')) throw new Fault(404, '')
  return { path: path.slice(4), query: at === -1 ? '' : url.slice(at + 1) }
}

function find(
  routes: readonly Route[],
  method: string,
  path: string,
): { method: string; rest: string; handle: Route['handle'] } {
  const allowed = new Set<string>()
  for (const route of routes) {
    const open = route.path.endsWith('/*')
    const fixed = open ? route.path.slice(0, -1) : route.path
    if (open ? !path.startsWith(fixed) : path !== fixed) continue
    if (route.method === method)
      return { method, rest: decode(path.slice(fixed.length)), handle: route.handle }
    allowed.add(route.method)
  }
  throw allowed.size > 0 ? new Fault(405, `method ${method.slice(0, 16)} not allowed`) : new Fault(404, '')
}

function decode(path: string): string {
  let text: string
  try {
    text = decodeURIComponent(path)
  } catch {
    throw new Fault(400, 'Bad path: not URL-encoded UTF-8')
  }
  if (text.length > 2048 || text.includes('\0')) throw new Fault(400, 'Bad path: too long or with a NUL')
  return text
}

/** What would change the answer and is not implemented is refused rather than ignored. */
function checkQuery(query: URLSearchParams): void {
  for (const name of ['filter', 'near', 'node-meta', 'ns', 'partition', 'peer', 'connect']) {
    if (query.has(name)) throw new Fault(400, `?${name} is not supported by the embedded registry`)
  }
  const dc = query.get('dc')
  if (dc !== null && dc !== '' && dc !== 'dc1') throw new Fault(400, 'No path to datacenter')
  // A token in a URL ends in logs.
  if (query.has('token')) throw new Fault(400, 'the token belongs into the X-Consul-Token header')
}

function readBody(request: IncomingMessage): Promise<Buffer> {
  const declared = Number(request.headers['content-length'] ?? 0)
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  if (declared > maxValueBytes) {
    reject(tooLarge(declared))
    return promise
  }
  const chunks: Buffer[] = []
  let size = 0
  request.on('data', (chunk: Buffer) => {
    size += chunk.length
    if (size > maxValueBytes) {
      chunks.length = 0
      request.pause()
      reject(tooLarge(size))
    } else chunks.push(chunk)
  })
  request.on('end', () => resolve(Buffer.concat(chunks, size)))
  request.on('error', () => reject(new Fault(400, 'the body was cut off')))
  request.on('aborted', () => reject(new Fault(400, 'the body was cut off')))
  return promise
}

function block(
  parts: Parts,
  query: URLSearchParams,
  who: Principal,
  watch: Watch,
  response: ServerResponse,
): void {
  const wait = query.get('wait')
  const asked = wait === null || wait === '' ? defaultWaitMs : wait === '0' ? 0 : duration(wait)
  if (asked === null) throw new Fault(400, 'Invalid wait time')
  const min = query.get('index') === '' ? null : unsigned(query, 'index')
  const read = safely(parts, watch)
  const now = read()
  // An index that this registry never gave (it was restored from an older copy): answer, so that the client starts anew.
  if (min === null || min === 0 || now.index > min || min > parts.db.index) {
    answer(response, now)
    return
  }
  const ms = Math.min(asked === 0 ? defaultWaitMs : asked, maxWaitMs)
  // Consul's jitter: waiters that came together do not all come back together.
  const jittered = ms + (Math.random() * ms) / 16
  const forget = parts.waits.wait({ ...watch, read }, min, jittered, (late) => {
    if (who.kind === 'host' && who.revoked) {
      send(response, {
        status: 403,
        type: 'text/plain; charset=utf-8',
        body: Buffer.from('Permission denied'),
      })
    } else answer(response, late)
  })
  response.on('close', forget)
}

/** A read that fails later has no caller to tell: it is answered as a failure, and asked again by the client. */
function safely({ db, log }: Parts, watch: Watch): Watch['read'] {
  return () => {
    try {
      return watch.read()
    } catch (error) {
      log.error({ error: reason(error) }, 'registry read failed')
      return {
        status: 500,
        index: db.index,
        type: 'text/plain; charset=utf-8',
        body: Buffer.from('internal error'),
      }
    }
  }
}

function answer(response: ServerResponse, { index, ...reply }: Answer): void {
  response.setHeader('X-Consul-Index', String(index))
  response.setHeader('X-Consul-KnownLeader', 'true')
  response.setHeader('X-Consul-LastContact', '0')
  send(response, reply)
}

function send(response: ServerResponse, { status, type, body }: Reply): void {
  if (response.headersSent || response.destroyed) return
  response.statusCode = status
  if (type !== '') response.setHeader('Content-Type', type)
  response.setHeader('Content-Length', body.length)
  response.setHeader('Cache-Control', 'no-store')
  response.setHeader('X-Content-Type-Options', 'nosniff')
  response.end(body)
}

function refuse(request: IncomingMessage, response: ServerResponse, status: number, message: string): void {
  // The rest of the body is not read: the connection cannot go on.
  if (!request.complete || status === 429) response.setHeader('Connection', 'close')
  send(response, { status, type: 'text/plain; charset=utf-8', body: Buffer.from(message) })
}
