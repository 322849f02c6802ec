// Watches the registry and keeps the view: services and their instances, config, virtual addresses. Changes that come
// together are told together; with the registry away the last good view stands.
import type { Clock, Timer } from '../clock.ts'
import { MeshError, reason } from '../errors.ts'
import type { Log } from '../log.ts'
import type { HostConfig } from '../model/host.ts'
import { listens } from '../model/service.ts'
import { meshInstance } from '../registry/catalogue.ts'
import { readListing } from '../registry/config.ts'
import { type Indexed, type Instance, keys, type Query, type Registry } from '../registry/registry.ts'
import { parseVips } from '../registry/vip.ts'
import { watch } from '../registry/watch.ts'
import { Grace } from './grace.ts'
import { emptyView, type View, type ViewFile } from './view.ts'

/** Long enough for what one command or one restart changes, short enough not to be felt. */
const coalesceMs = 50
/** Registered by Consul itself in every cluster; its ports are no business of the mesh. */
const foreign: ReadonlySet<string> = new Set(['consul'])

export interface SyncOptions {
  readonly config: Pick<HostConfig, 'mesh' | 'upstreams' | 'services'>
  readonly registry: Registry
  readonly file: ViewFile
  readonly clock: Clock
  readonly log: Log
  readonly changed: (view: View) => void
}

export interface SyncStatus {
  /** Whether the registry answers. */
  readonly connected: boolean
  /** Age of the view in ms; null: there is none yet. */
  readonly age: number | null
}

export class Sync {
  readonly #options: SyncOptions
  readonly #grace: Grace
  readonly #stop = new AbortController()
  readonly #wanted: ReadonlySet<string> | null
  readonly #watches = new Map<string, AbortController>()
  /** What has to be heard from the registry before the first view is whole. */
  readonly #missing = new Set<string>(['services', 'config', 'vips'])
  readonly #running = new Set<Promise<void>>()
  #view: View = emptyView
  #booted = false
  /** Null: not tried yet. */
  #connected: boolean | null = null
  #told = false
  #confirmedAt: number | null = null
  #timer: Timer | null = null
  #saving: Promise<void> = Promise.resolve()

