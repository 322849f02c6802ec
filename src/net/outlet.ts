// The writing half of a socket. Node's Writable costs more CPU than the encryption of what it carries: state machine,
// callbacks and a tick of its own per write. On runtimes whose handles are known, bytes go to the handle itself, and
// what it cannot take at once waits here; on others everything goes through the socket.
import { getSystemErrorName } from 'node:util'
import { blockBytes, giveBlock, takeBlock, takeWide, wideBytes } from './block.ts'

/** A write that the handle has not finished; it reports through `oncomplete` and must be given what it may not lose. */
interface Pending {
  oncomplete: (this: Pending, status: number) => void
  callback: Outlet
  /** Keeps the bytes from being collected. */
  buffer: Buffer | Buffer[]
  handle: Handle
  async: boolean
  /** Set where the write was over before `oncomplete` was. */
  readonly writeStatus: number | null
  /** OpenSSL's words, where it refused. */
  readonly error?: string
}

/** 0: written; negative: failed; else it goes on. */
type Written = number | Pending

export interface Handle {
  writeBuffer(request: null, bytes: Buffer): Written
  writev(request: null, chunks: Buffer[], allBuffers: true): Written
}

/** What an outlet needs of a socket: its handle, and what to do where that is not enough. */
export interface Way {
  readonly connecting: boolean
  readonly destroyed: boolean
  readonly writableLength: number
  readonly writableNeedDrain: boolean
  write(buffer: Buffer): boolean
  /** Sends our end. */
  end(): void
  destroy(error?: Error): void
}

// Handles have taken `null` for the request since Node 26; older ones abort. Nothing can be probed without a write, so
// the version decides, and test/net/outlet.test.ts notices when a new runtime does it otherwise.
const [major, minor] = process.versions.node.split('.').map(Number)
export const isDirect: boolean = major === 26 && minor! >= 10

/** What may wait before the writer is asked to stop. One read is 64 KB: at less than a few of them, each would stop. Bytes. */
const highWater = 262_144

/** The largest piece that TLS hands out. */
const recordBytes = 16_384

export class Outlet {
  /** See `lend`. */
  hasKept: boolean
  /** What is gathered leaves in larger pieces. */
  isWide: boolean
  /** TLS has encrypted what it is given before it returns, whenever that leaves. */
  readonly #isEncrypting: boolean
  readonly #socket: Way
  readonly #drained: () => void
  #pending: Pending | null
  #pendingBytes: number
  /** Blocks that the pending write is read from. */
  #lent: Buffer[]
  /** Behind `#pending`, in order; the blocks that some of it lies in. */
  #queue: Buffer[]
  #queued: number
  #queueBlocks: Buffer[]
  /** The end of the queue: copies gather in tail[0, tailEnd). */
  #tail: Buffer | null
  #tailEnd: number
  /** The queue waits for the end of the turn, not for a write. */
  #isGathering: boolean
  #isHeld: boolean
  #isEnding: boolean

  /** `drained` is called when a writer that was told to stop may go on; not for what the socket itself has taken. */
  constructor(socket: Way, drained: () => void) {
    this.hasKept = false
    this.isWide = false
    this.#isEncrypting = 'encrypted' in socket
    this.#socket = socket
    this.#drained = drained
    this.#pending = null
    this.#pendingBytes = 0
    this.#lent = []
    this.#queue = []
    this.#queued = 0
    this.#queueBlocks = []
    this.#tail = null
    this.#tailEnd = 0
    this.#isGathering = false
    this.#isHeld = false
    this.#isEnding = false
  }

  /** Takes the buffer over. False: stop until drained. */
  write(buffer: Buffer): boolean {
    const socket = this.#socket
    if (this.isBusy) {
      this.#closeTail()
      this.#queue.push(buffer)
      this.#queued += buffer.length
      return this.#isRoom()
    }
    if (!isDirect || socket.connecting || socket.writableLength > 0) return socket.write(buffer)
    const handle = handleOf(socket)
    if (handle === null) return true
    return !this.#waits(handle.writeBuffer(null, buffer), handle, buffer, buffer.length) || this.#isRoom()
  }

