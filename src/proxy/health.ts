// Two small HTTP servers of the supervisor: /healthz/ready for probes, /metrics for Prometheus. Nothing else, and nothing
// for web pages that point a name of theirs at this address (DNS rebinding).
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { BoundSocket, isIP } from 'node:net'
import type { AddressInfo } from 'node:net'
import { hostname } from 'node:os'
import { MeshError, reason } from '../errors.ts'

export interface HealthSource {
  readonly isReady: boolean
  readonly live: number
  readonly hash: string
  /** Our name in the mesh; '' not known. */
  readonly host: string
  stats(): Promise<{ text: string }>
}

export interface HealthServer {
  readonly port: number
  /** Its listening socket, for a successor. */
  readonly fd: number
  close(): void
}

/** Where to listen: a host ('' all) and port, or a socket that another process has listened on. */
type On = { readonly host: string; readonly port: number } | { readonly fd: number; readonly port: number }

type Answer = (response: ServerResponse) => void | Promise<void>

export function serveHealth(source: HealthSource, on: On): Promise<HealthServer> {
  return serve(source, on, '/healthz/ready', (response) => {
    response.statusCode = source.isReady ? 200 : 503
    response.setHeader('content-type', 'application/json')
    response.end(
      `${JSON.stringify({ ready: source.isReady, workers: source.live, snapshot: source.hash })}\n`,
    )
  })
}

export function servePrometheus(source: HealthSource, on: On): Promise<HealthServer> {
  return serve(source, on, '/metrics', async (response) => {
    const { text } = await source.stats()
    response.setHeader('content-type', 'text/plain; version=0.0.4; charset=utf-8')
    response.end(text)
  })
}

async function serve(source: HealthSource, on: On, path: string, answer: Answer): Promise<HealthServer> {
  // Here and not above: it takes 8 MB, which no worker needs.
  const { createServer } = await import('node:http')
  const server = createServer({ maxHeaderSize: 8192, requestTimeout: 10_000, headersTimeout: 5_000 })
  server.maxConnections = 64
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    const status = refusal(request, path, source)
    if (status !== 0) {
      response.statusCode = status
      response.setHeader('connection', 'close')
      response.end()
      return
    }
    void Promise.try(answer, response).catch((error: unknown) => {
      response.statusCode = 500
      response.end(`${reason(error)}\n`)
    })
  })
  const fd = await listen(server, on)
  return { port: (server.address() as AddressInfo).port, fd, close: () => stop(server) }
}

/** Its descriptor. Throws MSH0703. */
async function listen(server: Server, on: On): Promise<number> {
  try {
    const bound = 'fd' in on ? null : bind(on.host, on.port)
    const fd = 'fd' in on ? on.fd : bound!.fd()
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(bound ?? { fd }, resolve)
    })
    return fd
  } catch (error) {
    const where = 'host' in on ? `${on.host}:${on.port}` : `port ${on.port}`
    throw new MeshError('MSH0703', `cannot listen on ${where}: ${reason(error)}`, { cause: error })
  }
}

/** All addresses of both families; of IPv4 alone where there is no IPv6. */
function bind(host: string, port: number): BoundSocket {
  if (host !== '') return new BoundSocket({ host, port })
  try {
    return new BoundSocket({ host: '::', port })
  } catch (error) {
    if (['EAFNOSUPPORT', 'EADDRNOTAVAIL', 'EINVAL'].includes((error as NodeJS.ErrnoException).code ?? ''))
      return new BoundSocket({ host: '0.0.0.0', port })
    throw error
  }
}

/** The status of a refusal; 0: none. */
function refusal(request: IncomingMessage, path: string, source: HealthSource): number {
  if (!isOwnHost(request.headers.host ?? '', source.host)) return 421
  if (request.url !== path) return 404
  return request.method === 'GET' || request.method === 'HEAD' ? 0 : 405
}

/** Any address, localhost, or one of our names: a rebound name of somebody else is none of these. */
function isOwnHost(header: string, meshName: string): boolean {
  const name = header
    .replace(/:\d+$/, '')
    .replace(/^\[(.*)\]$/, '$1')
    .toLowerCase()
  if (isIP(name) !== 0 || name === 'localhost') return true
  return name !== '' && (name === hostname().toLowerCase() || name === meshName.toLowerCase())
}

function stop(server: Server): void {
  server.close()
  server.closeAllConnections()
}
