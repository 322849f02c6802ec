// A storm of requests of both versions of HTTP, whose bodies and answers say by their bytes whose they are: an application
// that resets, answers early, late, half or not at all, and callers that abort, dawdle and pipeline. What is mixed up,
// cut or doubled anywhere on the way is told in `wrongs`.
import { randomBytes } from 'node:crypto'
import http from 'node:http'
import http2 from 'node:http2'
import net from 'node:net'

/** Half of it: every message is less than that from its place on. */
const half = 1_048_576
const matter = randomBytes(2 * half)

/** Of message `id`; no two of neighbours begin alike. */
function bytesOf(id: number, length: number): Buffer {
  const at = (id * 40_961) % half
  return matter.subarray(at, at + length)
}

const requestOf = (id: number, length: number): Buffer => bytesOf(2 * id, length)
const answerOf = (id: number, length: number): Buffer => bytesOf(2 * id + 1, length)

/** A number below `limit`. */
export const below = (limit: number): number => Math.floor(Math.random() * limit)
const pick = <T>(list: readonly T[]): T => list[below(list.length)]!

/** Where buffers, blocks, windows and frames of the proxy end. */
const edges = [0, 1, 4095, 4096, 8192, 16_384, 16_393, 32_768, 65_535, 65_536, 65_537, 131_072, 262_144]

function size(): number {
  const edge = pick(edges)
  return Math.max(0, below(3) === 0 ? edge : below(2) === 0 ? edge + below(64) - 32 : below(edge + 1))
}

const often = Array.from({ length: 12 }, () => '' as const)
const plans = [...often, 'early', 'late', 'slow', 'fail', 'cut', 'half', 'stuck'] as const
type Plan = (typeof plans)[number]

interface Asked {
  readonly id: number
  readonly method: string
  readonly plan: Plan
  /** Of the request's body and of the answer's. */
  readonly sent: number
  readonly wanted: number
  /** Its caller waits no longer. */
  isLeft: boolean
}

let lastId = 0
/** More than any storm has in a second. */
const resets = 1_000_000
/** Nothing takes so long. Milliseconds. */
const patience = 10_000

function ask(method: string = pick(['GET', 'POST', 'PUT'])): Asked {
  return {
    id: ++lastId,
    method,
    plan: pick(plans),
    sent: method === 'GET' && below(3) > 0 ? 0 : size(),
    wanted: size(),
    isLeft: false,
  }
}

const headersOf = ({ id, plan, sent, wanted }: Asked, by: 1 | 2): Record<string, string> => ({
  'x-by': `${by}`,
  'x-id': `${id}`,
  'x-plan': plan,
  'x-sent': `${sent}`,
  'x-wanted': `${wanted}`,
})

type Incoming = http.IncomingMessage | http2.Http2ServerRequest

interface Outgoing extends NodeJS.WritableStream {
  writeHead(status: number, headers?: http.OutgoingHttpHeaders): unknown
}

export class Storm {
  readonly wrongs: string[] = []
  /** Answers that were whole and right. */
  good = 0
  failed = 0
  /** Requests that the application was given whole. */
  whole = 0
  readonly #seen = new Map<number, number>()
  readonly #timers = new Set<NodeJS.Timeout>()
  isOver = false
  readonly #sessions = new Set<http2.ClientHttp2Session>()
  readonly #left = new Set<number>()
  readonly #posted = new Set<number>()
  /** Those of whom nothing was heard for too long. */
  readonly unanswered: Asked[] = []
  /** Calls that are under way. */
  readonly pending = new Set<Asked>()

  // --- the application

  /** In the version that it is spoken to. */
  app(): net.Server {
    const handler = (request: Incoming, response: http.ServerResponse | http2.Http2ServerResponse): void => {
      request.on('error', () => undefined)
      response.on('error', () => undefined)
      this.#serve(request, response as Outgoing & { destroy?(): void })
    }
    const first = http.createServer(handler)
    // Node’s GOAWAY to those who reset too much names a last stream below some that it goes on to serve (nghttp2 issue 2870):
    // those are sent again, as RFC 9113 8.7 allows, and would be told as posted twice.
    const second = http2.createServer({ streamResetBurst: resets, streamResetRate: resets }, handler)
    second.on('sessionError', () => undefined)
    return net.createServer((socket) => {
      socket.on('error', () => undefined)
      socket.once('data', (bytes: Buffer) => {
        socket.pause()
        socket.unshift(bytes)
        const server = bytes[0] === 80 && bytes[1] === 82 ? second : first
        server.emit('connection', socket)
        if (server === first) socket.resume()
      })
    })
  }

