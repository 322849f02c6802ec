// Connections on which nobody has proved anything yet, by token or certificate. One address has only so many, so that
// it cannot take the places, the memory and the descriptors of those who can.
import type { Socket } from 'node:net'

export class Strangers {
  readonly #max: number
  /** How many by address. */
  readonly #open = new Map<string, number>()
  /** Address and port of the peer: under TLS the proven socket is another object than the connection's. */
  readonly #peers = new Set<string>()

  constructor(max: number) {
    this.#max = max
  }

  admit(socket: Socket): void {
    const { remoteAddress: address, remotePort: port } = socket
    if (address === undefined) {
      socket.destroy()
      return
    }
    const open = this.#open.get(address) ?? 0
    if (open >= this.#max) {
      socket.resetAndDestroy()
      return
    }
    this.#open.set(address, open + 1)
    this.#peers.add(`${address} ${port}`)
    socket.once('close', () => this.#forget(address, port))
  }

  proven({ remoteAddress: address, remotePort: port }: Socket): void {
    if (address !== undefined) this.#forget(address, port)
  }

  #forget(address: string, port: number | undefined): void {
    if (!this.#peers.delete(`${address} ${port}`)) return
    const left = (this.#open.get(address) ?? 1) - 1
    if (left === 0) this.#open.delete(address)
    else this.#open.set(address, left)
  }
}
