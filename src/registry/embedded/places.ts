// How many connections the tokens of one host have open: a host that was broken into must not keep the others out.
import type { Socket } from 'node:net'

export class Places {
  readonly #max: number
  readonly #open = new Map<string, Set<Socket>>()

  constructor(max: number) {
    this.#max = max
  }

  /** False where the host has none left. A connection that has its place keeps it. */
  take(host: string, socket: Socket): boolean {
    let sockets = this.#open.get(host)
    if (sockets === undefined) this.#open.set(host, (sockets = new Set()))
    if (sockets.has(socket)) return true
    if (sockets.size >= this.#max) return false
    sockets.add(socket)
    socket.once('close', () => {
      sockets.delete(socket)
      if (sockets.size === 0 && this.#open.get(host) === sockets) this.#open.delete(host)
    })
    return true
  }
}