  /**
   * Writes a buffer that the caller wants back. True in `hasKept`: what could not be written at once is read from it later,
   * so it is not the caller's any more. False: stop until drained.
   */
  lend(buffer: Buffer): boolean {
    const socket = this.#socket
    this.hasKept = false
    if (this.isBusy || !isDirect || socket.connecting || socket.writableLength > 0) {
      return this.write(Buffer.from(buffer))
    }
    const handle = handleOf(socket)
    if (handle === null) return true
    if (!this.#waits(handle.writeBuffer(null, buffer), handle, buffer, buffer.length)) return true
    this.hasKept = !this.#isEncrypting
    return this.#isRoom()
  }

  /** Writes a copy of borrowed bytes. False: stop until drained. */
  copy(buffer: Buffer, start: number, end: number): boolean {
    const bytes = end - start
    const socket = this.#socket
    if (this.isBusy) {
      this.#append(buffer, start, end)
      return this.#isRoom()
    }
    if (!isDirect || socket.connecting || socket.writableLength > 0) {
      return socket.write(Buffer.from(buffer.subarray(start, end)))
    }
    const handle = handleOf(socket)
    if (handle === null) return true
    if (this.#isEncrypting) {
      const view = buffer.subarray(start, end)
      return !this.#waits(handle.writeBuffer(null, view), handle, view, bytes) || this.#isRoom()
    }
    if (bytes > blockBytes) {
      this.#append(buffer, start, end)
      this.#next(handle)
      return this.#isRoom()
    }
    const block = takeBlock()
    buffer.copy(block, 0, start, end)
    const view = block.subarray(0, bytes)
    const waits = this.#waits(handle.writeBuffer(null, view), handle, view, bytes)
    if (waits) this.#lent.push(block)
    else giveBlock(block)
    return !waits || this.#isRoom()
  }

  /**
   * Like `copy`, for one of several pieces that come in one turn: they leave together at its end, or when a block is full. TLS
   * reads its 16 KB records one by one.
   */
  gather(buffer: Buffer, start: number, end: number): boolean {
    const socket = this.#socket
    const isGatherable = isDirect && !this.#isEncrypting && !socket.connecting && socket.writableLength === 0
    if (!isGatherable || end - start > blockBytes || this.#pending !== null)
      return this.copy(buffer, start, end)
    this.#append(buffer, start, end)
    if (!this.#isGathering) {
      this.#isGathering = true
      gatherUntilTurn(this)
    } else if (this.#queued >= (this.isWide ? wideBytes : blockBytes) - recordBytes) this.endOfTurn()
    return this.#isRoom()
  }

  /** What was gathered leaves. */
  endOfTurn(): void {
    if (!this.#isGathering) return
    this.#isGathering = false
    const handle = handleOf(this.#socket)
    if (handle !== null) this.#next(handle)
  }

  #append(buffer: Buffer, start: number, end: number): void {
    this.#queued += end - start
    while (start < end) {
      const tail = (this.#tail ??= this.isWide ? takeWide() : takeBlock())
      const bytes = Math.min(end - start, tail.length - this.#tailEnd)
      buffer.copy(tail, this.#tailEnd, start, start + bytes)
      this.#tailEnd += bytes
      start += bytes
      if (this.#tailEnd === tail.length) this.#closeTail()
    }
  }

  #closeTail(): void {
    if (this.#tail === null) return
    this.#queue.push(this.#tail.subarray(0, this.#tailEnd))
    this.#queueBlocks.push(this.#tail)
    this.#tail = null
    this.#tailEnd = 0
  }

  /** A write is under way: what comes now waits for it. */
  get isBusy(): boolean {
    return this.#pending !== null || this.#isGathering
  }

  /** Tells when the write that is under way is over, as if it had been told to stop. */
  hold(): void {
    this.#isHeld = true
  }

  get isFull(): boolean {
    return this.#pendingBytes + this.#queued >= highWater || this.#socket.writableNeedDrain
  }

  /** Sends our end after what was written. */
  end(): void {
    if (!this.isBusy) this.#socket.end()
    else this.#isEnding = true
  }

  /** Whether the handle has not finished yet. */
  #waits(result: Written, handle: Handle, bytes: Buffer | Buffer[], length: number): boolean {
    if (typeof result === 'number') {
      if (result !== 0) this.#socket.destroy(failure(result, ''))
      return false
    }
    if (result.error !== undefined) {
      this.#socket.destroy(failure(-1, result.error))
      return false
    }
    this.#pending = result
    this.#pendingBytes = length
    result.handle = handle
    result.callback = this
    result.buffer = bytes
    result.async = true
    result.oncomplete = complete
    if (result.writeStatus === null) return true
    this.completed(result.writeStatus)
    return false
  }

  /** From the handle. */
  completed(status: number): void {
    this.#pending = null
    this.#pendingBytes = 0
    this.#giveBack()
    const socket = this.#socket
    const handle = handleOf(socket)
    if (handle === null) return
    if (status < 0) {
      socket.destroy(failure(status, ''))
      return
    }
    this.#next(handle)
  }

  /** The queue may be written now, and after it what was waited for. */
  #next(handle: Handle): void {
    this.#closeTail()
    const queue = this.#queue
    if (queue.length > 0) {
      const length = this.#queued
      this.#queue = []
      this.#queued = 0
      this.#lent = this.#queueBlocks
      this.#queueBlocks = []
      const first = queue[0]!
      const waits =
        queue.length === 1
          ? this.#waits(handle.writeBuffer(null, first), handle, first, length)
          : this.#waits(handle.writev(null, queue, true), handle, queue, length)
      if (!waits || this.#isEncrypting) this.#giveBack()
      if (waits) return
    }
    if (this.#isEnding) {
      this.#isEnding = false
      this.#socket.end()
    } else if (this.#isHeld) {
      this.#isHeld = false
      this.#drained()
    }
  }

  #giveBack(): void {
    if (this.#lent.length === 0) return
    for (const block of this.#lent) giveBlock(block)
    this.#lent = []
  }

  #isRoom(): boolean {
    if (this.#pendingBytes + this.#queued < highWater) return true
    this.#isHeld = true
    return false
  }
}

// Outlets that gather until the end of this turn.
let gathering: Outlet[] = []

function gatherUntilTurn(outlet: Outlet): void {
  gathering.push(outlet)
  if (gathering.length === 1) setImmediate(endTurn)
}

function endTurn(): void {
  const outlets = gathering
  gathering = []
  for (const outlet of outlets) outlet.endOfTurn()
}

function complete(this: Pending, status: number): void {
  this.callback.completed(status)
}

/** Null where the socket is closed or about to be. */
function handleOf(socket: Way): Handle | null {
  if (socket.destroyed) return null
  return (socket as unknown as { _handle: Handle | null })._handle
}

function failure(status: number, text: string): Error {
  if (text !== '') return Object.assign(new Error(text), { code: 'EPROTO' })
  const code = getSystemErrorName(status)
  return Object.assign(new Error(`write ${code}`), { code })
}
