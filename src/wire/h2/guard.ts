// What becomes of a peer that breaks the rules: one stream ends, or the whole session. Mistakes are counted, so that making
// them on purpose does not pay.
import { Fault } from '../fault.ts'
import type { Fields } from './fields.ts'
import { Kind } from './flood.ts'
import { Code } from './frame.ts'
import type { Session } from './session.ts'
import type { Stream } from './stream.ts'
import { End } from './table.ts'

export class Guard {
  readonly #session: Session

  constructor(session: Session) {
    this.#session = session
  }

  /** Ends the session. */
  fail(code: number, why: string): void {
    const session = this.#session
    if (session.isOver) return
    session.isOver = true
    session.output.goaway(session.lastPeerId, code)
    session.farewell.dropAll(code)
    session.owner.failed(code, why)
  }

  /** Ends one stream. */
  fault(stream: Stream, code: number): void {
    if (this.#isTooFaulty()) return
    const session = this.#session
    session.close(stream, End.byUs)
    session.output.rstStream(stream.id, code)
    stream.owner.reset(stream, code, false)
  }

  /** A stream error; an error of the session where that stream is not open (RFC 9113 5.4.2 leaves the choice). */
  faultAt(id: number, code: number): void {
    const stream = this.#session.streams.get(id)
    if (stream !== null) this.fault(stream, code)
    else this.fail(code, 'bad frame on a stream that is not open')
  }

  /** DATA or HEADERS on a stream that is no more, or never was. */
  late(id: number): void {
    const session = this.#session
    if (session.isIdle(id)) return this.fail(Code.protocolError, 'frame on an idle stream')
    const end = session.streams.endOf(id, session.lastId)
    // It was on its way when we reset the stream.
    if (end === End.byUs) return undefined
    if (end === End.orderly) return this.fail(Code.streamClosed, 'frame behind the end of its stream')
    if (end === End.never) return this.fail(Code.protocolError, 'stream id going backwards')
    if (!this.#isTooFaulty()) session.output.rstStream(id, Code.streamClosed)
    return undefined
  }

  /** Takes a frame of this kind down; true: too many, and the session has failed. */
  isFlooded(kind: number): boolean {
    if (!this.#session.flood.isOver(kind, this.#session.now)) return false
    this.fail(Code.enhanceYourCalm, 'too many frames of one kind')
    return true
  }

  /** True: the peer makes us answer and does not read, and the session has failed. */
  isGlutted(): boolean {
    if (this.#session.output.end <= this.#session.limits.outputBytes) return false
    this.fail(Code.enhanceYourCalm, 'answers are not read')
    return true
  }

  /** Whether a new request may become a stream; false: it has been refused. */
  mayAccept(id: number): boolean {
    const session = this.#session
    if (this.isGlutted()) return false
    if (!session.farewell.isRefusing && session.streams.count < session.limits.maxConcurrentStreams)
      return true
    session.streams.note(id, End.byUs)
    if (!this.isFlooded(Kind.refusals)) session.output.rstStream(id, Code.refusedStream)
    return false
  }

  /** Refuses a malformed request. */
  reject(id: number, fault: number, fields: Fields): void {
    const session = this.#session
    session.streams.note(id, End.byUs)
    if (this.#isTooFaulty()) return
    session.output.rstStream(id, Code.protocolError)
    session.owner.refused(fault, fields)
  }

  /** Answers a request whose head is over the limits. */
  answerTooLarge(id: number, isEnd: boolean, fields: Fields): void {
    const session = this.#session
    session.streams.note(id, End.byUs)
    if (this.#isTooFaulty()) return
    session.sender.answer(id, 431)
    // The response is complete: the peer need not send the rest (RFC 9113 8.1).
    if (!isEnd) session.output.rstStream(id, Code.noError)
    session.owner.refused(Fault.headTooLarge, fields)
  }

  /** A server's clients pay for each mistake; a client's server can make only as many as it is asked for. */
  #isTooFaulty(): boolean {
    return this.#session.role === 'server' && (this.isFlooded(Kind.faults) || this.isGlutted())
  }
}
