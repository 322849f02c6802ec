// Frames made by hand, and a server's session that gets them.
import { Flag, Type } from '../../../src/wire/h2/frame.ts'
import type { SessionLimits } from '../../../src/wire/h2/limits.ts'
import { Peer } from './pair.ts'

const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
/** :method GET, :scheme https, :path /, :authority web. */
export const get = Buffer.from([0x82, 0x87, 0x84, 0x41, 3, 0x77, 0x65, 0x62])
export const post = Buffer.from([0x83, 0x87, 0x84, 0x41, 3, 0x77, 0x65, 0x62])
export const whole = Flag.endStream | Flag.endHeaders

export function frame(
  type: number,
  flags: number,
  id: number,
  payload: Buffer | readonly number[] = [],
): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head[3] = type
  head[4] = flags
  head.writeUInt32BE(id, 5)
  return Buffer.concat([head, Buffer.from(payload)])
}

export function word(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

/** A literal field without indexing. */
export function field(name: string, value: string): Buffer {
  return Buffer.concat([
    Buffer.from([0, name.length]),
    Buffer.from(name),
    Buffer.from([value.length]),
    Buffer.from(value),
  ])
}

/** A server's session under attack. Its output is taken after every piece unless told otherwise. */
export class Victim extends Peer {
  isTaken = true
  now = 0
  accepted = 0
  mostOutput = 0

  constructor(limits: Partial<SessionLimits> = {}) {
    super('server', limits)
    this.send(preface, frame(Type.settings, 0, 0))
    this.told()
    this.onHeaders = () => void this.accepted++
  }

  send(...pieces: Buffer[]): void {
    const bytes = Buffer.concat(pieces)
    this.session.receive(bytes, 0, bytes.length, this.now)
    this.mostOutput = Math.max(this.mostOutput, this.session.outEnd)
    if (!this.isTaken) return
    this.session.take()
    this.session.written(false)
  }

  /** Sends what `make` gives, at most 100,000 times; how often until the session was over. */
  flood(make: (i: number) => Buffer): number {
    for (let i = 0; i < 100_000; i++) {
      if (this.session.isOver) return i
      this.send(make(i))
    }
    return Infinity
  }

  /** Why the session failed. */
  get end(): string {
    return this.events.find((event) => event.startsWith('failed')) ?? 'alive'
  }
}

export const idOf = (i: number): number => 2 * i + 1
