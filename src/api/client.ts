// The client of the signer API (signer.ts): node:https with mutual TLS. Control is known by its chain and SPIFFE id,
// never by its host name, so its addresses may change.
import { request } from 'node:https'
import type { RequestOptions } from 'node:https'
import type { TLSSocket } from 'node:tls'
import { errorCodes, MeshError, reason } from '../errors.ts'
import type { ErrorCode } from '../errors.ts'
import { provesSpiffe } from '../pki/spiffe.ts'
import { controlSpiffe } from './signer.ts'
import type {
  ApiFault,
  ControlStatus,
  EntitlementRequest,
  GrantReply,
  GrantRequest,
  HostRecord,
  JoinRequest,
  SignReply,
  SignRequest,
  TrustReply,
} from './signer.ts'

export interface SignerOptions {
  /** `https://control:15012`, one or more; tried in turn, the last one that answered first. */
  readonly urls: readonly string[]
  /** PEM bundle of the mesh's roots. */
  readonly roots: string
  readonly trustDomain: string
  /** Chain and key (PEM) of the caller; absent: only `join` is open. */
  readonly cert?: string
  readonly key?: string
  /** For one whole exchange with one address. Default 10 s. */
  readonly timeoutMs?: number
}

/**
 * All methods throw MeshError: MSH0401 where no address answers, MSH0403 where what answers is not control, and the code
 * that control gave where it refused.
 */
export interface Signer {
  status(): Promise<ControlStatus>
  grant(body: GrantRequest): Promise<GrantReply>
  join(grant: string, body: JoinRequest): Promise<SignReply>
  sign(body: SignRequest): Promise<SignReply>
  hosts(): Promise<HostRecord[]>
  entitlement(host: string, body: EntitlementRequest): Promise<HostRecord>
  revoke(host: string): Promise<void>
  renewOperator(csr: string): Promise<SignReply>
  /** The roots, PEM. */
  trust(): Promise<string>
}

interface Call {
  readonly method: 'GET' | 'POST' | 'DELETE'
  readonly path: string
  readonly body?: unknown
  readonly grant?: string
}

const defaultTimeoutMs = 10_000
/** Far above 33 chains and a bundle of roots. */
const maxReplyBytes = 4 * 1024 * 1024

/** The address did not answer, or what answered is not control. `sent`: the request may have taken effect. */
class Unanswered extends Error {
  readonly sent: boolean
  readonly impostor: boolean

  constructor(message: string, sent: boolean, impostor: boolean) {
    super(message)
    this.sent = sent
    this.impostor = impostor
  }
}

export function connectSigner(options: SignerOptions): Signer {
  const urls = options.urls.map(readUrl)
  if (urls.length === 0) throw new MeshError('MSH0401', 'no address of control is known')
  let first = 0

  async function call<T>(wanted: Call): Promise<T> {
    const failures: Unanswered[] = []
    for (let offset = 0; offset < urls.length; offset++) {
      const at = (first + offset) % urls.length
      const url = urls[at]
      if (url === undefined) continue
      try {
        const reply = await exchange(url, wanted, options)
        first = at
        return reply as T
      } catch (error) {
        if (!(error instanceof Unanswered)) throw error
        failures.push(error)
        // A grant may be used up by a request whose reply was lost; another address would only say so.
        if (error.sent && wanted.method !== 'GET') break
      }
    }
    throw unanswered(failures)
  }

  const hostPath = (host: string): string => `/v1/hosts/${encodeURIComponent(host)}`
  return {
    status: () => call({ method: 'GET', path: '/v1/status' }),
    grant: (body) => call({ method: 'POST', path: '/v1/grants', body }),
    join: (grant, body) => call({ method: 'POST', path: '/v1/join', body, grant }),
    sign: (body) => call({ method: 'POST', path: '/v1/sign', body }),
    hosts: () => call({ method: 'GET', path: '/v1/hosts' }),
    entitlement: (host, body) => call({ method: 'POST', path: `${hostPath(host)}/services`, body }),
    revoke: async (host) => {
      await call({ method: 'DELETE', path: hostPath(host) })
    },
    renewOperator: (csr) => call({ method: 'POST', path: '/v1/operators/renew', body: { csrs: [csr] } }),
    trust: async () => (await call<TrustReply>({ method: 'GET', path: '/v1/trust' })).roots,
  }
}

