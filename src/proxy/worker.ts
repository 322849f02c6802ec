// The program of a worker process: one engine, told what to do by the supervisor. It listens on the sockets it was given from its first
// snapshot on; connections that come earlier wait in the kernel's queue.
import { systemClock } from '../clock.ts'
import { reason } from '../errors.ts'
import type { Log } from '../log.ts'
import { AccessLog } from './accesslog.ts'
import { Engine } from './engine.ts'
import { originalDestinations } from './listener/origdst.ts'
import type { Counts, FromWorker, Reply, Request, ToWorker } from './message.ts'
import { place } from './options.ts'
import { Pace } from './pace.ts'
import type { Role } from './sockets.ts'
import { Stats } from './stats.ts'
import { Usage } from './usage.ts'
import { workerLog } from './workerlog.ts'
import type { Line } from './workerlog.ts'

/** When the supervisor is gone nobody will ask for a drain; then connections get this long to end. */
const orphanDrainMs = 10_000
/** Until then we accept: the next supervisor has its workers serving by that time. */
const nextSupervisorMs = 2_000

class Worker {
  readonly #stats = new Stats()
  readonly #usage = new Usage(this.#stats)
  readonly #access: AccessLog
  readonly #engine: Engine
  readonly #sockets: readonly { role: Role; fd: number }[]
  #isListening = false
  #isDraining = false
  /** Dropped lines that the counter has. */
  #counted = 0

  constructor(log: Log, accessLog: string, destination: string, workers: number, sockets: readonly string[]) {
    this.#access = new AccessLog({ path: accessLog, clock: systemClock, log })
    this.#sockets = sockets.map((word) => {
      const [role, fd] = word.split('=')
      return { role: role as Role, fd: Number(fd) }
    })
    const fixed = destination === '-' ? null : place('destination', destination)
    const pace = new Pace(systemClock)
    this.#engine = new Engine({
      clock: systemClock,
      log,
      stats: this.#stats,
      accessLog: (lines, count) => this.#access.write(lines, count),
      originalDestination:
        fixed === null ? originalDestinations() : () => ({ address: fixed.host, port: fixed.port }),
      ...(workers > 1 ? { onTaken: () => pace.taken() } : {}),
    })
  }

  start(): void {
    process.on('message', ({ id, request }: ToWorker) => {
      void this.#answer(request).then((reply) => this.#send({ id, reply }))
    })
    process.on('disconnect', () => {
      if (this.#isDraining) return
      // It has never served: there is nothing to drain, and nobody who would give it anything to serve.
      if (!this.#isListening) process.exit(0)
      systemClock.after(nextSupervisorMs, () => void this.#drain(orphanDrainMs).then(() => process.exit(0)))
    })
    // The supervisor decides when we end; a terminal or systemd may signal the whole group.
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined)
    // The pipe takes it at once: what was counted is not lost with us.
    process.on('uncaughtExceptionMonitor', () => this.#send({ id: 0, reply: this.#counts(false) }))
    // Gone while we were starting: that event is over.
    if (!process.connected) process.exit(0)
    this.#send({ id: 0, reply: { type: 'done' } })
  }

  async #answer(request: Request): Promise<Reply> {
    try {
      return await this.#act(request)
    } catch (error) {
      return { type: 'refused', reason: reason(error) }
    }
  }

  async #act(request: Request): Promise<Reply> {
    switch (request.type) {
      case 'apply':
        this.#engine.apply(request.snapshot)
        if (!this.#isListening) await this.#listen()
        return { type: 'done' }
      case 'change':
        this.#engine.change(request.base, request.change)
        return { type: 'done' }
      case 'secrets':
        this.#engine.setSecrets(request.secrets)
        return { type: 'done' }
      case 'ping':
        return { type: 'done' }
      case 'stats':
        return this.#counts(request.endpoints)
      case 'reopen':
        this.#access.reopen()
        return { type: 'done' }
      case 'drain': {
        const open = await this.#drain(request.timeout, request.idle)
        // Nobody waits for the answer of a worker that was left to itself.
        if (!process.connected) process.exit(0)
        return { type: 'drained', open, dump: this.#dump() }
      }
    }
  }

  async #drain(timeout: number, idle?: number): Promise<number> {
    this.#isDraining = true
    const open = await this.#engine.drain(timeout, idle)
    await this.#access.close()
    return open
  }

  async #listen(): Promise<void> {
    for (const { role, fd } of this.#sockets) {
      if (role === 'outbound') await this.#engine.listenOutbound({ fd })
      else if (role === 'inbound') await this.#engine.listenInbound({ fd })
      else await this.#engine.listenLink({ fd })
    }
    this.#isListening = true
  }

  #counts(endpoints: boolean): Counts {
    return { type: 'stats', dump: this.#dump(), endpoints: endpoints ? this.#engine.endpoints() : null }
  }

  #dump(): ReturnType<Stats['dump']> {
    this.#usage.read()
    const { dropped } = this.#access
    this.#stats
      .counter('meshctl_proxy_access_log_dropped_lines_total', 'Lines lost to a slow or full disk.')
      .add(dropped - this.#counted)
    this.#counted = dropped
    return this.#stats.dump()
  }

  #send(message: FromWorker): void {
    if (!process.connected) return
    process.send!(message, () => {
      if (message.reply.type === 'drained') process.exit(0)
    })
  }
}

function tell(line: Line, sent: () => void): void {
  if (process.connected) process.send!({ id: 0, reply: line } satisfies FromWorker, sent)
  else sent()
}

/**
 * Arguments: path of the access log, `address:port` or `-` for the destination (see ProxyOptions), how many workers share
 * the sockets, then `role=fd` each.
 */
const [accessLog = '', destination = '-', workers = '1', ...sockets] = process.argv.slice(2)
const log = workerLog(process.env['MESHCTL_LOG'] ?? 'info', tell)
new Worker(log, accessLog, destination, Number(workers), sockets).start()
