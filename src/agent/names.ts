// DNS of the host as the agent runs it: the table from the view, the servers that were there before, the listeners.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock, Timer } from '../clock.ts'
import type { VirtualAddress } from '../compile/input.ts'
import { reason } from '../errors.ts'
import type { Host } from '../host/host.ts'
import { originalResolvers, plainListen } from '../host/resolver.ts'
import type { Log } from '../log.ts'
import type { HostConfig } from '../model/host.ts'
import { fqdn } from '../model/name.ts'
import { ports } from '../paths.ts'
import { storeFile } from '../pki/key.ts'
import type { Upstream } from './dns/forwarder.ts'
import { DnsServer } from './dns/server.ts'

/** DHCP and people change resolv.conf. */
const rereadMs = 60_000
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
  readonly listen?: readonly { readonly address: string; readonly port: number }[]
}

/** `10.0.0.1`, `10.0.0.1#5353`, `fe80::1%eth0` as resolvers are written; null: not an address, or us. */
export function upstreamOf(text: string): Upstream | null {
  const [address = '', port = '53'] = text.split('#')
  if (!/^[0-9a-fA-F.:]+(%[\w.-]+)?$/.test(address) || !/^\d{1,5}$/.test(port)) return null
  const us = address === plainListen.address || (address === '127.0.0.1' && Number(port) === ports.dns)
  return us ? null : { address, port: Number(port) }
}

export class Names {
  readonly #options: NamesOptions
  readonly #server: DnsServer
  readonly #file: string
  readonly #timers: Timer[] = []
  #pending: { readonly address: string; readonly port: number }[]
  #problem: string | null = null
  #resolvers = ''
  #stopped = false
  /** The port of the first listener, once it listens. */
  port = 0

  constructor(options: NamesOptions) {
    this.#options = options
    this.#server = new DnsServer(options.log, { clock: options.clock })
    this.#file = join(options.folder, 'resolvers.json')
    const loopback = { address: '127.0.0.1', port: ports.dns }
    const usual = options.mode === 'resolv.conf' ? [loopback, plainListen] : [loopback]
    this.#pending = options.mode === 'off' ? [] : [...(options.listen ?? usual)]
  }

  get state(): 'ok' | 'off' | 'failed' {
    if (this.#options.mode === 'off') return 'off'
    return this.#pending.length === 0 ? 'ok' : 'failed'
  }

  get problem(): string | null {
    return this.#problem
  }

  /** Listens before anything of the mesh is known: the rest of the host's names must work at once. */
  async start(): Promise<void> {
    if (this.#options.mode === 'off') return
    await this.#saved()
    await this.#listen()
    await this.#reread()
    this.#timers.push(this.#options.clock.every(rereadMs, () => void this.#reread()))
  }

  async stop(): Promise<void> {
    this.#stopped = true
    for (const timer of this.#timers.splice(0)) timer.cancel()
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
        const bound = await this.#server.listen(place.address, place.port)
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

  async #saved(): Promise<void> {
    try {
      const saved: unknown = JSON.parse(await readFile(this.#file, 'utf8'))
      if (Array.isArray(saved)) this.#use(saved.map(String))
    } catch {
      // None saved yet.
    }
  }

  async #reread(): Promise<void> {
    try {
      const found = await originalResolvers(this.#options.host)
      // An empty answer (a resolver that restarts) must not take the names away that work.
      if (found.length === 0 || found.join(' ') === this.#resolvers) return
      this.#use(found)
      await storeFile(this.#file, JSON.stringify(found), 0o600)
    } catch (error) {
      this.#options.log.debug({ error: reason(error) }, 'the resolvers of the host could not be read')
    }
  }

  #use(servers: readonly string[]): void {
    this.#resolvers = servers.join(' ')
    this.#server.setUpstreams(servers.flatMap((server) => upstreamOf(server) ?? []))
  }
}
