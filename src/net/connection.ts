// One socket, plain or TLS, and whoever owns its bytes at the moment. The owner may change (sniffer, codec, pump)
// without touching listeners. Reading goes into one buffer shared by all connections of the process where Node lets us:
// no allocation per read.
import type net from 'node:net'
import { blockBytes, wideBytes } from './block.ts'
import type { Accepted, Owner } from './channel.ts'
import { Outlet } from './outlet.ts'
import { beginRead, endRead } from './turn.ts'

// Borrowed by every connection in turn: between two reads nobody may look into it.
export const shared: Buffer = Buffer.allocUnsafeSlow(wideBytes)
/** What a read may fill of it, unless the connection reads wide. */
export const narrow: Buffer = shared.subarray(0, blockBytes)

/** The `onread` option for net.connect and tls.connect; `attach` then gives it its connection. */
export class Reading {
  readonly buffer: Buffer
  readonly callback: (bytes: number, buffer: Uint8Array) => boolean
  connection: Connection | null

  constructor() {
    this.buffer = narrow
    this.connection = null
    this.callback = (bytes) => {
      this.connection?.read(shared, bytes)
      return true
    }
  }
}

interface UserBuffer {
  readonly useUserBuffer?: (buffer: Buffer) => void
}

export class Connection implements Accepted {
  readonly socket: net.Socket
  owner: Owner
  bytesIn: number
  bytesOut: number
  /** How often reading was paused because the other side was slow. */
  pauses: number
  isClosed: boolean
  /** The peer sent its end. */
  isEnded: boolean
  /** We sent ours. */
  isFinished: boolean
  readonly #outlet: Outlet
  readonly #isReadingShared: boolean
  #holds: number
  #error: Error | null

  /** `reading` for sockets that were dialled with it; null for accepted ones. */
  constructor(socket: net.Socket, owner: Owner, reading: Reading | null) {
    this.socket = socket
    this.owner = owner
    this.bytesIn = 0
    this.bytesOut = 0
    this.pauses = 0
    this.isClosed = false
    this.isEnded = false
    this.isFinished = false
    const drained = (): void => this.owner.drained()
    this.#outlet = new Outlet(socket, drained)
    socket.on('drain', drained)
    this.#holds = 0
    this.#error = null
    if (reading !== null) reading.connection = this
    this.#isReadingShared = reading !== null || useSharedBuffer(socket, this)
    if (!this.#isReadingShared) {
      socket.on('data', (chunk: Buffer) => this.read(chunk, chunk.length))
    }
    socket.on('end', () => {
      this.isEnded = true
      this.owner.ended()
    })
    socket.on('error', (error) => {
      this.#error = error
    })
    socket.on('close', () => {
      if (this.isClosed) return
      this.isClosed = true
      this.owner.closed(this.#error)
    })
  }

  /** Called by the socket only. */
  read(buffer: Buffer, bytes: number): void {
    this.bytesIn += bytes
    if (this.isClosed) return
    beginRead()
    this.owner.bytes(buffer, 0, bytes)
    endRead()
  }

  /** Takes the buffer over. False: stop writing until `drained`. */
  write(buffer: Buffer): boolean {
    if (this.isClosed || this.isFinished) return true
    this.bytesOut += buffer.length
    return this.#outlet.write(buffer)
  }

  /** Writes a buffer that is only lent, see `hasKept`. False: stop writing until `drained`. */
  lend(buffer: Buffer): boolean {
    if (this.isClosed || this.isFinished) return true
    this.bytesOut += buffer.length
    return this.#outlet.lend(buffer)
  }

  /** The buffer last lent could not be written at once: it belongs to the connection now. */
  get hasKept(): boolean {
    return this.#outlet.hasKept
  }

  /** Writes a copy of borrowed bytes. */
  copy(buffer: Buffer, start: number, end: number): boolean {
    if (this.isClosed || this.isFinished) return true
    this.bytesOut += end - start
    return this.#outlet.copy(buffer, start, end)
  }

  /** Writes a copy of borrowed bytes of which more may come in this turn. */
  gather(buffer: Buffer, start: number, end: number): boolean {
    if (this.isClosed || this.isFinished) return true
    this.bytesOut += end - start
    return this.#outlet.gather(buffer, start, end)
  }

  get isBusy(): boolean {
    return this.#outlet.isBusy
  }

  tellWhenIdle(): void {
    this.#outlet.hold()
  }

  get isFull(): boolean {
    return this.#outlet.isFull
  }

  get isShared(): boolean {
    return false
  }

  readWide(): void {
    // TLS hands out no more than a record.
    if ('encrypted' in this.socket) return
    const handle = (this.socket as unknown as { _handle?: UserBuffer | null })._handle
    if (this.#isReadingShared) handle?.useUserBuffer?.(shared)
  }

  writeWide(): void {
    this.#outlet.isWide = true
  }

  /** Stops reading until as many calls of `release`. */
  hold(): void {
    if (this.#holds++ > 0) return
    this.pauses++
    this.socket.pause()
  }

  release(): void {
    if (this.#holds === 0) return
    if (--this.#holds === 0 && !this.isClosed) this.socket.resume()
  }

  /** Sends our end after what was written. */
  end(): void {
    if (this.isFinished) return
    this.isFinished = true
    this.#outlet.end()
  }

  /** Node's socket has no such end. */
  close(): boolean {
    return false
  }

  /** Throws away what was not sent; the owner hears `closed` later. */
  destroy(): void {
    this.isFinished = true
    this.socket.destroy()
  }

  /** Ends with a reset, so that a peer that still writes learns of it. */
  abort(): void {
    // While our own end is on its way the kernel allows no reset, and Node then neither closes the socket nor says so.
    if (this.isFinished) {
      this.socket.destroy()
      return
    }
    this.isFinished = true
    // TLS sockets have no reset of their own meaning: destroy.
    if (typeof this.socket.resetAndDestroy === 'function' && !('encrypted' in this.socket))
      this.socket.resetAndDestroy()
    else this.socket.destroy()
  }
}

// Accepted sockets cannot be given `onread` (Node passes no such option on), but they have the same three slots inside.
// Probed, not assumed: where a slot is missing the connection reads by 'data' events.
function useSharedBuffer(socket: net.Socket, connection: Connection): boolean {
  const handle = (socket as unknown as { _handle?: UserBuffer | null })._handle
  if (typeof handle?.useUserBuffer !== 'function') return false
  let buffer: symbol | null = null
  let callback: symbol | null = null
  for (const symbol of Object.getOwnPropertySymbols(socket)) {
    if (symbol.description === 'kBuffer') buffer = symbol
    else if (symbol.description === 'kBufferCb') callback = symbol
  }
  if (buffer === null || callback === null || socket.readableLength > 0) return false
  const slots = socket as unknown as Record<symbol, unknown>
  slots[buffer] = narrow
  slots[callback] = (bytes: number) => {
    connection.read(shared, bytes)
    return true
  }
  handle.useUserBuffer(narrow)
  return true
}