  #serve(request: Incoming, response: Outgoing): void {
    const { headers } = request
    const id = Number(headers['x-id'])
    const sent = Number(headers['x-sent'])
    const wanted = Number(headers['x-wanted'])
    const count = (this.#seen.get(id) ?? 0) + 1
    this.#seen.set(id, count)
    // Tries after the first are served.
    const plan = count > 1 ? '' : String(headers['x-plan'])
    let got = 0
    request.on('data', (chunk: Buffer) => {
      const own = requestOf(id, got + chunk.length)
      if (got + chunk.length > sent || !chunk.equals(own.subarray(got)))
        this.#mixed('request', id, got, chunk)
      got += chunk.length
    })
    const respond = (): void => {
      const body = answerOf(id, wanted)
      response.writeHead(200, {
        'x-id': `${id}`,
        ...((id & 1) === 0 && { 'content-length': `${wanted}` }),
      })
      let at = 0
      const more = (): void => {
        while (at < wanted) {
          const step = Math.min(wanted - at, 1 + below(40_000))
          at += step
          if (!response.write(body.subarray(at - step, at)) && at < wanted) {
            response.once('drain', more)
            return
          }
        }
        response.end()
      }
      more()
    }
    switch (plan) {
      case 'early':
        respond()
        break
      case 'fail':
        response.writeHead(503, { 'content-length': '0', 'x-id': `${id}` })
        response.end()
        break
      case 'cut':
        this.#later(below(20), () => breakOff(request))
        break
      case 'half':
        response.writeHead(200, { 'x-id': `${id}`, 'content-length': `${wanted + 10}` })
        response.write(answerOf(id, wanted))
        this.#later(below(20), () => breakOff(request))
        break
      case 'slow':
        request.pause()
        this.#later(below(60), () => request.resume())
        break
      default:
    }
    request.on('end', () => {
      if (isBrokenOff(request)) return
      // Node’s client ends a stream of HTTP/2 that it then cancels.
      if (got !== sent && !(headers['x-by'] === '2' && this.#left.has(id)))
        this.wrongs.push(`request ${id} ended at ${got} of ${sent}`)
      this.whole++
      // An application that takes the whole of it and then says that it did nothing is asked twice.
      if (request.method === 'POST' && headers['x-plan'] !== 'cut') {
        if (this.#posted.has(id)) this.wrongs.push(`${id} was posted twice`)
        this.#posted.add(id)
      }
      if (plan === '' || plan === 'slow') respond()
      else if (plan === 'late') this.#later(below(60), respond)
    })
  }

  // --- callers

  /** One request of HTTP/1.1 after the other. */
  async calls1(port: number): Promise<void> {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 3 })
    while (!this.isOver) {
      await Promise.all(Array.from({ length: 1 + below(4) }, () => this.#call1(port, agent)))
    }
    agent.destroy()
  }

  #call1(port: number, agent: http.Agent): Promise<void> {
    const asked = ask()
    const isSized = below(2) === 0
    const request = http.request({
      port,
      host: '127.0.0.1',
      method: asked.method,
      path: `/${asked.id}`,
      agent,
      headers: {
        host: 'web',
        ...headersOf(asked, 1),
        ...(isSized || asked.sent === 0
          ? asked.sent > 0 && { 'content-length': `${asked.sent}` }
          : { 'transfer-encoding': 'chunked' }),
      },
    })
    return new Promise((resolve) => {
      request.on('error', () => this.failed++)
      this.pending.add(asked)
      request.on('close', () => {
        this.pending.delete(asked)
        resolve()
      })
      request.on('response', (response) => {
        this.#hear(asked, response.statusCode!, response.headers, response)
        response.on('error', () => undefined)
      })
      this.#send(asked, request)
      this.#bound(asked, () => request.destroy())
    })
  }

  async calls2(port: number): Promise<void> {
    while (!this.isOver) {
      const session = http2.connect(`http://127.0.0.1:${port}`)
      session.on('error', () => undefined)
      this.#sessions.add(session)
      session.on('close', () => this.#sessions.delete(session))
      const rounds = 1 + below(8)
      for (let i = 0; i < rounds; i++) {
        await Promise.all(Array.from({ length: 1 + below(12) }, () => this.#call2(session)))
      }
      if (below(2) === 0) session.destroy()
      else session.close()
    }
  }

  #call2(session: http2.ClientHttp2Session): Promise<void> {
    if (session.destroyed || session.closed) return Promise.resolve()
    const asked = ask()
    const stream = session.request(
      {
        ':method': asked.method,
        ':path': `/${asked.id}`,
        ':authority': 'web',
        ...headersOf(asked, 2),
        ...(below(2) === 0 && asked.sent > 0 && { 'content-length': `${asked.sent}` }),
      },
      { endStream: asked.sent === 0 },
    )
    return new Promise((resolve) => {
      stream.on('error', () => this.failed++)
      this.pending.add(asked)
      stream.on('close', () => {
        this.pending.delete(asked)
        resolve()
      })
      stream.on('response', (headers) => this.#hear(asked, headers[':status']!, headers, stream))
      if (asked.sent > 0) this.#send(asked, stream)
      this.#bound(asked, () => {
        stream.close(http2.constants.NGHTTP2_CANCEL)
        // Node sometimes keeps one that was reset while it wrote.
        this.#later(200, () => stream.destroy())
      })
      // Some sessions end under their streams.
      if (below(400) === 0) this.#later(below(50), () => session.destroy())
    })
  }

  /** Several GETs at once on one connection; their answers come in order. */
  async pipelines(port: number): Promise<void> {
    while (!this.isOver) await this.#pipeline(port)
  }

  #pipeline(port: number): Promise<void> {
    // Even ids have a length, which is all that is read here.
    const asked = Array.from({ length: 8 }, () => {
      lastId += lastId & 1
      return ask('GET')
    }).map((one) => ({ ...one, id: (lastId += 2) & ~1, sent: 0, plan: pick(['', 'late', 'fail'] as const) }))
    lastId++
    const socket = net.connect(port, '127.0.0.1')
    socket.on('error', () => undefined)
    for (const one of asked) {
      const lines = Object.entries(headersOf(one, 1)).map(([name, value]) => `${name}: ${value}\r\n`)
      socket.write(`GET /${one.id} HTTP/1.1\r\nhost: web\r\n${lines.join('')}\r\n`)
    }
    let rest: Buffer = Buffer.alloc(0)
    let turn = 0
    return new Promise((resolve) => {
      socket.on('close', () => resolve())
      socket.on('end', () => socket.end())
      socket.on('data', (chunk: Buffer) => {
        rest = Buffer.concat([rest, chunk])
        for (;;) {
          const end = rest.indexOf('\r\n\r\n')
          if (end < 0) return
          const head = rest.subarray(0, end).toString('latin1')
          const length = Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1] ?? -1)
          const one = asked[turn]
          if (one === undefined || length < 0 || !head.startsWith('HTTP/1.1 ')) {
            this.wrongs.push(`pipelined answer ${turn} begins with ${JSON.stringify(head.slice(0, 200))}`)
            socket.destroy()
            return
          }
          if (rest.length < end + 4 + length) return
          const body = rest.subarray(end + 4, end + 4 + length)
          rest = rest.subarray(end + 4 + length)
          turn++
          if (!head.startsWith('HTTP/1.1 200')) continue
          if (
            Number(/\r\nx-id: (\d+)/i.exec(head)?.[1]) !== one.id ||
            !body.equals(answerOf(one.id, one.wanted))
          )
            this.#mixed('pipelined answer', one.id, 0, body)
          else this.good++
          if (turn === asked.length) socket.destroy()
        }
      })
      this.#later(below(10) === 0 ? below(60) : 1500, () => socket.destroy())
    })
  }

