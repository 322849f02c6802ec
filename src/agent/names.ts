// DNS of the host as the agent runs it: the table from the view, the servers that were there before, the listeners.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock, Timer } from '../clock.ts'
import type { VirtualAddress } from '../compile/input.ts'
import { reason } from '../errors.ts'
import type { Host } from '../host/host.ts'
import { detectResolver, installResolver, plainListen, resolverFiles } from '../host/resolver.ts'
import type { Log } from '../log.ts'
import type { HostConfig } from '../model/host.ts'
import { fqdn } from '../model/name.ts'
import type { PassedDescriptor } from '../net/activation.ts'
import { ports } from '../paths.ts'
import { storeFile } from '../pki/key.ts'
import type { Upstream } from './dns/forwarder.ts'
import { DnsServer, type PassedPair } from './dns/server.ts'

/** DHCP and people change resolv.conf: its text is looked at often, all there is to know now and then. */
const lookMs = 5000
const fullEvery = 12
const retryMs = 5000

export interface NamesOptions {
  readonly mode: HostConfig['dns']
  readonly host: Host
  /** paths.state */
  readonly folder: string
  readonly clock: Clock
  readonly log: Log
  readonly changed: () => void
  /** Where to listen; tests choose port 0. */
  readonly listen?: readonly Place[]
  /** What systemd passed: the port that the host's resolver asks, which then waits while nobody of us is there. */
  readonly passed?: readonly PassedDescriptor[]
}

export interface Place {
  readonly address: string
  readonly port: number
  readonly passed?: PassedPair
}

/** `10.0.0.1`, `10.0.0.1#5353`, `fe80::1%eth0` as resolvers are written; null: not an address, or us. */
export function upstreamOf(text: string): Upstream | null {
  const [address = '', port = '53'] = text.split('#')
  if (!/^[0-9a-fA-F.:]+(%[\w.-]+)?$/.test(address) || !/^\d{1,5}$/.test(port)) return null
  const us = address === plainListen.address || (address === '127.0.0.1' && Number(port) === ports.dns)
  return us ? null : { address, port: Number(port) }
}

/** The sockets of `plainListen` among those that systemd passed; null: not both of them. */
export function passedPair(passed: readonly PassedDescriptor[]): PassedPair | null {
  const of = (protocol: 'tcp' | 'udp'): number | undefined =>
    passed.find((each) => each.protocol === protocol && each.port === plainListen.port)?.fd
  const [udp, tcp] = [of('udp'), of('tcp')]
  return udp === undefined || tcp === undefined ? null : { udp, tcp }
}

export class Names {
  readonly #options: NamesOptions
  readonly #server: DnsServer
  readonly #file: string
  readonly #timers: Timer[] = []
  #pending: Place[]
  #problem: string | null = null
  /** Why the host does not ask us for names, though it should; null: it does. */
  #displaced: string | null = null
  #resolvers = ''
  /** The files as they were when all was well; null: not known. */
  #right: string | null = null
  #looks = 0
  #looking: Promise<void> | null = null
  #stopped = false
  /** The port of the first listener, once it listens. */
  port = 0

  constructor(options: NamesOptions) {
    this.#options = options
    this.#server = new DnsServer(options.log, { clock: options.clock })
    this.#file = join(options.folder, 'resolvers.json')
    const loopback = { address: '127.0.0.1', port: ports.dns }
    const passed = passedPair(options.passed ?? [])
    const resolver = passed === null ? plainListen : { ...plainListen, passed }
    this.#pending = options.mode === 'off' ? [] : [...(options.listen ?? [loopback, resolver])]
  }