  constructor(options: SyncOptions) {
    this.#options = options
    this.#grace = new Grace(options.clock, (service, told) => {
      this.#put(service, told)
      this.#schedule()
    })
    const { upstreams, services } = options.config
    // Callers reach the host's own services by name too.
    this.#wanted =
      upstreams === null
        ? null
        : new Set([
            ...upstreams.map((name) => name.split('.')[0] ?? ''),
            ...services.filter(listens).map(({ name }) => name),
          ])
  }

  /** The view of the run before, null where there is none. */
  async boot(): Promise<View | null> {
    const saved = await this.#options.file.load()
    if (saved === null) return null
    this.#view = saved.view
    this.#confirmedAt = saved.confirmedAt
    this.#booted = true
    this.#grace.lost('watch')
    const age = Math.round((this.#options.clock.now() - saved.confirmedAt) / 1000)
    this.#options.log.info({ ageSeconds: age }, 'starting with the last good view of the registry')
    return saved.view
  }

  start(): void {
    const { config, registry } = this.#options
    this.#follow(
      'services',
      (query) => registry.services(query),
      (services) => this.#services(Object.keys(services)),
    )
    this.#follow(
      'config',
      (query) => registry.list(keys.config(config.mesh), query),
      (entries) => {
        const { objects, problems } = readListing(entries)
        this.#view = {
          ...this.#view,
          resources: objects.map(({ object }) => object),
          unreadable: problems.map(({ key, message }) => `${key}: ${message}`),
        }
      },
    )
    this.#follow(
      'vips',
      (query) => registry.list(keys.vips(config.mesh), query),
      (entries) => {
        this.#view = { ...this.#view, vips: parseVips(config.mesh, entries) }
      },
    )
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    for (const controller of this.#watches.values()) controller.abort()
    this.#timer?.cancel()
    this.#grace.stop()
    await Promise.all(this.#running)
    await this.#saving
  }

  /** Whether the registry could be written to. */
  setWritable(isWritable: boolean): void {
    if (isWritable) this.#grace.found('lease')
    else this.#grace.lost('lease')
  }

  status(): SyncStatus {
    const { clock } = this.#options
    const age = this.#confirmedAt === null ? null : Math.max(0, clock.now() - this.#confirmedAt)
    return { connected: this.#connected === true, age: this.#connected === true && age !== null ? 0 : age }
  }

  /** Notes on disk that the view still holds; called now and then. */
  async confirm(): Promise<void> {
    if (this.#connected !== true || !this.#told) return
    this.#confirmedAt = this.#options.clock.now()
    await this.#options.file.confirm(this.#confirmedAt).catch(() => undefined)
  }

  #services(found: readonly string[]): void {
    const { registry } = this.#options
    const names = new Set(found.filter((name) => !foreign.has(name) && this.#wanted?.has(name) !== false))
    for (const [name, controller] of this.#watches) {
      if (names.has(name)) continue
      controller.abort()
      this.#watches.delete(name)
      this.#missing.delete(`service ${name}`)
      this.#grace.forget(name)
    }
    const services = Object.entries(this.#view.services).filter(([name]) => names.has(name))
    this.#view = { ...this.#view, services: Object.fromEntries(services) }
    for (const name of names) {
      if (this.#watches.has(name)) continue
      const controller = new AbortController()
      this.#watches.set(name, controller)
      this.#missing.add(`service ${name}`)
      this.#follow(
        `service ${name}`,
        (query) => registry.instances(name, query),
        (told) => this.#put(name, this.#grace.judge(name, told, this.#view.services[name] ?? [])),
        controller.signal,
      )
    }
  }

  #put(service: string, instances: readonly Instance[]): void {
    const { mesh } = this.#options.config
    const ours = instances.flatMap((instance) => meshInstance(instance, mesh) ?? [])
    this.#view = { ...this.#view, services: { ...this.#view.services, [service]: ours } }
  }

  #follow<T>(
    what: string,
    poll: (query: Query) => Promise<Indexed<T>>,
    take: (value: T) => void,
    signal: AbortSignal = this.#stop.signal,
  ): void {
    const { clock } = this.#options
    const running = watch<T>({
      poll: async (query) => {
        const answer = await poll(query)
        this.#heard()
        return answer
      },
      changed: (value) => {
        take(value)
        this.#missing.delete(what)
        this.#schedule()
      },
      failed: (error) => this.#failed(error),
      clock,
      signal,
    }).finally(() => this.#running.delete(running))
    this.#running.add(running)
  }

  #heard(): void {
    this.#confirmedAt = this.#options.clock.now()
    if (this.#connected !== true) this.#options.log.info('registry connected')
    this.#connected = true
    this.#grace.found('watch')
  }

  #failed(error: unknown): void {
    // Once per outage, and once where it was never there.
    if (this.#connected !== false) {
      this.#options.log.warn({ error: reason(error) }, 'registry away; going on with the last good view')
    }
    this.#connected = false
    // One that refuses something answers, and knows who lives.
    if (error instanceof MeshError && error.code === 'MSH0301') this.#grace.lost('watch')
  }

  #schedule(): void {
    // A view with a part missing would be a mesh without routes or without services: wait for the rest, unless there
    // is one from before to fill the gap.
    if (this.#missing.size > 0 && !this.#booted && !this.#told) return
    this.#timer ??= this.#options.clock.after(coalesceMs, () => {
      this.#timer = null
      this.#told = true
      const view = this.#view
      this.#options.changed(view)
      this.#saving = this.#saving
        .then(() => this.#options.file.save(view))
        .catch((error: unknown) => this.#options.log.warn({ error: reason(error) }, 'view not saved'))
    })
  }
}
