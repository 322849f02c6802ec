// The body of a request of HTTP/1.1, by length or in chunks.
import { ChunkReader } from '../../wire/chunk.ts'
import { Head } from '../../wire/head.ts'
import { parseTrailers } from '../../wire/http1.ts'
import type { HeadLimits } from '../../wire/http1.ts'
import { pairsOf } from './write1.ts'

const trailerHead = new Head()

export class Body1 {
  /** Where in the buffer of the last `read` there is data. */
  from: number
  to: number
  isDone: boolean
  #left: number
  #chunks: ChunkReader | null
  #isChunked: boolean

  constructor() {
    this.from = 0
    this.to = 0
    this.isDone = true
    this.#left = 0
    this.#chunks = null
    this.#isChunked = false
  }

  /** For a head that announces a body. */
  begin(head: Head): void {
    this.isDone = false
    this.#isChunked = head.chunked
    this.#left = head.contentLength
    if (!head.chunked) return
    this.#chunks ??= new ChunkReader()
    this.#chunks.reset()
  }

  /** Reads on, up to the end of the body or of a run of data. The place behind, or a fault (< -1). */
  read(buffer: Buffer, start: number, end: number): number {
    if (this.#isChunked) {
      const chunks = this.#chunks!
      const at = chunks.read(buffer, start, end)
      this.from = chunks.from
      this.to = chunks.to
      this.isDone = chunks.isDone
      return at
    }
    const at = Math.min(end, start + this.#left)
    this.#left -= at - start
    this.from = start
    this.to = at
    this.isDone = this.#left === 0
    return at
  }

  /** What came behind a body that is done; null: nothing; a fault (< -1). */
  trailers(limits: HeadLimits): string[] | null | number {
    const section = this.#isChunked ? this.#chunks!.trailers : null
    if (section === null) return null
    const taken = parseTrailers(section, 0, section.length, trailerHead, limits)
    return taken < 0 ? taken : pairsOf(trailerHead)
  }
}
