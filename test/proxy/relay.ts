// The network between two hosts: passes connections on, and can be cut or fall silent.
import net from 'node:net'
import type { TestContext } from 'node:test'
import type { Endpoint } from '../../src/snapshot/types.ts'
import { listen } from './hops.ts'
import type { Instance } from './hops.ts'

export class Relay {
  port = 0
  /** Connections so far, and those that are open. */
  made = 0
  /** Passed on, both ways. */
  bytes = 0
  readonly #open = new Set<net.Socket>()
  #isSilent = false

  async start(t: TestContext, to: number): Promise<this> {
    const server = net.createServer({ allowHalfOpen: true }, (near) => {
      this.made++
      const far = net.connect({ port: to, host: '127.0.0.1', allowHalfOpen: true })
      this.#open.add(near)
      this.#pass(near, far)
      this.#pass(far, near)
      near.on('close', () => {
        this.#open.delete(near)
        far.destroy()
      })
    })
    this.port = await listen(t, server)
    t.after(() => this.cut())
    return this
  }

  get open(): number {
    return this.#open.size
  }

  /** From now on nothing comes through, and nobody is told. */
  silence(): void {
    this.#isSilent = true
  }

  /** Ends every connection without a word of TLS. */
  cut(): void {
    for (const socket of this.#open) socket.destroy()
  }

  #pass(from: net.Socket, to: net.Socket): void {
    from.on('error', () => undefined)
    from.on('data', (bytes: Buffer) => {
      if (this.#isSilent) return
      this.bytes += bytes.length
      if (!to.write(bytes)) {
        from.pause()
        to.once('drain', () => from.resume())
      }
    })
    from.on('end', () => this.#isSilent || to.end())
  }
}

/** The instance as its callers reach it: through the relay. */
export async function behind(
  t: TestContext,
  instance: Instance,
): Promise<{ relay: Relay; endpoint: Endpoint }> {
  const relay = await new Relay().start(t, instance.linkPort)
  return { relay, endpoint: { ...instance.endpoint(), linkPort: relay.port } }
}
