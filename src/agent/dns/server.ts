// The DNS server of the host: UDP and TCP on loopback. Answers names of the mesh and passes everything else on.
import { createSocket, type BindOptions, type SocketType, type Socket as UdpSocket } from 'node:dgram'
import { createServer, type AddressInfo, type ListenOptions, type Server, type Socket } from 'node:net'
import { systemClock, type Clock } from '../../clock.ts'
import { MeshError, reason } from '../../errors.ts'
import type { Log } from '../../log.ts'
import { answer, type NameTable } from './answer.ts'
import { framed, Forwarder, type ForwarderOptions, type Transport, type Upstream } from './forwarder.ts'

const maxConnections = 128
const maxPipelined = 32
const idleMs = 10_000
/** An agent that has just started reads the names from its disk within this; what systemd kept for it waits so long. */
const earlyMs = 1500
const maxEarly = 1024

export interface DnsOptions extends ForwarderOptions {
  /** How long questions about the mesh wait for the first table. */
  readonly earlyMs?: number
}

/** Bound sockets that somebody else holds: while nobody reads them, questions wait. */
export interface PassedPair {
  readonly udp: number
  readonly tcp: number
}

export class DnsServer {
  #table: NameTable = null
  #closed = false
  /** Who waits for the first table. */
  readonly #early = new Set<() => void>()
  readonly #earlyMs: number
  readonly #clock: Clock
  readonly #forwarder: Forwarder
  readonly #log: Log
  readonly #udp: UdpSocket[] = []
  readonly #tcp: Server[] = []
  readonly #open = new Set<Socket>()

  constructor(log: Log, options: DnsOptions = {}) {
    this.#log = log
    this.#earlyMs = options.earlyMs ?? earlyMs
    this.#clock = options.clock ?? systemClock
    this.#forwarder = new Forwarder(options)
  }

  /** From the first table on unknown names are NXDOMAIN; before it questions wait for a moment, then SERVFAIL. */
  setTable(table: ReadonlyMap<string, string>): void {
    this.#table = table
    for (const go of this.#early) go()
  }

  setUpstreams(upstreams: readonly Upstream[]): void {
    this.#forwarder.setUpstreams(upstreams)
  }

  /**
   * Both transports on one port; gives the port (chosen by the kernel when 0). `passed`: sockets that are bound to it
   * already. Throws MSH0602.
   */
  async listen(address: string, port: number, passed: PassedPair | null = null): Promise<number> {
    try {
      const { server, bound } = await this.#listenTcp(
        passed === null ? { host: address, port } : { fd: passed.tcp },
      )
      try {
        const type = address.includes(':') ? 'udp6' : 'udp4'
        await this.#listenUdp(type, passed === null ? { address, port: bound } : { fd: passed.udp })
      } catch (error) {
        // Half of it would be in our own way at the next try.
        server.close()
        throw error
      }
      this.#tcp.push(server)
      return bound
    } catch (error) {
      throw new MeshError('MSH0602', `cannot listen for DNS on ${address} port ${port}: ${reason(error)}`, {
        cause: error,
      })
    }
  }

  /** Questions under way get no answer at all: it would be SERVFAIL, and who hears nothing asks again. */
  async close(): Promise<void> {
    this.#closed = true
    for (const go of this.#early) go()
    this.#forwarder.close()
    for (const socket of this.#open) socket.destroy()
    const closed = [...this.#udp, ...this.#tcp].map(
      (server) => new Promise<void>((done) => void server.close(() => done())),
    )
    await Promise.all(closed)
  }

  /** Null: no answer. */
  async #resolve(query: Buffer, transport: Transport): Promise<Buffer | null> {
    let verdict = answer(query, this.#table)
    if (verdict.kind === 'early') {
      await this.#firstTable()
      verdict = answer(query, this.#table)
    }
    if (verdict.kind === 'ignore') return null
    const packet =
      verdict.kind === 'forward' ? await this.#forwarder.forward(query, transport) : verdict.packet
    return this.#closed ? null : packet
  }

  /** Resolves with the first table, or when it has been waited for long enough. */
  #firstTable(): Promise<void> {
    if (this.#closed || this.#early.size >= maxEarly) return Promise.resolve()
    return new Promise((done) => {
      const go = (): void => {
        timer.cancel()
        this.#early.delete(go)
        done()
      }
      const timer = this.#clock.after(this.#earlyMs, go)
      this.#early.add(go)
    })
  }

  async #listenUdp(type: SocketType, where: BindOptions): Promise<void> {
    const socket = createSocket(type)
    await new Promise<void>((done, fail) => {
      socket.once('error', fail)
      socket.bind(where, () => {
        socket.off('error', fail)
        done()
      })
    })
    this.#udp.push(socket)
    socket.on('error', (error) => this.#log.warn({ error: reason(error) }, 'dns socket'))
    socket.on('message', (query, peer) => {
      void this.#resolve(query, 'udp').then((reply) => {
        // The caller may be gone.
        if (reply !== null) socket.send(reply, peer.port, peer.address, () => undefined)
      }, this.#failed)
    })
  }

  async #listenTcp(where: ListenOptions | { fd: number }): Promise<{ server: Server; bound: number }> {
    const server = createServer((socket) => this.#serve(socket))
    server.maxConnections = maxConnections
    await new Promise<void>((done, fail) => {
      server.once('error', fail)
      server.listen(where, () => {
        server.off('error', fail)
        done()
      })
    })
    server.on('error', (error) => this.#log.warn({ error: reason(error) }, 'dns listener'))
    return { server, bound: (server.address() as AddressInfo).port }
  }

  #serve(socket: Socket): void {
    let read = Buffer.alloc(0)
    let pending = 0
    this.#open.add(socket)
    socket.on('close', () => this.#open.delete(socket))
    socket.on('error', () => socket.destroy())
    socket.setTimeout(idleMs, () => socket.destroy())
    const next = (): void => {
      while (pending < maxPipelined && read.length >= 2 && read.length >= 2 + read.readUInt16BE(0)) {
        const end = 2 + read.readUInt16BE(0)
        const query = read.subarray(2, end)
        read = read.subarray(end)
        pending++
        void this.#resolve(query, 'tcp').then((reply) => {
          pending--
          if (socket.destroyed) return
          if (reply === null) socket.destroy()
          else socket.write(framed(reply))
          socket.resume()
          next()
        }, this.#failed)
      }
      // A whole message has 64 KiB at most; with that much unread the caller waits.
      if (pending >= maxPipelined) socket.pause()
    }
    socket.on('data', (bytes: Buffer) => {
      read = Buffer.concat([read, bytes])
      next()
    })
  }

  readonly #failed = (error: unknown): void => {
    this.#log.error({ error: reason(error) }, 'dns query failed')
  }
}