  get state(): 'ok' | 'off' | 'failed' {
    if (this.#options.mode === 'off') return 'off'
    return this.#pending.length === 0 && this.#displaced === null ? 'ok' : 'failed'
  }

  get problem(): string | null {
    return this.#problem ?? this.#displaced
  }

  /** Listens before anything of the mesh is known: the rest of the host's names must work at once. */
  async start(): Promise<void> {
    if (this.#options.mode === 'off') return
    const isKnown = await this.#saved()
    await this.#listen()
    const looked = this.#look()
    // What waits at the port since before we were started is not to wait for this too.
    if (!isKnown) await looked
    this.#timers.push(this.#options.clock.every(lookMs, () => void this.#look()))
  }

  async stop(): Promise<void> {
    this.#stopped = true
    for (const timer of this.#timers.splice(0)) timer.cancel()
    await this.#looking
    await this.#server.close()
  }

  setTable(vips: readonly VirtualAddress[]): void {
    const table = new Map<string, string>()
    // The lowest of several, as everywhere.
    for (const { service, namespace, address } of vips) {
      const name = fqdn(service, namespace)
      const known = table.get(name)
      if (known === undefined || address < known) table.set(name, address)
    }
    this.#server.setTable(table)
  }

  async #listen(): Promise<void> {
    for (const place of this.#pending) {
      try {
        const bound = await this.#server.listen(place.address, place.port, place.passed)
        this.port = this.port === 0 ? bound : this.port
        this.#pending = this.#pending.filter((other) => other !== place)
        this.#problem = null
      } catch (error) {
        if (this.#problem === null) this.#options.log.error({ error: reason(error) }, 'dns failed')
        this.#problem = reason(error)
      }
    }
    this.#options.changed()
    if (this.#pending.length === 0 || this.#stopped) return
    this.#timers.push(
      this.#options.clock.after(retryMs, () => {
        if (!this.#stopped) void this.#listen()
      }),
    )
  }

  /** Whether we know from before whom to ask. */
  async #saved(): Promise<boolean> {
    try {
      const saved: unknown = JSON.parse(await readFile(this.#file, 'utf8'))
      if (!Array.isArray(saved)) return false
      this.#use(saved.map(String))
      return true
    } catch {
      // None saved yet.
      return false
    }
  }

  /** One at a time. */
  #look(): Promise<void> {
    this.#looking ??= this.#compare()
      .catch((error: unknown) => {
        this.#options.log.debug({ error: reason(error) }, 'the resolver of the host could not be read')
      })
      .finally(() => {
        this.#looking = null
      })
    return this.#looking
  }

  /** Whether the host still asks us, and whom we ask. Before join has put us in place there is nothing to compare. */
  async #compare(): Promise<void> {
    const { host, log } = this.#options
    const mode = this.#options.mode === 'off' ? 'resolved' : this.#options.mode
    let files = await resolverFiles(host, mode)
    if (files === this.#right && this.#looks++ % fullEvery !== 0) return
    let state = await detectResolver(host)
    if (state.recorded && !state.installed && !this.#stopped) {
      const what = mode === 'resolved' ? 'systemd-resolved does not ask us' : 'resolv.conf was rewritten'
      this.#displace(this.#displaced ?? what)
      // What the others wrote is where we ask from now on, and what leave puts back.
      await this.#adopt(state.servers)
      try {
        await installResolver(host, mode)
        files = await resolverFiles(host, mode)
        state = await detectResolver(host)
        if (state.installed) log.warn({ servers: state.servers }, 'the resolver was changed; ours is back')
      } catch (error) {
        this.#displace(`names of the mesh are not asked for here: ${reason(error)}`)
      }
    }
    // Read before it was judged: what changed in between differs from it at the next look.
    this.#right = state.recorded && state.installed ? files : null
    if (state.installed || !state.recorded) this.#displace(null)
    await this.#adopt(state.servers)
  }

  #displace(why: string | null): void {
    if (why === this.#displaced) return
    this.#displaced = why
    if (why !== null) this.#options.log.warn(why)
    this.#options.changed()
  }

  /** An empty answer (a resolver that restarts) must not take the names away that work. */
  async #adopt(servers: readonly string[]): Promise<void> {
    if (servers.length === 0 || servers.join(' ') === this.#resolvers) return
    this.#use(servers)
    await storeFile(this.#file, JSON.stringify(servers), 0o600)
  }

  #use(servers: readonly string[]): void {
    this.#resolvers = servers.join(' ')
    this.#server.setUpstreams(servers.flatMap((server) => upstreamOf(server) ?? []))
  }
}
