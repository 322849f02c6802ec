// A TCP handle without Node's socket around it, and its two ends. Known from lib/net.js of the pinned runtime, probed where
// it can be: `canDrive` says whether.
import { getSystemErrorName } from 'node:util'
import type { Ends } from './channel.ts'
import { narrow, shared } from './connection.ts'
import { isDirect } from './outlet.ts'
import type { Handle, Way } from './outlet.ts'

interface Shutdown {
  oncomplete: (this: Shutdown) => void
  line: Line
}

interface Name {
  address?: string
  port?: number
}

export interface TcpHandle extends Handle {
  readonly fd: number
  /** `this` is the handle; what was read, or why not, is told in `status`. */
  onread: (this: TcpHandle) => void
  /** Ours. */
  line: Line
  readStart(): number
  readStop(): number
  useUserBuffer(buffer: Buffer): void
  shutdown(request: Shutdown): number
  close(closed?: (this: TcpHandle) => void): void
  reset(closed: (this: TcpHandle) => void): number
  setNoDelay(isOn: boolean): number
  setKeepAlive(isOn: boolean, seconds: number): number
  getsockname(name: Name): number
  getpeername(name: Name): number
}

interface StreamBinding {
  readonly ShutdownWrap: new () => Shutdown
  readonly streamBaseState: Int32Array
  readonly kReadBytesOrError: number
}

/** Who is told what happens on a line. */
export interface LineUser {
  readonly isEnded: boolean
  /** So many bytes are in the shared buffer; negative: why there are none. */
  read(count: number): void
  /** The handle is closed. */
  over(error: Error | null): void
}

const alreadyOver = 1

const binding = isDirect ? streamBinding() : null
const state = binding?.streamBaseState ?? new Int32Array(1)
const readStatus = binding?.kReadBytesOrError ?? 0

/** Null where the runtime does not give it away: under its permission model, for one. */
function streamBinding(): StreamBinding | null {
  try {
    const { binding: load } = process as unknown as { binding?: (name: string) => Partial<StreamBinding> }
    const found = load?.call(process, 'stream_wrap')
    const isKnown =
      typeof found?.ShutdownWrap === 'function' &&
      found.streamBaseState !== undefined &&
      typeof found.kReadBytesOrError === 'number'
    return isKnown ? (found as StreamBinding) : null
  } catch {
    return null
  }
}

export const canDrive: boolean = binding !== null

/** The handle and its ends, as an Outlet and readers of addresses see a socket. */
export class Line implements Way, Ends {
  _handle: TcpHandle | null
  readonly user: LineUser
  readonly localPort: number
  #error: Error | null
  #isShut: boolean

  constructor(handle: TcpHandle, user: LineUser, localPort: number) {
    this._handle = handle
    this.user = user
    this.localPort = localPort
    this.#error = null
    this.#isShut = false
    handle.line = this
    handle.onread = read
    handle.useUserBuffer(narrow)
    handle.readStart()
  }

  get destroyed(): boolean {
    return this._handle === null
  }

  get connecting(): boolean {
    return false
  }

  get writableLength(): number {
    return 0
  }

  get writableNeedDrain(): boolean {
    return false
  }

  get localAddress(): string | undefined {
    const name: Name = {}
    this._handle?.getsockname(name)
    return name.address
  }

  get remoteAddress(): string | undefined {
    return this.#peer().address
  }

  get remotePort(): number | undefined {
    return this.#peer().port
  }

  #peer(): Name {
    const name: Name = {}
    this._handle?.getpeername(name)
    return name
  }

  /** An Outlet writes to the handle, always. */
  write(): boolean {
    throw new Error('written past the handle')
  }

  end(): void {
    const handle = this._handle
    if (handle === null) return
    // Closing sends our end too, and there is nothing left to read.
    if (this.user.isEnded) {
      this.destroy()
      return
    }
    const request = new binding!.ShutdownWrap()
    request.line = this
    request.oncomplete = shutDown
    const status = handle.shutdown(request)
    if (status === alreadyOver) this.shut()
    else if (status !== 0) this.destroy(failure(status, 'shutdown'))
  }

  /** See Channel. */
  readWide(): void {
    this._handle?.useUserBuffer(shared)
  }

  /** Our end is sent. */
  shut(): void {
    this.#isShut = true
    if (this.user.isEnded) this.destroy()
  }

  /** The peer's end has come and was told. */
  ended(): void {
    if (this.#isShut) this.destroy()
  }

  destroy(error: Error | null = null): void {
    const handle = this._handle
    if (handle === null) return
    this._handle = null
    this.#error = error
    handle.close(closed)
  }

  reset(): void {
    const handle = this._handle
    if (handle === null) return
    this._handle = null
    if (handle.reset(closed) !== 0) handle.close(closed)
  }

  /** Nobody is told. */
  close(): void {
    const handle = this._handle
    this._handle = null
    handle?.close()
  }

  /** The handle is closed. */
  over(): void {
    this.user.over(this.#error)
  }
}

function read(this: TcpHandle): void {
  this.line.user.read(state[readStatus]!)
}

function shutDown(this: Shutdown): void {
  this.line.shut()
}

function closed(this: TcpHandle): void {
  this.line.over()
}

export function failure(status: number, call: string): Error {
  const code = getSystemErrorName(status)
  return Object.assign(new Error(`${call} ${code}`), { code })
}
