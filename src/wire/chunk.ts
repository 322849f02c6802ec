// The chunked transfer coding (RFC 9112 7.1), taken apart where its bytes lie: runs of data, then the trailer section.
import { COLON, CR, LF, SP, TAB, hashOf, hex, text, token } from './bytes.ts'
import { Fault } from './fault.ts'

/** Bytes of one chunk-size line with its extensions. */
const maxLine = 1024
/** Bytes of framing beyond 16 per chunk and two per byte of data, over a message: floods of tiny or padded chunks end here. */
const maxOverhead = 16384
const maxTrailer = 8192

// Fields that mean something before the body: framing, routing, credentials, identity. Some servers merge trailers into
// the headers, and then these would come in behind the back of every check (RFC 9110 6.5.1). Kept as hashes: a name that
// merely collides is refused too, which harms nobody.
const forbidden: ReadonlySet<number> = new Set(
  (
    'host content-length transfer-encoding connection keep-alive te trailer upgrade expect max-forwards range ' +
    'authorization proxy-authorization proxy-authenticate www-authenticate cookie set-cookie forwarded ' +
    'content-type content-encoding content-range cache-control location x-request-id x-real-ip traceparent'
  )
    .split(' ')
    .map(hashOf),
)
const forbiddenPrefixes: ReadonlySet<number> = new Set(['x-forwarded-', 'x-envoy-', 'x-meshctl-'].map(hashOf))

/** Whether a field of this lower-case name is one that no trailer section may have. */
export function isForbiddenTrailer(name: string): boolean {
  let hash = 0
  for (let i = 0; i < name.length; i++) {
    let byte = name.charCodeAt(i)
    // An underscore counts as a dash, as below.
    if (byte === 95) byte = 45
    hash = Math.imul(hash, 33) ^ byte
    if (byte === 45 && forbiddenPrefixes.has(hash)) return true
  }
  return forbidden.has(hash)
}

// States: which byte comes next.
const SIZE_FIRST = 0
const SIZE = 1
const EXTENSION = 2
const EXT_NAME_FIRST = 3
const EXT_NAME = 4
const EXT_VALUE_FIRST = 5
const EXT_VALUE = 6
const EXT_QUOTED = 7
const EXT_ESCAPED = 8
const EXT_QUOTED_END = 9
const SIZE_LF = 10
const DATA = 11
const DATA_CR = 12
const DATA_LF = 13
const LINE = 14
const END_LF = 15
const NAME = 16
const VALUE = 17
const VALUE_LF = 18
const DONE = 19

/** Reads one chunked message after the other, whatever pieces they come in. Keeps no data. */
export class ChunkReader {
  /** Bytes of data seen so far, without framing. */
  data = 0
  /** In the buffer of the last `read`: the run of data that it met, [from, to); empty where it met none. */
  from = 0
  to = 0
  /** The message is over. After that, and after a fault, only `reset` makes sense. */
  isDone = false
  /** The trailer section of a message that is over, field lines and final empty line; null: it has none. Checked already. */
  trailers: Buffer | null = null
  #state = SIZE_FIRST
  #left = 0
  #digits = 0
  #line = 0
  #overhead = 0
  #trailerBytes = 0
  #nameHash = 0

  /** Makes it ready for the next message. */
  reset(): void {
    this.data = 0
    this.from = 0
    this.to = 0
    this.isDone = false
    this.trailers = null
    this.#state = SIZE_FIRST
    this.#left = 0
    this.#digits = 0
    this.#line = 0
    this.#overhead = 0
    this.#trailerBytes = 0
  }

