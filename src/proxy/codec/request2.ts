// HTTP/2 downstream: one request on one stream.
import type { Channel } from '../../net/channel.ts'
import { isOpaque } from '../../snapshot/types.ts'
import { Fields } from '../../wire/h2/fields.ts'
import type { Field } from '../../wire/h2/field.ts'
import { Code } from '../../wire/h2/frame.ts'
import type { Stream, StreamOwner } from '../../wire/h2/stream.ts'
import { releaseResponse } from '../chain/answer.ts'
import { leave, requestBytes, requestEnd } from '../chain/attempt.ts'
import { exchangeOf, filterRequest, proceed } from '../chain/begin.ts'
import type { Downstream, Headers } from '../chain/ends.ts'
import type { Exchange } from '../chain/exchange.ts'
import { Done, Next, run, Wait } from '../chain/filter.ts'
import { expired, settle } from '../chain/finish.ts'
import { blame, causes } from '../chain/reply.ts'
import type { Cause } from '../chain/reply.ts'
import { Grpc, grpcMessage, grpcStatusOf, isGrpc, statusIn, timeoutIn } from '../filter/grpc.ts'
import { Pump } from '../pump.ts'
import type { PumpEnd } from '../pump.ts'
import type { Server2 } from './server2.ts'
import { StreamChannel } from './streamchannel.ts'
import { pairFields, trailerFields, writeReply, writeResponseHead } from './write2.ts'
import { pairsOf } from './write1.ts'

// For further tries: filled again from what the request keeps.
const again = new Fields()

export class Request2 implements Downstream, StreamOwner, PumpEnd {
  readonly #server: Server2
  readonly #stream: Stream | null
  #x: Exchange | null
  /** The fields of its head, while it arrives and for other tries. */
  #arriving: Fields | null
  #fields: Field[]
  #authority: string
  #isHeld: boolean
  /** Told to us and not yet given back as window. */
  #owed: number
  /** A filter of the exchange waits. */
  #isWaiting: boolean
  #pump: Pump | null
  /** What a tunnel's caller sent before there was a tunnel. */
  #early: Buffer[]

  /** Without a stream it only stands for a request that was refused. */
  constructor(server: Server2, stream: Stream | null) {
    this.#server = server
    this.#stream = stream
    this.#x = null
    this.#arriving = null
    this.#fields = []
    this.#authority = ''
    this.#isHeld = false
    this.#owed = 0
    this.#isWaiting = false
    this.#pump = null
    this.#early = []
  }

  // --- from the stream

