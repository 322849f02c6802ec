// A whole mesh in one process on loopback: control, and hosts that each have an agent, a proxy and applications. No root,
// no iptables: the test says what the kernel would have said. Everything else is the real thing.
import { type Clock, systemClock } from '../../src/clock.ts'
import { listens, type ServiceDeclaration } from '../../src/model/service.ts'
import { connectRegistry } from '../../src/registry/client.ts'
import type { Registry } from '../../src/registry/registry.ts'
import { putObject } from '../../src/registry/config.ts'
import { until } from '../agent/running.ts'
import { declared, destinationRule, virtualService } from '../compile/mesh.ts'
import { MeshControl, meshName } from './control.ts'
import { Load } from './load.ts'
import type { Recorder } from './recorder.ts'
import { type CallOptions, Vm } from './vm.ts'

export interface MeshOptions {
  readonly clock?: Clock
  readonly leafSeconds?: number
}

/** Link ports are fixed, so runs side by side need networks of their own: one by process id. */
const network = `127.${1 + ((process.pid >> 8) % 250)}.${process.pid & 255}`

export class Mesh {
  readonly control: MeshControl
  readonly vms: Vm[] = []
  readonly recorder: Recorder
  readonly clock: Clock
  /** Root of the registry, as the command line has it. */
  registry: Registry
  readonly #loads: Load[] = []

  private constructor(recorder: Recorder, control: MeshControl, clock: Clock) {
    this.recorder = recorder
    this.control = control
    this.clock = clock
    this.registry = connectRegistry(control.access())
  }

  static async start(recorder: Recorder, options: MeshOptions = {}): Promise<Mesh> {
    const { clock = systemClock, leafSeconds = 3600 } = options
    const control = new MeshControl(clock, recorder.log('control'), leafSeconds)
    await control.start()
    return new Mesh(recorder, control, clock)
  }

  /** Joins a host with these services and starts everything on it. */
  async host(name: string, services: readonly ServiceDeclaration[] = []): Promise<Vm> {
    const vm = this.prepare(name)
    await vm.join(services.map((service) => placed(service, vm.address)))
    await vm.startApps()
    await vm.startProxy()
    await vm.startAgent()
    return vm
  }

  /** A host on which nothing runs yet. */
  prepare(name: string): Vm {
    const { recorder, control, clock } = this
    const vm = new Vm(name, `${network}.${this.vms.length + 2}`, { recorder, control, clock })
    this.vms.push(vm)
    return vm
  }

  /** vm1 with web v1, vm2 with web v2, and vm3 that calls as the service shop; all three ready. */
  async usual(): Promise<[Vm, Vm, Vm]> {
    const shop = declared('shop', { port: 0, servicePort: 0 })
    const hosts = await Promise.all([
      this.host('vm1', [web('v1')]),
      this.host('vm2', [web('v2')]),
      this.host('vm3', [shop]),
    ])
    await this.answering(hosts[2], ['v1', 'v2'])
    return hosts
  }

  /** Waits until exactly these versions answer a caller, in 20 requests of which none fails. */
  async answering(
    vm: Vm,
    versions: readonly string[],
    options: CallOptions = {},
    timeoutMs?: number,
  ): Promise<void> {
    const wanted = versions.toSorted().join(' ')
    let seen = ''
    const look = async (): Promise<boolean> => {
      const answers = await Promise.all(
        Array.from({ length: 20 }, () => vm.call(options).catch((error: unknown) => String(error))),
      )
      const texts = answers.map((answer) =>
        typeof answer === 'string' ? answer : (answer.told?.version ?? answer.text.trim()),
      )
      seen = [...new Set(texts)].toSorted().join(' ')
      return seen === wanted
    }
    await until(`${wanted} to answer ${vm.name}`, look, timeoutMs).catch((error: unknown) => {
      throw new Error(`${String(error)}; last: ${seen}`)
    })
  }

  load(vm: Vm, options: CallOptions = {}, callers?: number): Load {
    const load = new Load(vm, options, callers)
    this.#loads.push(load)
    return load
  }

  /** Weights in percent, written as the command line writes them. */
  async weigh(weights: Readonly<Record<string, number>>): Promise<void> {
    const rule = destinationRule('web', {
      host: 'web',
      subsets: Object.keys(weights).map((version) => ({ name: version, labels: { version } })),
    })
    const route = Object.entries(weights).map(([subset, weight]) => ({
      destination: { host: 'web', subset },
      weight,
    }))
    await this.put(rule)
    await this.put(virtualService('web', { hosts: ['web'], http: [{ route }] }))
  }

  async put(object: object): Promise<void> {
    await putObject(this.registry, meshName, object as Parameters<typeof putObject>[2], null)
  }

  /** The hosts whose instance of a service the registry counts as healthy. */
  async healthy(service: string = 'web'): Promise<string[]> {
    const { value } = await this.registry.instances(service)
    return value
      .filter(({ passing }) => passing)
      .map(({ node }) => node)
      .toSorted()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#loads.map((load) => load.stop()))
    await Promise.all(this.vms.map((vm) => vm.end()))
    this.registry.close()
    await this.control.remove()
    // A leak of one test would be the riddle of the next.
    await until('all sockets to be closed', () => openSockets().length === 0).catch(() => {
      throw new Error(`still open at the end: ${openSockets().join(' ')}`)
    })
  }
}

export function web(version: string): ServiceDeclaration {
  return declared('web', { meta: { version } })
}

/** The declaration as this host makes it: where the application listens, and how it is asked for its health. */
function placed(service: ServiceDeclaration, address: string): ServiceDeclaration {
  if (!listens(service)) return service
  const http = `http://${address}:${service.port}/healthz`
  return { ...service, bind: address, checks: [{ http, interval: '100ms' }] }
}

function openSockets(): string[] {
  return process.getActiveResourcesInfo().filter((kind) => /^(TCP|TLS|UDP)/.test(kind))
}
