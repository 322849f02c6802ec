// The DNS server of the host: UDP and TCP on loopback. Answers names of the mesh and passes everything else on.
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { MeshError, reason } from '../../errors.ts'
import type { Log } from '../../log.ts'
import { answer, type NameTable } from './answer.ts'
import { framed, Forwarder, type ForwarderOptions, type Transport, type Upstream } from './forwarder.ts'

const maxConnections = 128
const maxPipelined = 32
const idleMs = 10_000

export class DnsServer {
  #table: NameTable = null
  readonly #forwarder: Forwarder
  readonly #log: Log
  readonly #udp: UdpSocket[] = []
  readonly #tcp: Server[] = []
  readonly #open = new Set<Socket>()

  constructor(log: Log, options: ForwarderOptions = {}) {
    this.#log = log
    this.#forwarder = new Forwarder(options)
  }

  /** From the first table on unknown names are NXDOMAIN; before it SERVFAIL. */
  setTable(table: ReadonlyMap<string, string>): void {
    this.#table = table
  }

  get loaded(): boolean {
    return this.#table !== null
  }

  setUpstreams(upstreams: readonly Upstream[]): void {
    this.#forwarder.setUpstreams(upstreams)
  }

  /** Both transports on one port; gives the port (chosen by the kernel when 0). Throws MSH0602. */
  async listen(address: string, port: number): Promise<number> {
    try {
      const { server, bound } = await this.#listenTcp(address, port)
      try {
        await this.#listenUdp(address, bound)
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

  async close(): Promise<void> {
    this.#forwarder.close()
    for (const socket of this.#open) socket.destroy()
    const closed = [...this.#udp, ...this.#tcp].map(
      (server) => new Promise<void>((done) => void server.close(() => done())),
    )
    await Promise.all(closed)
  }

  async #resolve(query: Buffer, transport: Transport): Promise<Buffer | null> {
    const verdict = answer(query, this.#table)
    switch (verdict.kind) {
      case 'reply':
        return verdict.packet
      case 'forward':
        return await this.#forwarder.forward(query, transport)
      case 'ignore':
        return null
    }
  }

  async #listenUdp(address: string, port: number): Promise<void> {
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
    await new Promise<void>((done, fail) => {
      socket.once('error', fail)
      socket.bind(port, address, () => {
        socket.off('error', fail)
        done()
      })
    })
    this.#udp.push(socket)
    socket.on('error', (error) => this.#log.warn({ error: reason(error) }, 'dns socket'))
    socket.on('message', (query, peer) => {
      void this.#resolve(query, 'udp').then((reply) => {
        // The caller may be gone, or we may be closing.
        if (reply !== null) socket.send(reply, peer.port, peer.address, () => undefined)
      }, this.#failed)
    })
  }

  async #listenTcp(address: string, port: number): Promise<{ server: Server; bound: number }> {
    const server = createServer((socket) => this.#serve(socket))
    server.maxConnections = maxConnections
    await new Promise<void>((done, fail) => {
      server.once('error', fail)
      server.listen(port, address, () => {
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
