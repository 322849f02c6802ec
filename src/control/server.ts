// The signer's HTTPS server: TLS, limits and routes. Decisions are in caller.ts and signer.ts.
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Server } from 'node:https'
import { createServer } from 'node:https'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { ApiFault, ControlStatus } from '../api/signer.ts'
import type { Clock } from '../clock.ts'
import type { ErrorCode } from '../errors.ts'
import { MeshError, reason } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Certificate } from '../pki/cert.ts'
import type { Spiffe } from '../pki/spiffe.ts'
import { readRoots } from '../pki/trust.ts'
import { readEntitlement, readGrantRequest, readJoinRequest, readSignRequest } from './body.ts'
import { asHost, asOperator, callerOf, lapsedCaller, type LapsedHost } from './caller.ts'
import { Limiter } from './limit.ts'
import type { ServerCertificate } from './certificate.ts'
import type { Signer } from './signer.ts'

export interface SignerServerParts {
  readonly signer: Signer
  readonly certificate: ServerCertificate
  readonly trustDomain: string
  readonly roots: string
  readonly issuer: Certificate
  readonly status: () => ControlStatus
  readonly clock: Clock
  readonly log: Log
}

/** What a route needs to answer. */
interface Call {
  readonly caller: Spiffe
  readonly from: string
  /** The host in /v1/hosts/<name>…, else ''. */
  readonly name: string
  readonly body: () => Promise<unknown>
}

/** 33 requests of 8 KB and room. */
const maxBodyBytes = 320 * 1024
const callerLimit = { burst: 60, perSecond: 20 }
/** Per address: connections that prove nothing, and joins that fail. */
const strangerLimit = { burst: 20, perSecond: 0.5 }

const maxConnections = 1024
/** So that one address cannot take them all before it has proved anything. */
const maxPerAddress = 128

export class SignerServer {
  readonly #parts: SignerServerParts
  readonly #server: Server
  readonly #callers: Limiter
  readonly #strangers: Limiter
  readonly #roots: readonly Certificate[]
  /** Open connections by remote address. */
  readonly #open = new Map<string, number>()

