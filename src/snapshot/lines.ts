// JSON lines on a stream: cuts bytes into lines without reading any of them twice.

const LF = 10

export class Lines {
  readonly #limit: number
  #parts: Buffer[] = []
  #size = 0

  /** `limit`: bytes that one line may have. */
  constructor(limit: number) {
    this.#limit = limit
  }

  /** Takes a chunk and returns the lines that it completes; null: a line is too long, the stream is lost. */
  feed(chunk: Buffer): string[] | null {
    const lines: string[] = []
    let from = 0
    for (let at = chunk.indexOf(LF); at >= 0; at = chunk.indexOf(LF, from)) {
      if (this.#size + at - from > this.#limit) return null
      this.#parts.push(chunk.subarray(from, at))
      lines.push(Buffer.concat(this.#parts).toString('utf8'))
      this.#parts = []
      this.#size = 0
      from = at + 1
    }
    if (from < chunk.length) {
      this.#parts.push(chunk.subarray(from))
      this.#size += chunk.length - from
      if (this.#size > this.#limit) return null
    }
    return lines
  }
}