  /**
   * Reads buf[start, end) up to the end of the first run of data in it, or of the message, or of what is there. Returns
   * the offset behind what was read (there is data where `from < to`), or a `Fault` code (< -1).
   */
  read(buf: Buffer, start: number, end: number): number {
    let at = start
    this.from = this.to = start
    let section = this.#state >= LINE ? start : -1
    while (at < end) {
      if (this.#state === DATA) {
        const take = Math.min(this.#left, end - at)
        this.from = at
        at += take
        this.to = at
        this.#left -= take
        this.data += take
        if (this.#left === 0) this.#state = DATA_CR
        return at
      }
      const fault = this.#state < DATA ? this.#sizeByte(buf[at]!) : this.#otherByte(buf[at]!)
      if (fault < 0) return fault
      at++
      if (this.#state === LINE && section < 0) section = at
      if (this.#state === DONE) {
        this.#keepSection(buf, section, at)
        this.isDone = true
        // The final empty line alone is no trailer section.
        if (this.trailers?.length === 2) this.trailers = null
        return at
      }
    }
    if (section >= 0) this.#keepSection(buf, section, at)
    return at
  }

  #keepSection(buf: Buffer, from: number, to: number): void {
    const part = Buffer.from(buf.subarray(from, to))
    this.trailers = this.trailers === null ? part : Buffer.concat([this.trailers, part])
  }

  /** A byte of the chunk-size line; 0 or a fault. */
  #sizeByte(byte: number): number {
    if (++this.#line > maxLine) return Fault.chunkLine
    switch (this.#state) {
      case SIZE_FIRST:
      case SIZE: {
        const digit = hex[byte]!
        if (digit !== 0) {
          // 13 digits are 2^52; leading zeros count too, nobody needs more.
          if (++this.#digits > 13) return Fault.chunkOverflow
          this.#left = this.#left * 16 + digit - 1
          this.#state = SIZE
          return 0
        }
        if (this.#state === SIZE_FIRST) return Fault.chunkSize
        return this.#extension(byte, Fault.chunkSize)
      }
      case EXT_NAME_FIRST:
        this.#state = EXT_NAME
        return token[byte] === 0 ? Fault.chunkExtension : 0
      case EXT_NAME:
        if (token[byte] !== 0) return 0
        if (byte !== 61) return this.#extension(byte, Fault.chunkExtension)
        this.#state = EXT_VALUE_FIRST
        return 0
      case EXT_VALUE_FIRST:
        this.#state = byte === 34 ? EXT_QUOTED : EXT_VALUE
        return byte === 34 || token[byte] !== 0 ? 0 : Fault.chunkExtension
      case EXT_VALUE:
        return token[byte] !== 0 ? 0 : this.#extension(byte, Fault.chunkExtension)
      case EXT_QUOTED:
        if (text[byte] === 0) return Fault.chunkExtension
        if (byte === 34) this.#state = EXT_QUOTED_END
        else if (byte === 92) this.#state = EXT_ESCAPED
        return 0
      case EXT_ESCAPED:
        this.#state = EXT_QUOTED
        return text[byte] === 0 ? Fault.chunkExtension : 0
      case EXTENSION:
      case EXT_QUOTED_END:
        return this.#extension(byte, Fault.chunkExtension)
      default:
        // SIZE_LF
        return byte === LF ? this.#sizeEnd() : Fault.bareCr
    }
  }

  /** What may follow a size or an extension: another extension, or the end of the line. */
  #extension(byte: number, otherwise: number): number {
    if (byte === 59) this.#state = EXT_NAME_FIRST
    else if (byte === CR) this.#state = SIZE_LF
    else return byte === LF ? Fault.bareLf : otherwise
    return 0
  }

  #sizeEnd(): number {
    this.#overhead = Math.max(0, this.#overhead + this.#line - 16 - 2 * this.#left)
    if (this.#overhead > maxOverhead) return Fault.chunkOverhead
    this.#state = this.#left === 0 ? LINE : DATA
    this.#digits = 0
    this.#line = 0
    if (this.data + this.#left > Number.MAX_SAFE_INTEGER) return Fault.chunkOverflow
    return 0
  }

  /** A byte behind data or of the trailer section; 0 or a fault. */
  #otherByte(byte: number): number {
    switch (this.#state) {
      case DATA_CR:
        this.#state = DATA_LF
        return byte === CR ? 0 : Fault.chunkSize
      case DATA_LF:
        this.#state = SIZE_FIRST
        return byte === LF ? 0 : Fault.bareCr
      case END_LF:
        this.#state = DONE
        return byte === LF ? 0 : Fault.bareCr
    }
    if (++this.#trailerBytes > maxTrailer) return Fault.trailerTooLarge
    switch (this.#state) {
      case LINE:
        if (byte === CR) {
          this.#state = END_LF
          return 0
        }
        this.#nameHash = token[byte]!
        this.#state = NAME
        if (byte === LF) return Fault.bareLf
        if (byte === SP || byte === TAB) return Fault.fold
        return token[byte] === 0 ? Fault.trailer : 0
      case NAME:
        if (byte === COLON) {
          this.#state = VALUE
          return forbidden.has(this.#nameHash) ? Fault.forbiddenTrailer : 0
        }
        if (token[byte] === 0) return Fault.trailer
        // An underscore counts as a dash: some frameworks merge them.
        if (byte === 95) byte = 45
        this.#nameHash = Math.imul(this.#nameHash, 33) ^ token[byte]!
        // A dash ends every prefix of interest.
        return byte === 45 && forbiddenPrefixes.has(this.#nameHash) ? Fault.forbiddenTrailer : 0
      case VALUE:
        if (byte === CR) this.#state = VALUE_LF
        else if (byte === LF) return Fault.bareLf
        else if (text[byte] === 0) return Fault.trailer
        return 0
      default:
        // VALUE_LF
        this.#state = LINE
        return byte === LF ? 0 : Fault.bareCr
    }
  }
}
