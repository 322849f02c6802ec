// The supervisor's process: its doors (push socket, health, Prometheus), and how it comes and goes. It ends on a signal,
// after a drain or, for a restart, before its workers do; or it has a successor started, which takes sockets, config and
// counts, and then drains without hurry.
import { realpathSync } from 'node:fs'
import { dirname, extname, join } from 'node:path'
import { systemClock } from '../clock.ts'
import { MeshError, reason } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Secrets, Snapshot } from '../snapshot/types.ts'
import { version } from '../version.ts'
import { serveHealth, servePrometheus } from './health.ts'
import type { HealthServer } from './health.ts'
import { notify } from './notify.ts'
import { readState } from './options.ts'
import type { ProxyOptions } from './options.ts'
import type { Predecessor } from './predecessor.ts'
import { servePush } from './push.ts'
import type { PushServer, Reloaded } from './push.ts'
import type { HeldSocket } from './sockets.ts'
import { Successor } from './successor.ts'
import { Supervisor } from './supervisor.ts'

/** How long our workers may take to serve what those of the predecessor serve. */
const readyMs = 25_000
const countEveryMs = 2_000
/** What a predecessor needs over the time that it was given. */
const graceMs = 3_000

export interface ServiceOptions {
  readonly log: Log
  readonly options: ProxyOptions
  readonly sockets: readonly HeldSocket[]
  /** The program as it was started, and its arguments: what a successor is started as. */
  readonly program: string
  readonly args: readonly string[]
  /** Whose place we take; null: nobody's. */
  readonly predecessor: Predecessor | null
}

interface Doors {
  readonly health: HealthServer
  readonly prometheus: HealthServer
  readonly push: PushServer
}

export class Service {
  readonly #given: ServiceOptions
  readonly #log: Log
  readonly #supervisor: Supervisor
  #doors: Doors | null = null
  /** The sockets are ours to serve: nobody else does, or the predecessor has let go. */
  #hasPlace: boolean
  #isReloading = false
  #isReplaced = false
  /** The signal that came in the middle of a reload. */
  #pending = ''
  #isEnding = false
  #isLeaving = false

