// An accepted plain connection without Node's socket around it: making, driving and ending a net.Socket costs more CPU than
// everything else that a connection with one request needs. Here its TCP handle is read, written, half-closed and closed
// itself. Only on runtimes whose handles are known (see outlet.ts); on others there is Connection.
import type net from 'node:net'
import { nobody } from './channel.ts'
import type { Accepted, Owner } from './channel.ts'
import { shared } from './connection.ts'
import { canDrive, failure, Line } from './line.ts'
import type { LineUser, TcpHandle } from './line.ts'
import { Outlet } from './outlet.ts'
import { beginRead, endRead } from './turn.ts'

interface ListenHandle extends Partial<TcpHandle> {
  onconnection?: (status: number, handle: TcpHandle) => void
}

const endOfFile = -4095
/** So many connections may have come before the listening socket had the options that they inherit. */
const early = 4096
const keepAliveSeconds = 30

/**
 * From now on `accept` gets what the listening server takes, and the server itself never hears of it. False: not on this
 * runtime; the server goes on as before.
 */
export function acceptHandles(server: net.Server, accept: (incoming: Incoming) => void): boolean {
  const listening = (server as unknown as { _handle?: ListenHandle | null })._handle
  const address = server.address()
  if (!canDrive || typeof listening?.onconnection !== 'function') return false
  if (address === null || typeof address === 'string') return false
  // Linux hands both down to what is accepted.
  listening.setNoDelay?.(true)
  listening.setKeepAlive?.(true, keepAliveSeconds)
  let left = early
  listening.onconnection = (status, handle) => {
    if (status !== 0) {
      server.emit('error', failure(status, 'accept'))
      return
    }
    if (left > 0) {
      left--
      handle.setNoDelay(true)
      handle.setKeepAlive(true, keepAliveSeconds)
    }
    accept(new Incoming(handle, address.port))
  }
  return true
}

export class Incoming implements Accepted, LineUser {
  readonly socket: Line
  owner: Owner
  bytesIn: number
  bytesOut: number
  isClosed: boolean
  isEnded: boolean
  isFinished: boolean
  readonly #outlet: Outlet
  #holds: number

  constructor(handle: TcpHandle, localPort: number) {
    this.socket = new Line(handle, this, localPort)
    this.owner = nobody
    this.bytesIn = 0
    this.bytesOut = 0
    this.isClosed = false
    this.isEnded = false
    this.isFinished = false
    this.#outlet = new Outlet(this.socket, () => this.owner.drained())
    this.#holds = 0
  }

  // --- from the handle

  read(count: number): void {
    if (count > 0) {
      this.bytesIn += count
      beginRead()
      this.owner.bytes(shared, 0, count)
      endRead()
    } else if (count === endOfFile) {
      if (this.isEnded) return
      this.isEnded = true
      this.owner.ended()
      this.socket.ended()
    } else if (count < 0) this.socket.destroy(failure(count, 'read'))
  }

  over(error: Error | null): void {
    if (this.isClosed) return
    this.isClosed = true
    this.owner.closed(error)
  }

  // --- from the owner

  write(buffer: Buffer): boolean {
    if (this.isClosed || this.isFinished) return true
    this.bytesOut += buffer.length
    return this.#outlet.write(buffer)
  }

  lend(buffer: Buffer): boolean {
    if (this.isClosed || this.isFinished) return true
    this.bytesOut += buffer.length
    return this.#outlet.lend(buffer)
  }

  get hasKept(): boolean {
    return this.#outlet.hasKept
  }

  copy(buffer: Buffer, start: number, end: number): boolean {
    if (this.isClosed || this.isFinished) return true
    this.bytesOut += end - start
    return this.#outlet.copy(buffer, start, end)
  }

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
    this.socket.readWide()
  }

  writeWide(): void {
    this.#outlet.isWide = true
  }

  hold(): void {
    if (this.#holds++ === 0) this.socket._handle?.readStop()
  }

  release(): void {
    if (this.#holds === 0) return
    if (--this.#holds === 0 && !this.isEnded) this.socket._handle?.readStart()
  }

  end(): void {
    if (this.isFinished) return
    this.isFinished = true
    this.#outlet.end()
  }

  close(): boolean {
    if (this.isFinished || this.isClosed || this.#outlet.isBusy || this.socket.destroyed) return false
    this.isFinished = true
    this.isClosed = true
    this.socket.close()
    this.owner.closed(null)
    return true
  }

  destroy(): void {
    this.isFinished = true
    this.socket.destroy()
  }

  abort(): void {
    // While our own end is on its way the kernel allows no reset.
    if (this.isFinished) {
      this.socket.destroy()
      return
    }
    this.isFinished = true
    this.socket.reset()
  }
}
