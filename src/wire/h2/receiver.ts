// The receiving side of a session: cuts the peer's bytes into frames and hands each to who deals with its kind. Frames are
// read where they lie. One that is cut by the end of a read is told in parts if it is data, else its pieces are kept.
import { Kind } from './flood.ts'
import { Code, Flag, Type, headerBytes, maxPayload, preface, readId, readWord } from './frame.ts'
import { Heads } from './heads.ts'
import type { Session } from './session.ts'
import { readSettings } from './settings.ts'
import type { Stream } from './stream.ts'
import { End } from './table.ts'

const pieceBytes = headerBytes + maxPayload
/** Settings of one frame: each may move the windows of all streams. */
const maxSettings = 32
const maxSpare = 16
// Buffers for cut frames that no session uses at the moment.
const spare: Buffer[] = []

export class Receiver {
  readonly #session: Session
  readonly #heads: Heads
  /** Bytes of the preface still to come; servers only. */
  #prefaceLeft: number
  /** The peer's first frame, which has to be SETTINGS, has not come. */
  #isFirst: boolean
  /** A cut frame is piece[0, pieceEnd). */
  #piece: Buffer | null
  #pieceEnd: number
  /** Bytes still to come of a DATA frame that is told in parts, of which stream, and whether they end it. */
  #dataLeft: number
  #dataId: number
  #isDataEnd: boolean

  constructor(session: Session) {
    this.#session = session
    this.#heads = new Heads(session)
    this.#prefaceLeft = session.role === 'server' ? preface.length : 0
    this.#isFirst = true
    this.#piece = null
    this.#pieceEnd = 0
    this.#dataLeft = 0
    this.#dataId = 0
    this.#isDataEnd = false
  }

