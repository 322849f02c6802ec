// The `consul` package, typed for what we use of it, on a connection that is verified as the mesh demands.
import Consul from 'consul'
import { EventEmitter } from 'node:events'
import { Agent as HttpAgent } from 'node:http'
import type { ClientRequest, IncomingHttpHeaders, RequestOptions } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import type { PeerCertificate } from 'node:tls'
import { MeshError } from '../errors.ts'
import type { RegistryConfig } from '../model/host.ts'

/** Options of every call: the package hands them to its HTTP client, papi. */
export interface CallOptions {
  readonly ctx: CallContext
  readonly timeout: number
  readonly index?: string
  readonly wait?: string
}

/** Cancels its call on `cancel`; makes it answer `[response, body]`. */
export class CallContext extends EventEmitter {
  readonly includeResponse = true
}

export type Reply = readonly [response: { readonly headers: IncomingHttpHeaders }, body?: unknown]

type Method = (options: CallOptions & Record<string, unknown>) => Promise<Reply>

/** What we call of the package. Its own types know neither deadlines, nor cancelling, nor response headers. */
export interface Package {
  readonly kv: { readonly get: Method; readonly set: Method; readonly del: Method }
  readonly transaction: { create(operations: readonly object[], options: CallOptions): Promise<Reply> }
  readonly session: { readonly create: Method; readonly renew: Method; readonly destroy: Method }
  readonly health: { readonly service: Method; readonly node: Method }
  readonly catalog: {
    readonly node: { readonly list: Method }
    readonly service: { readonly list: Method }
    readonly deregister: Method
  }
  readonly agent: { readonly service: { readonly register: Method; readonly deregister: Method } }
  readonly status: { readonly leader: Method }
  /** papi's own verb, for the two calls whose check output the package would drop. */
  _put(request: PutRequest, last: (request: PutResult, next: PutNext) => void): Promise<Reply>
  /** papi's hook: runs before a request is sent. */
  _ext(event: 'onRequest', run: (request: { transport: Transport }, next: () => void) => void): void
  destroy(): void
}

export interface PutRequest {
  readonly name: string
  readonly path: string
  readonly params: Readonly<Record<string, string>>
  readonly type: 'json'
  readonly body: object
  readonly headers: Readonly<Record<string, string>>
  readonly ctx: CallContext
  readonly timeout: number
}

interface PutResult {
  readonly err?: unknown
  readonly res: { readonly headers: IncomingHttpHeaders; readonly body?: unknown }
}

type PutNext = (stop: false, error?: unknown, value?: unknown) => void

/** Ends papi's pipeline as the package's own methods do. */
export function putReply(request: PutResult, next: PutNext): void {
  if (request.err !== undefined) next(false, request.err)
  else next(false, undefined, [request.res, request.res.body])
}

export function dial(url: string, config: RegistryConfig): Package {
  const { protocol, href, username, password } = parse(url)
  if (username !== '' || password !== '') {
    throw new MeshError('MSH0303', 'the registry URL holds a user or password', {
      hint: 'give the token by itself, not in the URL',
    })
  }
  const options = {
    baseUrl: `${href.replace(/[?#].*$/, '').replace(/\/+$/, '')}/v1`,
    agent: protocol === 'https:' ? secureAgent(config) : new HttpAgent({ keepAlive: true }),
    ...(config.token === null ? {} : { defaults: { token: config.token } }),
  }
  const consul = new Consul(options) as unknown as Package
  consul._ext('onRequest', guard)
  return consul
}

/** Far above the largest answer of a large mesh; below what would end this process. */
const maxAnswerBytes = 256 * 1024 * 1024

/**
 * papi waits for the end of an answer only: one that is cut off or does not end would be noticed at the deadline, a
 * minute later for a blocking query.
 */
function guard(request: { transport: Transport }, next: () => void): void {
  const { transport } = request
  request.transport = {
    request(options) {
      const sent = transport.request(options)
      sent.on('response', (response) => {
        let size = 0
        response.on('data', (chunk: Buffer) => {
          size += chunk.length
          if (size > maxAnswerBytes) response.destroy(new Error('the answer is too large'))
        })
        response.on('error', (error) => sent.emit('error', error))
      })
      return sent
    },
  }
  next()
}

interface Transport {
  request(options: RequestOptions): ClientRequest
}

/** Names of the URL fit for messages. */
export function place(url: string): string {
  const { protocol, host } = parse(url)
  return `${protocol}//${host}`
}

function parse(url: string): URL {
  const parsed = URL.parse(url)
  if (parsed === null || (parsed.protocol !== 'https:' && parsed.protocol !== 'http:')) {
    throw new MeshError('MSH0303', 'the registry URL is not an http or https URL', {
      hint: 'write it like https://control:15011 or http://127.0.0.1:8500',
    })
  }
  return parsed
}

function secureAgent({ ca, spiffe }: RegistryConfig): HttpsAgent {
  if (spiffe !== null && ca === null) {
    throw new MeshError(
      'MSH0303',
      'a SPIFFE id of the registry means nothing without the CA that vouches for it',
    )
  }
  return new HttpsAgent({
    keepAlive: true,
    minVersion: 'TLSv1.2',
    // A resumed session skips checkServerIdentity.
    maxCachedSessions: 0,
    ...(ca === null ? {} : { ca }),
    ...(spiffe === null
      ? {}
      : { checkServerIdentity: (_host: string, peer: PeerCertificate) => checkSpiffe(peer, spiffe) }),
  })
}

/** Exactly one URI name, and it is the expected one; other names of the certificate do not matter. */
export function checkSpiffe(
  peer: Pick<PeerCertificate, 'subjectaltname'>,
  spiffe: string,
): Error | undefined {
  const uris = (peer.subjectaltname ?? '').split(', ').filter((name) => name.startsWith('URI:'))
  if (uris.length === 1 && uris[0] === `URI:${spiffe}`) return undefined
  return new Error(
    `the server proved ${uris.join(', ').slice(0, 200) || 'no SPIFFE id'} instead of ${spiffe}`,
  )
}