  constructor(given: ServiceOptions) {
    const { options, sockets, program, predecessor } = given
    const { destination, paths } = options
    this.#given = given
    this.#hasPlace = predecessor === null
    this.#log = given.log
    this.#supervisor = new Supervisor({
      clock: systemClock,
      log: given.log,
      workers: options.workers,
      sockets,
      // The real path: after an upgrade a crashed worker must still be of this release.
      command: [
        workerOf(realpathSync(program)),
        paths.accessLog,
        destination === null ? '-' : `${destination.host}:${destination.port}`,
        String(options.workers),
      ],
      accessLog: paths.accessLog,
      onRotated: () => predecessor?.reopen(),
    })
  }

  async start(): Promise<void> {
    const { options, predecessor, sockets } = this.#given
    const supervisor = this.#supervisor
    // Before there is any worker: one whose supervisor just dies would stay behind.
    process.on('SIGTERM', (signal) => this.#end(signal))
    process.on('SIGINT', (signal) => this.#end(signal))
    process.on('SIGUSR2', () => this.#makeWay())
    if (predecessor === null) {
      const found = this.#read()
      supervisor.start(found.secrets, found.snapshot)
    } else await this.#replace(predecessor)
    this.#doors = await this.#open()
    predecessor?.serving()
    const { health, prometheus } = this.#doors
    this.#log.info(
      {
        version,
        workers: options.workers,
        snapshot: supervisor.hash,
        health: health.port,
        prometheus: prometheus.port,
        sockets: sockets.map(({ role, port }) => `${role}:${port}`),
      },
      predecessor === null ? 'started' : 'took over',
    )
  }

  /** The last good state on disk. */
  #read(): { secrets: Secrets | null; snapshot: Snapshot | null } {
    const read = <T>(name: string): T | null => {
      const path = join(this.#given.options.paths.proxyState, name)
      return readState<T>(path, (why) =>
        this.#log.warn({ path, reason: why }, 'last good state cannot be read'),
      )
    }
    return { secrets: read<Secrets>('secrets.json'), snapshot: read<Snapshot>('snapshot.json') }
  }

  /** Serves what the predecessor serves, beside it, until it lets us take over. Throws MSH0705. */
  async #replace(predecessor: Predecessor): Promise<void> {
    const supervisor = this.#supervisor
    const config = await predecessor.config()
    if (config === null) throw new MeshError('MSH0705', 'the proxy that asked for us is gone')
    const found = this.#read()
    supervisor.start(config.secrets ?? found.secrets, config.snapshot ?? found.snapshot)
    const isLive = await supervisor.allLive(readyMs)
    const isSame = config.snapshot === null || supervisor.hash === config.snapshot.hash
    if (!isLive || !isSame) {
      const why = isLive ? 'the snapshot in force is refused' : 'its workers do not stay up'
      predecessor.failed(why)
      throw new MeshError('MSH0705', why)
    }
    if (!(await predecessor.ready(supervisor.tally)))
      throw new MeshError('MSH0705', 'the proxy before us stays')
    this.#hasPlace = true
    supervisor.tally.reloads.add(1)
  }

  async #open(): Promise<Doors> {
    const { options } = this.#given
    const supervisor = this.#supervisor
    const taken = (role: string) => options.taken.find((one) => one.role === role)
    const health = await serveHealth(supervisor, taken('health') ?? options.health)
    const prometheus = await servePrometheus(supervisor, taken('prometheus') ?? options.prometheus)
    const push = await servePush(options.paths.proxySocket, this.#log, supervisor.handle, () =>
      this.#reload(),
    )
    return { health, prometheus, push }
  }

  /** Has a successor take our place; then we drain and end. Throws MSH0705; then all is as before. */
  async #reload(): Promise<Reloaded> {
    if (this.#isReloading || this.#isEnding || this.#doors === null)
      throw new MeshError('MSH0705', 'the proxy is being replaced or ends already')
    this.#isReloading = true
    const { program, args, sockets, predecessor } = this.#given
    const { health, prometheus, push } = this.#doors
    const supervisor = this.#supervisor
    try {
      return await supervisor.inTurn(async () => {
        const successor = Successor.start(program, args, [
          ...sockets,
          { role: 'health', fd: health.fd, port: health.port },
          { role: 'prometheus', fd: prometheus.fd, port: prometheus.port },
        ])
        this.#log.info('starting the release in use now, to take over')
        await successor.prepare(supervisor.snapshot, supervisor.secrets)
        await supervisor.count()
        await successor.take(supervisor.tally.dump())
        const { pid } = successor
        this.#log.info({ pid, version: successor.version }, 'replaced: draining what still runs')
        this.#isReplaced = true
        notify(`MAINPID=${pid}`)
        // systemd meant whoever serves, and does not take a new main process while it stops one.
        if (this.#pending !== '') process.kill(pid, 'SIGTERM')
        push.retire()
        health.close()
        prometheus.close()
        // Of the generations before only one may linger.
        predecessor?.hurry(supervisor.drainTimeout)
        void this.#linger(successor)
        return { type: 'reloaded', pid, version: successor.version }
      })
    } catch (error) {
      this.#isReloading = false
      this.#log.error({ reason: reason(error) }, 'not reloaded')
      if (this.#pending !== '') this.#end(this.#pending)
      throw error
    }
  }

  /** What we still carry goes on, and is counted; then this process ends. */
  async #linger(successor: Successor): Promise<void> {
    const supervisor = this.#supervisor
    const { predecessor, options } = this.#given
    successor.onReopen(() => {
      void supervisor.reopen()
      predecessor?.reopen()
    })
    const hurry = (timeout: number): void => {
      predecessor?.hurry(timeout)
      void supervisor.drain(timeout)
    }
    successor.onHurry(hurry)
    // Whoever follows a successor that has ended does not know of us.
    void successor.ended.then(() => hurry(supervisor.drainTimeout))
    systemClock.every(countEveryMs, () => {
      void supervisor.count().then(() => successor.count(supervisor.tally.dump()))
    })
    const open = await supervisor.retire(options.linger)
    await predecessor?.gone(supervisor.drainTimeout + graceMs)
    this.#log.info({ open }, 'drained')
    // Whatever still runs was told to end and did not.
    supervisor.close()
    await successor.finish(supervisor.tally.dump())
    this.#exit()
  }

  /** A restart (see the unit's ExecStop): the next one starts as soon as we are gone, so the workers drain without us. */
  #makeWay(): void {
    if (this.#isLeaving || this.#isReloading) return
    if (!this.#hasPlace) this.#exit()
    // It may come after the SIGTERM that systemd sends next: then what has begun is left to the workers.
    this.#isEnding = this.#isLeaving = true
    this.#log.info('making way for the next one; the workers drain by themselves')
    void this.#supervisor.leave().then(() => process.exit(0))
  }

  #end(signal: string): void {
    if (this.#isLeaving) return
    if (this.#isReloading && !this.#isReplaced) {
      this.#pending = signal
      return
    }
    if (this.#isEnding) process.exit(1)
    if (!this.#hasPlace) this.#exit()
    this.#isEnding = true
    this.#log.info({ signal }, 'draining')
    const supervisor = this.#supervisor
    const { predecessor } = this.#given
    const timeout = supervisor.drainTimeout
    predecessor?.hurry(timeout)
    void Promise.all([supervisor.drain(timeout), predecessor?.gone(timeout + graceMs)]).then(([open]) => {
      this.#log.info({ open }, 'drained')
      if (!this.#isReloading) {
        this.#doors?.push.close()
        this.#doors?.health.close()
        this.#doors?.prometheus.close()
      }
      this.#exit()
    })
  }

  #exit(): never {
    this.#supervisor.close()
    process.exit(0)
  }
}

/** The worker's program lies beside ours. It has none of our code, and we have none of what carries traffic. */
function workerOf(program: string): string {
  return join(dirname(program), `worker${extname(program)}`)
}
