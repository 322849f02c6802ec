// Header blocks as they arrive: gathered over CONTINUATIONs, decoded, and told to whom they concern. What a block is (a new
// request, a response, trailers, something too late) is decided by its stream; every block is decoded all the same, since
// the table must follow.
import { Fault } from '../fault.ts'
import { requestFault, responseFault, trailersFault } from './check.ts'
import { HpackDecoder } from './decoder.ts'
import { Fields } from './fields.ts'
import { Kind } from './flood.ts'
import { Code, Flag, maxPayload, readId } from './frame.ts'
import type { Session } from './session.ts'
import type { Stream } from './stream.ts'

/** Frames of one block; a peer that needs more splits them on purpose. */
const maxFrames = 32
/** Interim responses to one request. */
const maxInterims = 16

export class Heads {
  /** The stream whose block has begun and not ended: only its CONTINUATION may come next. 0: none. */
  openId: number
  readonly #session: Session
  readonly #decoder: HpackDecoder
  readonly #fields: Fields
  /** Compressed bytes that a block may have. */
  readonly #maxBlock: number
  /** Pieces of the open block: block[0, blockEnd). */
  #block: Buffer | null
  #blockEnd: number
  #frames: number
  #isEnd: boolean
  #isSelfish: boolean

  constructor(session: Session) {
    const { limits } = session
    this.openId = 0
    this.#session = session
    this.#decoder = new HpackDecoder({
      maxFields: limits.maxFields,
      maxListBytes: limits.maxListBytes,
      maxTableBytes: limits.tableBytes,
    })
    this.#fields = new Fields()
    // Enough to see that a head is too large and still answer it; beyond that nobody is honest.
    this.#maxBlock = limits.maxListBytes * 2 + maxPayload
    this.#block = null
    this.#blockEnd = 0
    this.#frames = 0
    this.#isEnd = false
    this.#isSelfish = false
  }

  /** The peer has read our SETTINGS. */
  acknowledged(): void {
    this.#decoder.acknowledged()
  }

  headers(buf: Buffer, start: number, end: number, flags: number, id: number): void {
    const session = this.#session
    let pad = 0
    if ((flags & Flag.padded) !== 0) {
      if (start === end) return session.guard.fail(Code.frameSizeError, 'HEADERS of a wrong size')
      pad = buf[start++]!
    }
    this.#isSelfish = false
    if ((flags & Flag.priority) !== 0) {
      if (end - start < 5) return session.guard.fail(Code.frameSizeError, 'HEADERS of a wrong size')
      this.#isSelfish = readId(buf, start) === id
      start += 5
    }
    if (pad > end - start) return session.guard.fail(Code.protocolError, 'more padding than frame')
    end -= pad
    if (!this.#mayBegin(id)) return undefined
    this.#isEnd = (flags & Flag.endStream) !== 0
    if ((flags & Flag.endHeaders) !== 0) return this.#decode(buf, start, end, id)
    if (start === end && session.guard.isFlooded(Kind.empties)) return undefined
    this.openId = id
    this.#frames = 1
    this.#gather(buf, start, end)
    return undefined
  }

  continuation(buf: Buffer, start: number, end: number, flags: number, id: number): void {
    const session = this.#session
    if (this.openId === 0) return session.guard.fail(Code.protocolError, 'CONTINUATION of nothing')
    const isLast = (flags & Flag.endHeaders) !== 0
    if (start === end && !isLast && session.guard.isFlooded(Kind.empties)) return undefined
    if (++this.#frames > maxFrames || this.#blockEnd + end - start > this.#maxBlock) {
      return session.guard.fail(Code.enhanceYourCalm, 'header block too large')
    }
    this.#gather(buf, start, end)
    if (!isLast) return undefined
    const block = this.#block!
    this.openId = 0
    this.#block = null
    this.#decode(block, 0, this.#blockEnd, id)
    return undefined
  }

  #gather(buf: Buffer, start: number, end: number): void {
    const bytes = end - start
    if (this.#block === null) {
      this.#block = Buffer.allocUnsafeSlow(Math.max(bytes * 2, 1024))
      this.#blockEnd = 0
    } else if (this.#blockEnd + bytes > this.#block.length) {
      const larger = Buffer.allocUnsafeSlow((this.#blockEnd + bytes) * 2)
      this.#block.copy(larger, 0, 0, this.#blockEnd)
      this.#block = larger
    }
    buf.copy(this.#block, this.#blockEnd, start, end)
    this.#blockEnd += bytes
  }

  /** Whether a block may come under this id; false: the session has failed. */
  #mayBegin(id: number): boolean {
    const session = this.#session
    if (id === 0) session.guard.fail(Code.protocolError, 'HEADERS on no stream')
    else if (session.role === 'server') {
      if ((id & 1) === 0) session.guard.fail(Code.protocolError, 'request with an even stream id')
      else if (id > session.lastPeerId) session.flood.useful++
      else if (session.streams.get(id) === null) session.guard.late(id)
    } else if (session.isIdle(id)) session.guard.fail(Code.protocolError, 'response without a request')
    else if (session.streams.get(id) === null) session.guard.late(id)
    return !session.isOver
  }

  #decode(buf: Buffer, start: number, end: number, id: number): void {
    const session = this.#session
    const fields = this.#fields
    if (this.#decoder.decode(buf, start, end, fields) < 0) {
      return session.guard.fail(Code.compressionError, 'header block not decodable')
    }
    if (session.role === 'server' && id > session.lastPeerId) this.#request(id, fields)
    else {
      const stream = session.streams.get(id)
      if (stream !== null) this.#further(stream, fields)
    }
    fields.release()
    return undefined
  }

  #request(id: number, fields: Fields): void {
    const session = this.#session
    session.lastPeerId = id
    if (!session.guard.mayAccept(id)) return undefined
    if (this.#isSelfish) return session.guard.reject(id, Fault.dependency, fields)
    if (fields.isTooLarge) return session.guard.answerTooLarge(id, this.#isEnd, fields)
    const isEnd = this.#isEnd
    let fault = requestFault(fields)
    if (fault === 0 && isEnd && fields.contentLength > 0) fault = Fault.contentLength
    if (fault !== 0) return session.guard.reject(id, fault, fields)
    const stream = session.accept(id, fields.method)
    if (stream.isClosed) return undefined
    stream.hasHead = true
    stream.isTunnel = fields.method === 'CONNECT'
    stream.expected = fields.contentLength
    this.#tell(stream, fields, isEnd)
    return undefined
  }

  /** A block on a stream that exists: a response's head, or trailers. */
  #further(stream: Stream, fields: Fields): void {
    const session = this.#session
    if (stream.isPeerEnded) return session.guard.fault(stream, Code.streamClosed)
    if (this.#isSelfish) return session.guard.fault(stream, Code.protocolError)
    if (fields.isTooLarge) return session.guard.fault(stream, Code.enhanceYourCalm)
    if (!stream.hasHead) return this.#response(stream, fields)
    // Trailers: always the end, never in a tunnel, and not before all of the body has come.
    if (!this.#isEnd || stream.expected > 0 || trailersFault(fields) !== 0 || stream.isTunnel) {
      return session.guard.fault(stream, Code.protocolError)
    }
    stream.isPeerEnded = true
    stream.owner.trailers(stream, fields)
    session.closeIfDone(stream)
    return undefined
  }

  #response(stream: Stream, fields: Fields): void {
    const session = this.#session
    const isEnd = this.#isEnd
    if (responseFault(fields) !== 0) return session.guard.fault(stream, Code.protocolError)
    const { status } = fields
    if (status < 200) {
      if (isEnd) return session.guard.fault(stream, Code.protocolError)
      if (++stream.interims > maxInterims) return session.guard.fault(stream, Code.enhanceYourCalm)
    } else {
      stream.hasHead = true
      if (stream.method === 'HEAD' || status === 204 || status === 304) stream.expected = 0
      else if (stream.method === 'CONNECT' && status < 300) stream.isTunnel = true
      else stream.expected = fields.contentLength
      if (isEnd && stream.expected > 0) return session.guard.fault(stream, Code.protocolError)
    }
    this.#tell(stream, fields, isEnd)
    return undefined
  }

  #tell(stream: Stream, fields: Fields, isEnd: boolean): void {
    stream.isPeerEnded = isEnd
    stream.owner.headers(stream, fields, isEnd)
    if (isEnd) this.#session.closeIfDone(stream)
  }
}
