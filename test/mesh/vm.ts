// One host of a mesh test: its address on loopback, its folders, its applications, a real agent and a real proxy.
import { Resolver } from 'node:dns/promises'
import http from 'node:http'
import { Agent } from '../../src/agent/agent.ts'
import { enroll } from '../../src/agent/enroll.ts'
import { type AgentStatus, askAgent } from '../../src/agent/socket.ts'
import type { Clock } from '../../src/clock.ts'
import { FakeHost } from '../../src/host/fake.ts'
import type { HostConfig } from '../../src/model/host.ts'
import { listens, type ServiceDeclaration } from '../../src/model/service.ts'
import { connectPush } from '../../src/snapshot/push.ts'
import { makePlace, type Place } from '../agent/place.ts'
import { hostConfig } from '../compile/mesh.ts'
import { grantFor } from '../control/plane.ts'
import { App, type Told } from './app.ts'
import { type MeshControl, meshName, trustDomain } from './control.ts'
import { MeshProxy } from './proxy.ts'
import type { Recorder } from './recorder.ts'

export interface CallOptions {
  /** Which local identity calls: 0 the host itself, then its services in their order. */
  readonly as?: number
  readonly to?: string
  readonly port?: number
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
}

export interface Answer {
  readonly status: number
  /** Null where the proxy itself answered. */
  readonly told: Told | null
  readonly text: string
}

export class Vm {
  readonly name: string
  readonly address: string
  readonly place: Place = makePlace()
  readonly apps: App[] = []
  config: HostConfig
  agent: Agent | null = null
  proxy: MeshProxy | null = null
  readonly #control: MeshControl
  readonly #recorder: Recorder
  readonly #clock: Clock
  readonly #vips = new Map<string, string>()
  #connections = new http.Agent({ keepAlive: true })

  constructor(
    name: string,
    address: string,
    parts: { control: MeshControl; recorder: Recorder; clock: Clock },
  ) {
    this.name = name
    this.address = address
    this.#control = parts.control
    this.#recorder = parts.recorder
    this.#clock = parts.clock
    this.config = hostConfig({ host: name, address })
  }

  get app(): App {
    const [app] = this.apps
    if (app === undefined) throw new Error(`${this.name} has no application`)
    return app
  }

  /** As `meshctl join` does it: a grant for `granted`, keys and requests made here, host.json. */
  async join(
    services: readonly ServiceDeclaration[],
    granted: readonly ServiceDeclaration[] = services,
  ): Promise<void> {
    const { grant } = await this.#control.operator().grant(
      grantFor(
        this.name,
        granted.map(({ name }) => name),
        { address: this.address },
      ),
    )
    const { registryToken } = await enroll(
      {
        grant,
        signers: [this.#control.url],
        roots: this.#control.authority.roots,
        mesh: meshName,
        trustDomain,
        host: this.name,
        services: services.map(({ name, namespace }) => ({ name, namespace })),
      },
      this.place.paths,
    )
    this.config = hostConfig({
      host: this.name,
      address: this.address,
      services,
      signers: [this.#control.url],
      registry: this.#control.access(registryToken),
      capture: { outbound: 'off', inbound: false, excludePorts: [], excludeCidrs: [] },
      dns: 'resolved',
      accessLog: true,
    })
  }

  async startApps(): Promise<void> {
    for (const { port, meta } of this.config.services.filter(listens)) {
      const app = new App(this.address, port, meta['version'] ?? '')
      await app.start()
      this.apps.push(app)
    }
  }

  async startProxy(): Promise<void> {
    this.proxy = new MeshProxy({
      paths: this.place.paths,
      address: this.address,
      log: this.#recorder.log(`${this.name}/proxy`),
      access: (lines) => this.#recorder.note(`${this.name}/access`, lines.toString()),
    })
    await this.proxy.start()
  }

  stopProxy(): void {
    this.proxy?.kill()
    this.proxy = null
    this.#connections.destroy()
    this.#connections = new http.Agent({ keepAlive: true })
  }

  async startAgent(): Promise<void> {
    this.agent = new Agent({
      config: this.config,
      paths: this.place.paths,
      host: new FakeHost(this.name),
      clock: this.#clock,
      log: this.#recorder.log(`${this.name}/agent`),
      dnsListen: [{ address: '127.0.0.1', port: 0 }],
    })
    await this.agent.start()
  }

  /** Registrations stay as they are, as after a kill. */
  async stopAgent(): Promise<void> {
    await this.agent?.stop()
    this.agent = null
  }

  /** Everything at once and without a word to anybody. */
  async kill(): Promise<void> {
    this.#recorder.note('test', `${this.name} is killed`)
    this.stopProxy()
    await Promise.all([this.stopAgent(), ...this.apps.map((app) => app.stop())])
  }

  async end(): Promise<void> {
    await this.kill()
    this.#connections.destroy()
    this.place.remove()
  }

  async status(): Promise<AgentStatus> {
    return await askAgent<'status'>(this.place.paths.agentSocket, { verb: 'status' })
  }

  /** Whether the proxy has an endpoint at this address. */
  async knows(address: string): Promise<boolean> {
    const push = connectPush(this.place.paths.proxySocket)
    try {
      const reply = await push.send({ type: 'stats' }, 2000)
      return (
        reply.type === 'stats' && reply.endpoints.some(({ endpoint }) => endpoint.startsWith(`${address}:`))
      )
    } finally {
      push.close()
    }
  }

  /** The virtual address, from the agent's DNS; while there is no agent, what DNS said last. */
  async resolve(name: string): Promise<string> {
    const port = this.agent?.dnsPort ?? 0
    if (port !== 0) {
      const resolver = new Resolver({ timeout: 2000, tries: 2 })
      resolver.setServers([`127.0.0.1:${port}`])
      const [address] = await resolver.resolve4(name)
      if (address !== undefined) this.#vips.set(name, address)
    }
    const known = this.#vips.get(name)
    if (known === undefined) throw new Error(`${name} is not known on ${this.name}`)
    return known
  }

  /** An address that a caller has from somewhere, before DNS knows it. */
  expect(name: string, address: string): void {
    this.#vips.set(name, address)
  }

  /** One request as an application of this host makes it. Rejects where the connection fails. */
  async call(options: CallOptions = {}): Promise<Answer> {
    const { as = 0, to = 'web.default.mesh', port = 8080, method = 'GET', headers = {} } = options
    const address = this.#vips.get(to) ?? (await this.resolve(to))
    const { proxy } = this
    if (proxy === null) throw new Error(`${this.name} has no proxy`)
    const captured = await proxy.capture(as, { address, port })
    return await new Promise((resolve, reject) => {
      const request = http.request({
        host: '127.0.0.1',
        port: captured,
        method,
        headers: { host: `${to}:${port}`, ...headers },
        agent: this.#connections,
      })
      request.on('error', reject)
      request.on('response', (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (part: string) => (text += part))
        response.on('error', reject)
        response.on('end', () => {
          const status = response.statusCode ?? 0
          const told = status === 200 ? (JSON.parse(text) as Told) : null
          resolve({ status, told, text })
        })
      })
      request.end()
    })
  }
}