  receive(buf: Buffer, start: number, end: number): void {
    const session = this.#session
    if (this.#prefaceLeft > 0) start = this.#preface(buf, start, end)
    if (this.#dataLeft > 0) start = this.#moreData(buf, start, end)
    else if (this.#piece !== null) start = this.#complete(this.#piece, buf, start, end)
    while (end - start >= headerBytes && !session.isOver) {
      const length = (buf[start]! << 16) | (buf[start + 1]! << 8) | buf[start + 2]!
      if (length > maxPayload) return session.guard.fail(Code.frameSizeError, 'frame too large')
      const next = start + headerBytes + length
      if (next > end) {
        if (this.#mayPart(buf, start)) start = this.#beginData(buf, start, end, length)
        break
      }
      this.#frame(buf, start, length)
      start = next
    }
    if (start < end && !session.isOver && this.#piece === null) {
      this.#piece = spare.pop() ?? Buffer.allocUnsafeSlow(pieceBytes)
      this.#pieceEnd = buf.copy(this.#piece, 0, start, end)
    }
  }

  /** Lets go of what is kept. */
  release(): void {
    if (this.#piece !== null && spare.length < maxSpare) spare.push(this.#piece)
    this.#piece = null
    this.#pieceEnd = 0
  }

  #preface(buf: Buffer, start: number, end: number): number {
    while (start < end && this.#prefaceLeft > 0) {
      if (buf[start] !== preface[preface.length - this.#prefaceLeft]) {
        this.#session.guard.fail(Code.protocolError, 'no HTTP/2 preface')
        return end
      }
      start++
      this.#prefaceLeft--
    }
    return start
  }

  /** Adds to a cut frame and deals with it when it is complete; returns what comes behind. */
  #complete(piece: Buffer, buf: Buffer, start: number, end: number): number {
    if (this.#pieceEnd < headerBytes) {
      const bytes = Math.min(end - start, headerBytes - this.#pieceEnd)
      buf.copy(piece, this.#pieceEnd, start, start + bytes)
      start += bytes
      this.#pieceEnd += bytes
      if (this.#pieceEnd < headerBytes) return end
    }
    const length = (piece[0]! << 16) | (piece[1]! << 8) | piece[2]!
    if (length > maxPayload) {
      this.#session.guard.fail(Code.frameSizeError, 'frame too large')
      return end
    }
    const bytes = Math.min(end - start, headerBytes + length - this.#pieceEnd)
    buf.copy(piece, this.#pieceEnd, start, start + bytes)
    start += bytes
    this.#pieceEnd += bytes
    if (this.#pieceEnd < headerBytes + length) return end
    this.#frame(piece, 0, length)
    this.release()
    return start
  }

  /** A whole frame: its header at buf[at…], its payload behind. */
  #frame(buf: Buffer, at: number, length: number): void {
    const session = this.#session
    const type = buf[at + 3]!
    const flags = buf[at + 4]!
    const id = readId(buf, at + 5)
    const start = at + headerBytes
    const end = start + length
    if (this.#heads.openId !== 0 && (type !== Type.continuation || id !== this.#heads.openId)) {
      return session.guard.fail(Code.protocolError, 'header block interrupted')
    }
    if (this.#isFirst) {
      if (type !== Type.settings || (flags & Flag.ack) !== 0) {
        return session.guard.fail(Code.protocolError, 'first frame is not SETTINGS')
      }
      this.#isFirst = false
    }
    switch (type) {
      case Type.data:
        return this.#data(buf, start, end, flags, id)
      case Type.headers:
        return this.#heads.headers(buf, start, end, flags, id)
      case Type.continuation:
        return this.#heads.continuation(buf, start, end, flags, id)
      case Type.windowUpdate:
        return this.#windowUpdate(buf, start, length, id)
      case Type.rstStream:
        return this.#rstStream(buf, start, length, id)
      case Type.settings:
        return this.#settings(buf, start, end, flags, id)
      case Type.ping:
        return this.#ping(buf, start, length, flags, id)
      case Type.goaway:
        if (length < 8) return session.guard.fail(Code.frameSizeError, 'GOAWAY of a wrong size')
        if (id !== 0) return session.guard.fail(Code.protocolError, 'GOAWAY on a stream')
        if (session.guard.isFlooded(Kind.settings)) return undefined
        return session.farewell.received(readId(buf, start))
      case Type.priority:
        return this.#priority(buf, start, length, id)
      case Type.pushPromise:
        return session.guard.fail(Code.protocolError, 'push is not enabled')
      default:
        session.guard.isFlooded(Kind.unknowns)
    }
  }

  /** Whether the frame that begins here may be told before it is complete. */
  #mayPart(buf: Buffer, at: number): boolean {
    if (buf[at + 3] !== Type.data || (buf[at + 4]! & Flag.padded) !== 0) return false
    return this.#heads.openId === 0 && !this.#isFirst
  }

  /** The first part of a DATA frame of so many bytes; returns the end. */
  #beginData(buf: Buffer, at: number, end: number, length: number): number {
    const id = readId(buf, at + 5)
    const isEnd = (buf[at + 4]! & Flag.endStream) !== 0
    const start = at + headerBytes
    const stream = this.#admit(id, length, length, isEnd)
    this.#dataId = stream === null ? 0 : id
    this.#isDataEnd = isEnd
    this.#dataLeft = length - (end - start)
    if (stream !== null && start < end) this.#tell(stream, buf, start, end, false)
    return end
  }

  /** Another part of it; returns what comes behind the frame. */
  #moreData(buf: Buffer, start: number, end: number): number {
    const to = Math.min(end, start + this.#dataLeft)
    this.#dataLeft -= to - start
    const stream = this.#dataId === 0 ? null : this.#session.streams.get(this.#dataId)
    if (stream !== null) this.#tell(stream, buf, start, to, this.#isDataEnd && this.#dataLeft === 0)
    return to
  }

  #data(buf: Buffer, start: number, end: number, flags: number, id: number): void {
    const length = end - start
    if ((flags & Flag.padded) !== 0) {
      const pad = start < end ? buf[start]! : length
      if (id !== 0 && pad >= length) {
        return this.#session.guard.fail(Code.protocolError, 'more padding than frame')
      }
      start++
      end -= pad
    }
    const isEnd = (flags & Flag.endStream) !== 0
    const stream = this.#admit(id, length, end - start, isEnd)
    if (stream !== null && (start < end || isEnd)) this.#tell(stream, buf, start, end, isEnd)
    return undefined
  }

  /** Whether a DATA frame may come: its stream. `length` with padding, `bytes` without. Null: nobody is to be told of it. */
  #admit(id: number, length: number, bytes: number, isEnd: boolean): Stream | null {
    const session = this.#session
    if (id === 0) {
      session.guard.fail(Code.protocolError, 'DATA on no stream')
      return null
    }
    if (!session.inflow.arrived(length)) {
      session.guard.fail(Code.flowControlError, 'connection window exceeded')
      return null
    }
    if (bytes > 0) session.flood.useful++
    else if (!isEnd && session.guard.isFlooded(Kind.empties)) return null
    const stream = session.streams.get(id)
    if (stream === null) session.guard.late(id)
    else if (stream.isPeerEnded) session.guard.fault(stream, Code.streamClosed)
    else if (!stream.hasHead) session.guard.fault(stream, Code.protocolError)
    else if ((stream.window -= length) < 0) session.guard.fault(stream, Code.flowControlError)
    else if (!this.#mayBring(stream, bytes, isEnd)) session.guard.fault(stream, Code.protocolError)
    else {
      if (length > bytes) session.inflow.skipped(stream, length - bytes)
      return stream
    }
    return null
  }

  /** Whether so much agrees with the length that the head has told. */
  #mayBring(stream: Stream, bytes: number, isEnd: boolean): boolean {
    if (stream.expected < 0) return true
    stream.expected -= bytes
    return stream.expected >= 0 && (!isEnd || stream.expected === 0)
  }

  #tell(stream: Stream, buf: Buffer, start: number, end: number, isEnd: boolean): void {
    const session = this.#session
    stream.isPeerEnded = isEnd
    session.inflow.told(stream, end - start)
    stream.owner.data(stream, buf, start, end, isEnd)
    if (isEnd) session.closeIfDone(stream)
  }

  #windowUpdate(buf: Buffer, at: number, length: number, id: number): void {
    const session = this.#session
    if (length !== 4) return session.guard.fail(Code.frameSizeError, 'WINDOW_UPDATE of a wrong size')
    if (session.guard.isFlooded(Kind.windowUpdates)) return undefined
    const increment = readId(buf, at)
    if (id === 0) {
      if (increment === 0) return session.guard.fail(Code.protocolError, 'WINDOW_UPDATE of 0')
      if (!session.sender.widen(increment)) {
        session.guard.fail(Code.flowControlError, 'connection window overflow')
      }
      return undefined
    }
    const stream = session.streams.get(id)
    if (stream === null) {
      if (session.isIdle(id)) session.guard.fail(Code.protocolError, 'WINDOW_UPDATE on an idle stream')
      return undefined
    }
    if (increment === 0) return session.guard.fault(stream, Code.protocolError)
    if (!session.sender.widenStream(stream, increment)) session.guard.fault(stream, Code.flowControlError)
    return undefined
  }

  #rstStream(buf: Buffer, at: number, length: number, id: number): void {
    const session = this.#session
    if (length !== 4) return session.guard.fail(Code.frameSizeError, 'RST_STREAM of a wrong size')
    if (session.isIdle(id)) return session.guard.fail(Code.protocolError, 'RST_STREAM on an idle stream')
    if (session.role === 'server' && session.guard.isFlooded(Kind.resets)) return undefined
    const stream = session.streams.get(id)
    if (stream === null) return undefined
    const code = readWord(buf, at)
    session.close(stream, End.byPeer)
    stream.owner.reset(stream, code, code === Code.refusedStream && !stream.hasHead)
    return undefined
  }

  #settings(buf: Buffer, start: number, end: number, flags: number, id: number): void {
    const session = this.#session
    if (id !== 0) return session.guard.fail(Code.protocolError, 'SETTINGS on a stream')
    if ((flags & Flag.ack) !== 0) {
      if (start < end) return session.guard.fail(Code.frameSizeError, 'SETTINGS acknowledged with content')
      if (session.guard.isFlooded(Kind.settings)) return undefined
      this.#heads.acknowledged()
      session.inflow.acknowledged(session.streams)
      return undefined
    }
    if ((end - start) % 6 !== 0) return session.guard.fail(Code.frameSizeError, 'SETTINGS of a wrong size')
    if (end - start > maxSettings * 6) return session.guard.fail(Code.enhanceYourCalm, 'too many settings')
    if (session.guard.isFlooded(Kind.settings) || session.guard.isGlutted()) return undefined
    if (!readSettings(session, buf, start, end)) return undefined
    session.settled()
    return undefined
  }

  #ping(buf: Buffer, at: number, length: number, flags: number, id: number): void {
    const session = this.#session
    if (length !== 8) return session.guard.fail(Code.frameSizeError, 'PING of a wrong size')
    if (id !== 0) return session.guard.fail(Code.protocolError, 'PING on a stream')
    if (session.guard.isFlooded(Kind.pings) || session.guard.isGlutted()) return undefined
    if ((flags & Flag.ack) === 0) session.output.pong(buf, at)
    else if (readWord(buf, at) === 0) session.farewell.answered(readWord(buf, at + 4))
    return undefined
  }

  /** Priorities are read for their mistakes only (RFC 9113 5.3.2 retired them). */
  #priority(buf: Buffer, at: number, length: number, id: number): void {
    const session = this.#session
    if (id === 0) return session.guard.fail(Code.protocolError, 'PRIORITY on no stream')
    if (session.guard.isFlooded(Kind.priorities)) return undefined
    if (length !== 5) return session.guard.faultAt(id, Code.frameSizeError)
    if (readId(buf, at) === id) session.guard.faultAt(id, Code.protocolError)
    return undefined
  }
}