  constructor(parts: SignerServerParts) {
    this.#parts = parts
    this.#roots = readRoots(parts.roots)
    this.#callers = new Limiter(callerLimit, parts.clock)
    this.#strangers = new Limiter(strangerLimit, parts.clock)
    this.#server = createServer(
      {
        ...parts.certificate.current(),
        ca: parts.roots,
        requestCert: true,
        // Refused in callerOf with a reason that says how to mend it; a TLS alert could not.
        rejectUnauthorized: false,
        minVersion: 'TLSv1.3',
        handshakeTimeout: 10_000,
        headersTimeout: 10_000,
        requestTimeout: 20_000,
        maxHeaderSize: 8192,
      },
      (request, response) => void this.#answer(request, response),
    )
    this.#server.maxConnections = maxConnections
    this.#server.on('connection', (socket: Socket) => this.#admit(socket))
    parts.certificate.onRenewal((pair) =>
      this.#server.setSecureContext({ ...pair, ca: parts.roots, minVersion: 'TLSv1.3' }),
    )
  }

  /** Gives the port; 0 asks for any. */
  listen(address: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(port, address, () => {
        this.#server.off('error', reject)
        const bound = this.#server.address()
        resolve(typeof bound === 'object' && bound !== null ? bound.port : port)
      })
    })
  }

  /** Answers what is under way for at most two seconds, then hangs up. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#parts.clock.after(2000, () => this.#server.closeAllConnections())
      this.#server.close(() => {
        timer.cancel()
        resolve()
      })
      this.#server.closeIdleConnections()
    })
  }

  #admit(socket: Socket): void {
    const from = socket.remoteAddress ?? ''
    const open = this.#open.get(from) ?? 0
    if (open >= maxPerAddress) {
      socket.destroy()
      return
    }
    this.#open.set(from, open + 1)
    socket.once('close', () => {
      const left = (this.#open.get(from) ?? 1) - 1
      if (left === 0) this.#open.delete(from)
      else this.#open.set(from, left)
    })
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const from = request.socket.remoteAddress ?? ''
    try {
      send(response, 200, await this.#route(request, from))
    } catch (error) {
      const fault =
        error instanceof MeshError
          ? error
          : new MeshError('MSH0414', 'control met an error of its own', { cause: error })
      const line = {
        event: 'fault',
        code: fault.code,
        from,
        method: request.method,
        path: request.url?.slice(0, 200),
      }
      if (fault.code === 'MSH0414') this.#parts.log.error({ ...line, error: reason(error) }, 'request failed')
      else this.#parts.log.warn({ ...line, why: fault.message }, 'request refused')
      const body: ApiFault = {
        code: fault.code,
        message: fault.message,
        ...(fault.hint === undefined ? {} : { hint: fault.hint }),
      }
      // Whatever is left of a body that was not read goes with the connection.
      if (!response.headersSent && !request.complete) response.setHeader('connection', 'close')
      send(response, statusOf(fault.code), body)
    }
  }

  /** The Host header plays no part anywhere: control answers by its identity, not by a name. */
  async #route(request: IncomingMessage, from: string): Promise<unknown> {
    const { signer, status, roots } = this.#parts
    const path = (request.url ?? '').split('?', 1)[0] ?? ''
    const route = `${request.method} ${path}`
    if (route === 'POST /v1/join') return this.#join(request, from)
    if (route === 'POST /v1/sign') return this.#sign(request, from)
    const caller = this.#caller(request, from)
    const call = { caller, from, name: '', body: () => readBody(request) }
    if (route === 'GET /v1/status') return status()
    if (route === 'GET /v1/trust') return { roots }
    if (route === 'GET /v1/hosts') {
      asOperator(caller)
      return signer.hosts()
    }
    if (route === 'POST /v1/grants') {
      const { name } = asOperator(caller)
      return signer.grant(readGrantRequest(await call.body()), name)
    }
    if (route === 'POST /v1/operators/renew') {
      const operator = asOperator(caller)
      return signer.renewOperator(readSignRequest(await call.body()), operator, from)
    }
    const [, name, tail = ''] = /^\/v1\/hosts\/([A-Za-z0-9._%-]+)(\/services)?$/.exec(path) ?? []
    if (name !== undefined) return this.#host(`${request.method}${tail}`, { ...call, name: decode(name) })
    throw new MeshError('MSH0412', 'control has no such address')
  }

  async #host(action: string, { caller, name, body }: Call): Promise<unknown> {
    const { signer } = this.#parts
    const operator = asOperator(caller).name
    if (action === 'POST/services') return signer.entitle(name, readEntitlement(await body()), operator)
    if (action === 'DELETE') {
      await signer.revoke(name, operator)
      return {}
    }
    throw new MeshError('MSH0412', 'control has no such address')
  }

  async #join(request: IncomingMessage, from: string): Promise<unknown> {
    if (!this.#strangers.has(from)) throw busy()
    try {
      const [, grant] = /^Bearer ([A-Za-z0-9_-]{43})$/.exec(request.headers.authorization ?? '') ?? []
      if (grant === undefined) throw new MeshError('MSH0406', 'a join needs a grant')
      return await this.#parts.signer.join(grant, readJoinRequest(await readBody(request)), from)
    } catch (error) {
      this.#strangers.take(from)
      throw error
    }
  }

  /** By a valid leaf of the host, or by its newest one for a while after its end. */
  async #sign(request: IncomingMessage, from: string): Promise<unknown> {
    const { signer } = this.#parts
    const lapsed = this.#lapsed(request, from)
    const { host } = lapsed?.host ?? asHost(this.#caller(request, from))
    return signer.sign(readSignRequest(await readBody(request)), host, from, lapsed?.issuedAt ?? null)
  }

  #lapsed(request: IncomingMessage, from: string): LapsedHost | null {
    const { trustDomain, issuer, clock } = this.#parts
    const socket = request.socket as TLSSocket
    try {
      const lapsed = lapsedCaller(socket, { trustDomain, issuer, roots: this.#roots }, clock)
      if (lapsed !== null && !this.#callers.take(lapsed.host.id)) throw busy()
      return lapsed
    } catch (error) {
      if (!this.#strangers.take(from)) throw busy()
      throw error
    }
  }

  #caller(request: IncomingMessage, from: string): Spiffe {
    let caller: Spiffe
    try {
      caller = callerOf(request.socket as TLSSocket, this.#parts.trustDomain, this.#parts.clock)
    } catch (error) {
      if (!this.#strangers.take(from)) throw busy()
      throw error
    }
    if (!this.#callers.take(caller.id)) throw busy()
    return caller
  }
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const tooLarge = new MeshError('MSH0412', `the body is larger than ${maxBodyBytes} bytes`)
  // Said before it is read, so that the answer arrives; one that lies about its length is cut off.
  if (Number(request.headers['content-length'] ?? 0) > maxBodyBytes) throw tooLarge
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > maxBodyBytes) throw tooLarge
    chunks.push(chunk)
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8')) as unknown
  } catch {
    throw new MeshError('MSH0412', 'the body is not JSON')
  }
}

function send(response: ServerResponse, status: number, body: unknown): void {
  if (response.headersSent || response.destroyed) return
  const bytes = Buffer.from(JSON.stringify(body))
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': bytes.length,
    'cache-control': 'no-store',
  })
  response.end(bytes)
}

function statusOf(code: ErrorCode): number {
  if (code === 'MSH0403' || code === 'MSH0411') return 401
  if (code === 'MSH0402' || code === 'MSH0412') return 400
  if (code === 'MSH0413') return 429
  return code === 'MSH0414' ? 500 : 403
}

function decode(name: string): string {
  try {
    return decodeURIComponent(name)
  } catch {
    throw new MeshError('MSH0412', 'control has no such address')
  }
}

function busy(): MeshError {
  return new MeshError('MSH0413', 'too many requests', { hint: 'try again after a few seconds' })
}