/** One exchange with one address. Throws Unanswered, or MeshError where control answered with a fault. */
function exchange(url: URL, call: Call, options: SignerOptions): Promise<unknown> {
  const body = call.body === undefined ? null : Buffer.from(JSON.stringify(call.body))
  const timeoutMs = options.timeoutMs ?? defaultTimeoutMs
  const settings: RequestOptions = {
    method: call.method,
    // A fresh connection each time: renewals are hours apart, and no stale one can swallow a request.
    agent: false,
    signal: AbortSignal.timeout(timeoutMs),
    ca: options.roots,
    cert: options.cert,
    key: options.key,
    minVersion: 'TLSv1.3',
    checkServerIdentity: (_name, certificate) =>
      provesSpiffe(certificate, controlSpiffe(options.trustDomain))
        ? undefined
        : new Error(`its certificate does not prove ${controlSpiffe(options.trustDomain)}`),
    headers: {
      ...(body === null ? {} : { 'content-type': 'application/json', 'content-length': body.length }),
      ...(call.grant === undefined ? {} : { authorization: `Bearer ${call.grant}` }),
    },
  }
  return new Promise((resolve, reject) => {
    let sent = false
    let reached = false
    const fail = (error: unknown): void => {
      const timedOut = error instanceof Error && /^(Timeout|Abort)Error$/.test(error.name)
      const why = timedOut ? `no answer within ${timeoutMs} ms` : reason(error)
      reject(
        new Unanswered(`${url.host}: ${why}`, sent, reached && !sent && !timedOut && isTrustFailure(error)),
      )
    }
    const outgoing = request(new URL(call.path, url), settings, (incoming) => {
      const chunks: Buffer[] = []
      let size = 0
      incoming.on('data', (chunk: Buffer) => {
        size += chunk.length
        if (size > maxReplyBytes) incoming.destroy(new Error('the reply is too large'))
        else chunks.push(chunk)
      })
      incoming.on('error', fail)
      incoming.on('end', () => {
        try {
          resolve(readReply(incoming.statusCode ?? 0, Buffer.concat(chunks)))
        } catch (error) {
          reject(error)
        }
      })
    })
    outgoing.on('socket', (socket) => {
      socket.once('connect', () => (reached = true))
      // Node writes the request only after the peer has been verified.
      socket.once('secureConnect', () => (sent = (socket as TLSSocket).authorized))
    })
    outgoing.on('error', fail)
    outgoing.end(body)
  })
}

function readReply(status: number, bytes: Buffer): unknown {
  let reply: unknown
  try {
    reply = bytes.length === 0 ? null : JSON.parse(bytes.toString('utf8'))
  } catch (error) {
    throw new MeshError('MSH0414', `control answered ${status} with something that is not JSON`, {
      cause: error,
    })
  }
  if (status >= 200 && status < 300) return reply
  const { code, message, hint } = (reply ?? {}) as Partial<ApiFault>
  const known = errorCodes.find((candidate) => candidate === code)
  throw new MeshError(known ?? codeOf(status), `control refused: ${message ?? `status ${status}`}`, { hint })
}

/** For faults without a code of ours (a newer control). */
function codeOf(status: number): ErrorCode {
  if (status === 401) return 'MSH0403'
  if (status === 403) return 'MSH0405'
  if (status === 429) return 'MSH0413'
  return status >= 500 ? 'MSH0414' : 'MSH0412'
}

function unanswered(failures: readonly Unanswered[]): MeshError {
  const details = failures.map(({ message }) => message)
  const summary = details[0] ?? 'no address'
  if (failures.some(({ impostor }) => impostor)) {
    return new MeshError('MSH0403', `what answers at the address of control is not trusted: ${summary}`, {
      details,
      hint: 'compare the roots of this context with those of control, and the clocks of both machines',
    })
  }
  const lost = failures.some(({ sent }) => sent)
  return new MeshError(
    'MSH0401',
    lost ? `the reply of control was lost: ${summary}` : `control does not answer: ${summary}`,
    {
      details,
      hint: 'check `systemctl status meshctl-control` on the control host and that port 15012 is open',
    },
  )
}

/** TLS failures name a verification code, and ours says that the certificate does not prove control's id. */
function isTrustFailure(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const code = (error as NodeJS.ErrnoException).code ?? ''
  return code === '' || /CERT|ISSUER|SIGNATURE|SELF_SIGNED|CA|ALTNAME|HOSTNAME/.test(code)
}

function readUrl(text: string): URL {
  const url = URL.parse(text)
  if (url?.protocol !== 'https:') throw new MeshError('MSH0412', `not an https address of control: ${text}`)
  return url
}
