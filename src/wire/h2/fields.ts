// A decoded head or trailer section.
import { Fault } from '../fault.ts'
import { Name } from '../names.ts'
import { writeText } from './field.ts'
import type { Field } from './field.ts'
import { nameFrom, Pseudo } from './fieldname.ts'

const cookieId = nameFrom('cookie').id

/** Above this decoded size the fields of a block are let go as soon as it is dealt with. */
const keptBytes = 4096

/**
 * The fields of one block, filled by `HpackDecoder.decode`; one per session serves all its blocks in turn, so nothing of
 * it may be kept. The strings and `Field`s in it may be kept: they never change.
 */
export class Fields {
  /** Regular fields in order, `count` of them; what lies behind is old. */
  items: Field[] = []
  count = 0
  method = ''
  scheme = ''
  path = ''
  authority = ''
  protocol = ''
  /** 0: not given. */
  status = 0
  /** What routes compare: of :authority, else of the host field, as `Head.host` has it; '' neither. */
  host = ''
  /** -1: not given. */
  contentLength = -1
  expectContinue = false
  /** The first reason why the message is malformed (RFC 9113 8.1.1), 0: none. */
  fault = 0
  /** Over the limits; what came then is left out, and nothing here is worth more than an answer of 431. */
  isTooLarge = false
  /** Fields of both kinds, and their size by RFC 7541 4.1. */
  total = 0
  size = 0
  /** Which pseudo fields were given: bit id - Pseudo.method. */
  pseudo = 0
  #maxFields = 0
  #maxBytes = 0
  #hosts = 0

  /** Forgets everything. For the decoder. */
  begin(maxFields: number, maxListBytes: number): void {
    this.count = 0
    this.method = ''
    this.scheme = ''
    this.path = ''
    this.authority = ''
    this.protocol = ''
    this.status = 0
    this.host = ''
    this.contentLength = -1
    this.expectContinue = false
    this.fault = 0
    this.isTooLarge = false
    this.total = 0
    this.size = 0
    this.pseudo = 0
    this.#maxFields = maxFields
    this.#maxBytes = maxListBytes
    this.#hosts = 0
  }

  /** Becomes a request's head once more: its regular fields and its :authority. The array is kept, not changed. */
  refill(items: Field[], authority: string): void {
    this.begin(items.length, 0)
    this.items = items
    this.count = items.length
    this.authority = authority
    for (const field of items) this.size += field.size
  }

  /** Lets go of what a large block has brought. For the session, when it is dealt with. */
  release(): void {
    if (this.size > keptBytes) this.items.length = this.count = 0
  }

  /** Whether a field of at least this size still finds room; false: the block is too large from here on. For the decoder. */
  admit(size: number): boolean {
    this.total++
    this.size += size
    if (this.isTooLarge || this.total > this.#maxFields || this.size > this.#maxBytes) {
      this.isTooLarge = true
      return false
    }
    return true
  }

  /** Adds a field that `admit` has let in. For the decoder. */
  add(field: Field): void {
    if (field.isPlain) this.items[this.count++] = field
    else this.#addSpecial(field)
  }

  #addSpecial(field: Field): void {
    let fault = field.fault
    if (fault === 0) fault = field.named.isPseudo ? this.#addPseudo(field) : this.#note(field)
    if (fault !== 0 && this.fault === 0) this.fault = fault
    if (!field.named.isPseudo) this.items[this.count++] = field
  }

  #addPseudo(field: Field): number {
    const bit = 1 << (field.id - Pseudo.method)
    if (this.count > 0 || (this.pseudo & bit) !== 0) return Fault.pseudo
    this.pseudo |= bit
    switch (field.id) {
      case Pseudo.method:
        this.method = field.value
        break
      case Pseudo.scheme:
        this.scheme = field.value
        break
      case Pseudo.path:
        this.path = field.value
        break
      case Pseudo.authority:
        this.authority = field.value
        this.host = field.canonical
        break
      case Pseudo.protocol:
        this.protocol = field.value
        break
      default:
        this.status = field.number
    }
    return 0
  }

  #note(field: Field): number {
    switch (field.id) {
      case Name.contentLength:
        // Equal ones are refused too, as in HTTP/1.1: they would stand in two lines behind us.
        if (this.contentLength >= 0) return Fault.duplicateContentLength
        this.contentLength = field.number
        return 0
      case Name.host:
        if (this.#hosts++ > 0) return Fault.duplicateHost
        if (this.host === '') this.host = field.canonical
        else if (this.host !== field.canonical) return Fault.hostMismatch
        return 0
      default:
        if (this.expectContinue) return Fault.expectation
        this.expectContinue = true
        return 0
    }
  }

  /** The value of a field, lower-case name; several are joined with a comma (RFC 9110 5.3), cookies with a semicolon. */
  get(name: string): string | undefined {
    let i = this.find(name, 0)
    if (i < 0) return undefined
    let value = this.value(i)
    const glue = name === 'cookie' ? '; ' : ', '
    while ((i = this.find(name, i + 1)) >= 0) value += glue + this.value(i)
    return value
  }

  has(name: string): boolean {
    return this.find(name, 0) >= 0
  }

  /** The first field at or after `from` with this lower-case name; -1: none. */
  find(name: string, from: number): number {
    for (let i = from; i < this.count; i++) if (this.items[i]!.name === name) return i
    return -1
  }

  name(i: number): string {
    return this.items[i]!.name
  }

  value(i: number): string {
    return this.items[i]!.value
  }

  /** Upper bound of what `writeLines` writes. */
  get bound(): number {
    return this.size
  }

  /**
   * Writes the fields that `drop` keeps as header lines of HTTP/1.1 to out[at…]; returns the offset behind them. `out`
   * needs `bound` bytes of room; too little is a mistake of the caller and throws. Cookies, which HTTP/2 may send in
   * crumbs, become one line (RFC 9113 8.2.3). TE and Host are written like others unless dropped.
   */
  writeLines(out: Buffer, at: number, drop: (i: number, fields: Fields) => boolean): number {
    if (out.length - at < this.bound) throw new RangeError('no room for the header lines')
    let hasCookie = false
    for (let i = 0; i < this.count; i++) {
      if (drop(i, this)) continue
      const field = this.items[i]!
      if (field.id !== cookieId) at = field.writeLine(out, at)
      else if (!hasCookie) {
        hasCookie = true
        at = this.#writeCookies(out, at, i, drop)
      }
    }
    return at
  }

  #writeCookies(
    out: Buffer,
    at: number,
    first: number,
    drop: (i: number, fields: Fields) => boolean,
  ): number {
    at = writeText(out, at, 'cookie: ')
    at = writeText(out, at, this.value(first))
    for (let i = first + 1; i < this.count; i++) {
      if (this.items[i]!.id !== cookieId || drop(i, this)) continue
      at = writeText(out, at, '; ')
      at = writeText(out, at, this.value(i))
    }
    return writeText(out, at, '\r\n')
  }
}