  stop(): void {
    this.isOver = true
  }

  close(): void {
    for (const session of this.#sessions) session.destroy()
    for (const timer of this.#timers) clearTimeout(timer)
  }

  // --- both

  #send({ id, sent }: Asked, to: NodeJS.WritableStream): void {
    const body = requestOf(id, sent)
    const isSlow = below(8) === 0
    let at = 0
    const more = (): void => {
      // Who has answered may want no more of the request (RFC 9113 8.1): Node then ends our side. A write behind that end is an
      // error, after which it tells neither the rest of an answer that was paused nor the close of the stream.
      const { destroyed, writableEnded } = to as http.ClientRequest | http2.ClientHttp2Stream
      if (destroyed || writableEnded) return
      const step = Math.min(sent - at, 1 + below(pick([100, 5000, 70_000, 300_000])))
      at += step
      to.write(body.subarray(at - step, at))
      if (at === sent) to.end()
      else if (isSlow) this.#later(1, more)
      else setImmediate(more)
    }
    if (sent === 0) to.end()
    else more()
  }

  #hear(asked: Asked, status: number, headers: http.IncomingHttpHeaders, body: NodeJS.ReadableStream): void {
    const { id, wanted } = asked
    if (status !== 200) {
      if (headers['x-meshctl-reason'] === undefined && headers['x-id'] !== `${id}`)
        this.wrongs.push(`${status} for ${id} is ${headers['x-id'] as string}’s`)
      body.resume()
      return
    }
    if (headers['x-id'] !== `${id}`) this.wrongs.push(`answer ${headers['x-id'] as string} came to ${id}`)
    let got = 0
    body.on('data', (chunk: Buffer) => {
      if (!chunk.equals(answerOf(id, got + chunk.length).subarray(got)) || got + chunk.length > wanted)
        this.#mixed('answer', id, got, chunk)
      got += chunk.length
    })
    body.on('end', () => {
      const answer = body as http.IncomingMessage | http2.ClientHttp2Stream
      if (asked.isLeft || (isBrokenOff(answer) && !isAnsweredEarly(answer))) return
      if (got === wanted) this.good++
      else this.wrongs.push(`answer ${id} ended at ${got} of ${wanted} (${asked.plan})`)
    })
    if (below(10) === 0) {
      body.pause()
      this.#later(below(80), () => body.resume())
    }
  }

