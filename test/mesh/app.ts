// An application as it stands on a host before any mesh: says its version and who its proxy says is calling.
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'

export interface Told {
  readonly version: string
  readonly host: string
  /** x-forwarded-client-cert as it arrived. */
  readonly caller: string
}

export class App {
  readonly address: string
  readonly port: number
  readonly version: string
  /** Whether its health endpoint says so. */
  healthy = true
  /** Milliseconds before an answer. */
  delay = 0
  requests = 0
  #server: Server | null = null

  constructor(address: string, port: number, version: string) {
    this.address = address
    this.port = port
    this.version = version
  }

  async start(): Promise<void> {
    const server = createServer((request, response) => {
      if (request.url === '/healthz') {
        response.statusCode = this.healthy ? 200 : 503
        response.end()
        return
      }
      this.requests++
      const told: Told = {
        version: this.version,
        host: this.address,
        caller: String(request.headers['x-forwarded-client-cert'] ?? ''),
      }
      request.resume()
      const answer = (): void => void response.end(JSON.stringify(told))
      if (this.delay === 0) answer()
      else setTimeout(answer, this.delay)
    })
    server.listen(this.port, this.address)
    await once(server, 'listening')
    this.#server = server
  }

  async stop(): Promise<void> {
    const server = this.#server
    this.#server = null
    if (server === null) return
    const closed = once(server, 'close')
    server.close()
    server.closeAllConnections()
    await closed
  }
}