  headers(stream: Stream, fields: Fields, isEnd: boolean): void {
    const { core, scope, openTunnel } = this.#server
    if (openTunnel !== null && fields.method === 'CONNECT' && fields.protocol === '') {
      openTunnel(stream, fields)
      return
    }
    const { live } = core
    if (live === null) {
      stream.session.reset(stream, Code.refusedStream)
      return
    }
    const x = exchangeOf(core, live, this, scope)
    this.#x = x
    this.#fields = fields.items.slice(0, fields.count)
    this.#authority = fields.authority
    this.#arriving = fields
    const isUpgrade = fields.protocol === 'websocket'
    x.method = isUpgrade ? 'GET' : fields.method
    x.path = fields.path
    x.authority = fields.host
    x.version = 2
    x.upgrade = isUpgrade ? 'websocket' : ''
    x.requestDone = isEnd || isUpgrade
    x.isUnsized = !isEnd && !isUpgrade && fields.contentLength < 0
    // Where nothing else was declared an application is spoken to as its caller spoke, and in HTTP/1.1 about WebSocket.
    if (!isUpgrade && this.#speaksHttp2(fields)) x.isHttp2 = true
    x.isGrpc = isGrpc(fields)
    const verdict = filterRequest(x, fields)
    if (x.isGrpc && !scope.isSecure && !x.finished) limit(x, fields)
    if (verdict === Next && isOpaque(x.target.protocol)) {
      // What was declared is not circumvented by calling it something else.
      this.refuse(x, causes.callerRefused, `${x.target.destination.service} speaks ${x.target.protocol}`)
    } else if (verdict === Wait) this.#isWaiting = true
    else if (verdict !== Done) proceed(x)
    this.#arriving = null
  }

  data(stream: Stream, buffer: Buffer, start: number, end: number, isEnd: boolean): void {
    const x = this.#x
    if (x === null) {
      stream.session.consumed(stream, end - start)
      return
    }
    if (x.upgrade !== '') {
      // Nobody has agreed to switch yet: what comes too early waits, within the stream's window.
      this.#early.push(Buffer.from(buffer.subarray(start, end)))
      return
    }
    requestBytes(x, buffer, start, end)
    if (isEnd) {
      if (this.#x === x) requestEnd(x, null)
    } else if (this.#isHeld) this.#owed += end - start
    else stream.session.consumed(stream, end - start)
  }

  trailers(_stream: Stream, fields: Fields): void {
    if (this.#x !== null) requestEnd(this.#x, pairsOf(fields))
  }

  reset(): void {
    const x = this.#x
    if (x === null) return
    this.#x = null
    blame(x, causes.clientGone, '')
    leave(x)
    x.responseDone = true
    settle(x)
  }

  writable(): void {
    if (this.#x !== null) releaseResponse(this.#x)
  }

  // --- from the chain

  head(x: Exchange): Headers {
    if (this.#arriving !== null) return this.#arriving
    again.refill(this.#fields, this.#authority)
    again.method = x.method
    again.path = x.path
    return again
  }

  interim(x: Exchange, response: Headers): void {
    const stream = this.#stream!
    writeResponseHead(x, response, stream.session, stream, false)
  }

  respond(
    x: Exchange,
    response: Headers,
    buffer: Buffer,
    start: number,
    end: number,
    isWhole: boolean,
  ): boolean {
    const stream = this.#stream!
    const { session } = stream
    const isEnd = isWhole && start === end
    if (isEnd && x.isGrpc) x.grpcStatus = statusIn(response)
    writeResponseHead(x, response, session, stream, isEnd)
    return isEnd || start === end || session.data(stream, buffer, start, end, isWhole)
  }

  body(_x: Exchange, buffer: Buffer, start: number, end: number): boolean {
    const stream = this.#stream!
    return stream.session.data(stream, buffer, start, end, false)
  }

  finish(x: Exchange, trailers: Headers | null): void {
    const stream = this.#stream!
    if (!stream.isEnded) {
      if (trailers === null) stream.session.end(stream)
      else {
        if (x.isGrpc) x.grpcStatus = statusIn(trailers)
        const fields = trailerFields(trailers)
        stream.session.trailers(stream, fields, fields.length)
      }
    }
    this.#done(x)
  }

  flush(): void {}

  refuse(x: Exchange, cause: Cause, detail: string, status: number = 0): void {
    leave(x)
    blame(x, cause, detail)
    x.status = status === 0 ? cause.status : status
    x.responseStarted = true
    const stream = this.#stream!
    writeReply(x, stream.session, stream, cause, x.status, detail)
    if (x.isGrpc) {
      x.grpcStatus = grpcStatusOf(x.status)
      x.status = 200
    }
    // What was decided for the connection holds for nobody who comes later.
    if (!x.keepAlive) this.#server.close()
    this.#done(x)
  }

  cut(x: Exchange, cause: Cause, detail: string): void {
    leave(x)
    blame(x, cause, detail)
    x.responseDone = true
    const stream = this.#stream!
    if (x.isGrpc) {
      x.grpcStatus = cause === causes.responseTimeout ? Grpc.deadlineExceeded : Grpc.unavailable
      const fields = pairFields([
        'grpc-status',
        String(x.grpcStatus),
        'grpc-message',
        grpcMessage(cause.text),
      ])
      stream.session.trailers(stream, fields, fields.length)
    }
    settle(x)
    this.#x = null
    if (x.isGrpc) stream.session.decline(stream)
    else stream.session.reset(stream, Code.internalError)
  }

  expired(x: Exchange, tag: number): void {
    expired(x, tag)
  }

  /** A filter that waited goes on. */
  resume(x: Exchange): void {
    if (x.finished || this.#x !== x || !this.#isWaiting) return
    this.#isWaiting = false
    const verdict = run(x.chain.onRequest, x)
    if (verdict === Wait) this.#isWaiting = true
    else if (verdict !== Done) proceed(x)
  }

  tunnel(x: Exchange, response: Headers, upstream: Channel, early: Buffer | null): void {
    const stream = this.#stream!
    writeResponseHead(x, response, stream.session, stream, false)
    x.status = 200
    x.disarm()
    const channel = new StreamChannel(stream)
    if (early !== null) channel.write(early)
    for (const bytes of this.#early) {
      upstream.write(bytes)
      stream.session.consumed(stream, bytes.length)
    }
    this.#pump = new Pump(channel, upstream, this)
  }

  pumped(): void {
    const x = this.#x
    if (x === null || this.#pump === null) return
    x.bytesIn = this.#pump.upstream.bytesOut
    x.bytesOut = this.#pump.upstream.bytesIn
    leave(x)
    settle(x)
    this.#x = null
  }

  hold(): void {
    this.#isHeld = true
  }

  release(): void {
    this.#isHeld = false
    const stream = this.#stream!
    const owed = this.#owed
    this.#owed = 0
    if (owed > 0) stream.session.consumed(stream, owed)
  }

  /** On a link the peer's proxy says what its caller spoke. */
  #speaksHttp2(fields: Fields): boolean {
    return this.#server.openTunnel === null || fields.get('x-meshctl-protocol') === 'h2'
  }

  /** The response has gone out whole. */
  #done(x: Exchange): void {
    x.responseDone = true
    settle(x)
    this.#x = null
    const stream = this.#stream!
    stream.session.decline(stream)
  }
}

/** The caller's own deadline holds where it is shorter than the route's, as in Istio. */
function limit(x: Exchange, fields: Fields): void {
  const ms = timeoutIn(fields)
  if (ms > 0 && (x.timeLimit === 0 || ms < x.timeLimit)) x.armRoute(ms)
}
