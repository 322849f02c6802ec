// A caller's host and one instance of `web` around an application, and what real clients of HTTP/2 do with them.
import http2 from 'node:http2'
import type net from 'node:net'
import type { TestContext } from 'node:test'
import type { Protocol } from '../../src/snapshot/types.ts'
import { Authority, Caller, Instance, listen } from './hops.ts'
import type { Calls, InstanceOptions } from './hops.ts'

export const authority: Authority = new Authority()

export interface Way {
  readonly instance: Instance
  readonly caller: Caller
  /** Where local callers are captured. */
  readonly port: number
}

/** Two hops to an application (a server, or its port), declared the same on both sides. */
export async function wayTo(
  t: TestContext,
  app: net.Server | number,
  options: { protocol?: Protocol; calls?: Partial<Calls>; instance?: Partial<InstanceOptions> } = {},
): Promise<Way> {
  const { protocol = 'http', calls = {}, instance: more = {} } = options
  const appPort = typeof app === 'number' ? app : await listen(t, app)
  const instance = await new Instance(t, appPort, { protocol, ...more }).start(authority)
  const caller = await new Caller(t).start(authority, {
    protocol,
    subsets: [{ name: '', weight: 1, endpoints: [instance.endpoint()] }],
    ...calls,
  })
  return { instance, caller, port: caller.port }
}

/** A client's session to a captured port, with prior knowledge. */
export function session2(
  t: TestContext,
  port: number,
  options: http2.SessionOptions = {},
): http2.ClientHttp2Session {
  const session = http2.connect(`http://127.0.0.1:${port}`, options)
  session.on('error', () => undefined)
  t.after(() => session.destroy())
  return session
}

export interface Answer {
  readonly status: number
  readonly headers: http2.IncomingHttpHeaders
  readonly trailers: http2.IncomingHttpHeaders | null
  readonly interims: number[]
  readonly body: Buffer
  /** Of the stream's reset; 0: it ended in order. */
  readonly code: number
}

/** One whole request. `body` null: none, not even an empty one. */
export function ask(
  session: http2.ClientHttp2Session,
  headers: http2.OutgoingHttpHeaders,
  body: string | Buffer | null = null,
  trailers: http2.OutgoingHttpHeaders | null = null,
): Promise<Answer> {
  const stream = session.request(
    { ':authority': 'web.default.mesh', ...headers },
    { endStream: body === null && trailers === null, waitForTrailers: trailers !== null },
  )
  if (trailers !== null) stream.on('wantTrailers', () => stream.sendTrailers(trailers))
  if (body !== null || trailers !== null) stream.end(body ?? '')
  return answerOf(stream)
}

/** What comes back on a stream, once it is over. */
export async function answerOf(stream: http2.ClientHttp2Stream): Promise<Answer> {
  const chunks: Buffer[] = []
  const interims: number[] = []
  let headers: http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader = {}
  let trailers: http2.IncomingHttpHeaders | null = null
  stream.on('headers', (interim) => interims.push(interim[':status'] ?? 0))
  stream.on('response', (given) => (headers = given))
  stream.on('trailers', (given) => (trailers = given))
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  stream.on('error', () => undefined)
  await new Promise<void>((resolve) => stream.on('close', resolve))
  return {
    status: headers[':status'] ?? 0,
    headers,
    trailers,
    interims,
    body: Buffer.concat(chunks),
    code: stream.rstCode,
  }
}
