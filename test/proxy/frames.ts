// Frames of WebSocket (RFC 6455 5.2) by hand, for streams that no library takes: extended CONNECT of node:http2.
import { randomBytes } from 'node:crypto'

export const Opcode = { text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const

export interface Frame {
  readonly opcode: number
  readonly payload: Buffer
}

/** One whole frame; clients mask theirs. */
export function frame(opcode: number, payload: Buffer | string, isMasked: boolean): Buffer {
  const bytes = Buffer.from(payload)
  const head = Buffer.alloc(bytes.length < 126 ? 2 : bytes.length < 65_536 ? 4 : 10)
  head[0] = 0x80 | opcode
  head[1] = bytes.length < 126 ? bytes.length : bytes.length < 65_536 ? 126 : 127
  if (head.length === 4) head.writeUInt16BE(bytes.length, 2)
  if (head.length === 10) head.writeBigUInt64BE(BigInt(bytes.length), 2)
  if (!isMasked) return Buffer.concat([head, bytes])
  head[1] |= 0x80
  const mask = randomBytes(4)
  return Buffer.concat([head, mask, turn(bytes, mask)])
}

/** Cuts what arrives into frames. */
export class Frames {
  #rest: Buffer = Buffer.alloc(0)

  add(bytes: Buffer): Frame[] {
    this.#rest = Buffer.concat([this.#rest, bytes])
    const frames: Frame[] = []
    for (;;) {
      const found = this.#next()
      if (found === null) return frames
      frames.push(found)
    }
  }

  #next(): Frame | null {
    const rest = this.#rest
    if (rest.length < 2) return null
    const short = rest[1]! & 0x7f
    let at = short < 126 ? 2 : short === 126 ? 4 : 10
    if (rest.length < at) return null
    const length =
      short < 126 ? short : short === 126 ? rest.readUInt16BE(2) : Number(rest.readBigUInt64BE(2))
    const isMasked = (rest[1]! & 0x80) !== 0
    const mask = rest.subarray(at, at + 4)
    if (isMasked) at += 4
    if (rest.length < at + length) return null
    const bytes = Buffer.from(rest.subarray(at, at + length))
    this.#rest = rest.subarray(at + length)
    return { opcode: rest[0]! & 0x0f, payload: isMasked ? turn(bytes, mask) : bytes }
  }
}

/** Masks, or unmasks, in place. */
function turn(bytes: Buffer, mask: Buffer): Buffer {
  for (let i = 0; i < bytes.length; i++) bytes[i]! ^= mask[i & 3]!
  return bytes
}
