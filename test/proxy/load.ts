// Load on one port for as long as a test wants it.
import http from 'node:http'
import type { TestContext } from 'node:test'
import { eventually } from './hops.ts'

/** Callers that never stop, until told; counts what came back. */
export class Load {
  readonly statuses = new Map<number | string, number>()
  done = 0
  #stop = false
  #loops: Promise<void>[]

  constructor(t: TestContext, port: number, loops = 8) {
    const agent = new http.Agent({ keepAlive: true })
    t.after(() => agent.destroy())
    this.#loops = Array.from({ length: loops }, () => this.#loop(port, agent))
  }

  async stop(): Promise<void> {
    this.#stop = true
    await Promise.all(this.#loops)
  }

  async more(requests: number): Promise<void> {
    const end = this.done + requests
    await eventually(() => this.done >= end, 'more requests')
  }

  async #loop(port: number, agent: http.Agent): Promise<void> {
    while (!this.#stop) {
      const status = await new Promise<number | string>((resolve) => {
        const request = http.request({ host: '127.0.0.1', port, agent, method: 'POST' }, (response) => {
          response.resume()
          response.on('end', () => resolve(response.statusCode ?? 0))
          response.on('error', (error) => resolve(error.message))
        })
        request.on('error', (error) => resolve(error.message))
        request.end('body')
      })
      this.statuses.set(status, (this.statuses.get(status) ?? 0) + 1)
      this.done++
    }
  }
}
