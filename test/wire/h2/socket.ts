// A peer on a real socket, plain or TLS: bytes both ways, and nothing else.
import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import type net from 'node:net'
import type { AddressInfo } from 'node:net'
import type { SessionLimits } from '../../../src/wire/h2/limits.ts'
import { Peer } from './pair.ts'

/** A peer whose session speaks through a socket. */
export class SocketPeer extends Peer {
  readonly socket: net.Socket
  readonly #moved = new EventEmitter()
  #isTold = false

  constructor(role: 'client' | 'server', socket: net.Socket, limits: Partial<SessionLimits> = {}) {
    super(role, limits)
    this.socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.session.receive(chunk, 0, chunk.length, performance.now())
      this.flush()
      this.#moved.emit('moved')
    })
    socket.on('drain', () => {
      this.session.resume()
      this.flush()
    })
    socket.on('end', () => socket.end())
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.session.ended()
      this.#moved.emit('moved')
    })
    this.wantsFlush()
  }

  /** Waits until an event has been told, or something holds. */
  async until(what: string | (() => boolean)): Promise<void> {
    const holds = typeof what === 'string' ? () => this.events.includes(what) : what
    while (!holds()) {
      assert.ok(!this.socket.destroyed, `closed before that; told:\n${this.events.join('\n')}`)
      await once(this.#moved, 'moved')
    }
  }

  override wantsFlush(): void {
    if (this.#isTold) return
    this.#isTold = true
    // What is written in one turn leaves together.
    setImmediate(() => {
      this.#isTold = false
      this.flush()
    })
  }

  flush(): void {
    while (this.session.outEnd > 0 && !this.socket.writableNeedDrain) {
      this.session.written(!this.socket.write(this.session.take()))
    }
    if (this.session.isDone && this.session.outEnd === 0) this.socket.end()
  }
}

/** Listens on a free port of loopback; each connection becomes a peer. */
export async function listen(
  server: net.Server,
  event: 'connection' | 'secureConnection',
  begin: (peer: SocketPeer) => void,
  limits: Partial<SessionLimits> = {},
): Promise<{ port: number; close: () => Promise<void> }> {
  const sockets = new Set<net.Socket>()
  server.on(event, (socket: net.Socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    begin(new SocketPeer('server', socket, limits))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    close: async () => {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}