  /** Nobody waits for ever, and some give up at once. */
  #bound(asked: Asked, giveUp: () => void): void {
    const isHopeless = asked.plan === 'stuck' || asked.plan === 'half'
    const ms = below(10) === 0 ? below(30) : isHopeless ? 100 : patience
    this.#later(ms, () => {
      if (ms === patience && this.pending.has(asked)) this.unanswered.push(asked)
      asked.isLeft = true
      this.#left.add(asked.id)
      giveUp()
    })
  }

  #later(ms: number, act: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      act()
    }, ms).unref()
    this.#timers.add(timer)
  }

  #mixed(what: string, id: number, at: number, bytes: Buffer): void {
    const place = matter.indexOf(bytes.subarray(0, 64))
    this.wrongs.push(`${what} ${id} at ${at}: ${bytes.length} bytes of another’s, matter ${place}`)
  }
}

/** As an application that fails: with HTTP/2 it may say that it has done nothing, so that others may be asked. */
function breakOff(request: Incoming): void {
  if (!('stream' in request)) request.socket.destroy()
  else
    request.stream.close(
      pick([http2.constants.NGHTTP2_REFUSED_STREAM, http2.constants.NGHTTP2_INTERNAL_ERROR]),
    )
}

/** Node tells an end of streams of HTTP/2 that were reset, too. */
function isBrokenOff(message: Incoming | http2.ClientHttp2Stream): boolean {
  if ('stream' in message) return isReset(message.stream)
  return 'rstCode' in message ? isReset(message) : !message.complete
}

/** A whole answer behind which the rest of the request was refused without an error: RFC 9113 8.1. */
function isAnsweredEarly(answer: http.IncomingMessage | http2.ClientHttp2Stream): boolean {
  if (!('rstCode' in answer) || answer.destroyed) return false
  return answer.aborted && answer.rstCode === 0 && answer.session?.destroyed === false
}

function isReset({ aborted, rstCode, destroyed, session }: http2.Http2Stream): boolean {
  return aborted || rstCode !== 0 || destroyed || session === undefined || session.destroyed
}
