// The proxy process: one supervisor, or one of its workers.
import { realpathSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from '../clock.ts'
import { MeshError, reason } from '../errors.ts'
import { makeLog } from '../log.ts'
import type { Secrets, Snapshot } from '../snapshot/types.ts'
import { version } from '../version.ts'
import { serveHealth, servePrometheus } from './health.ts'
import { readOptions, readState, usage } from './options.ts'
import { servePush } from './push.ts'
import { bindSocket, inheritedSockets } from './sockets.ts'
import { Supervisor } from './supervisor.ts'
import { runWorker } from './worker.ts'

async function supervise(args: readonly string[]): Promise<void> {
  const log = makeLog('proxy')
  const options = readOptions(args)
  const { paths } = options
  const snapshotPath = join(paths.proxyState, 'snapshot.json')
  const secretsPath = join(paths.proxyState, 'secrets.json')
  const warn = (path: string) => (why: string) =>
    log.warn({ path, reason: why }, 'last good state cannot be read')
  const snapshot = readState<Snapshot>(snapshotPath, warn(snapshotPath))
  const secrets = readState<Secrets>(secretsPath, warn(secretsPath))
  const inherited = inheritedSockets(process.env, process.pid)

  // ==== above: only read and check; below: touch the machine ====

  const bound = options.bind.map(({ role, host, port }) => bindSocket(role, host, port))
  const sockets = [...inherited, ...bound]
  if (sockets.length === 0) {
    throw new MeshError('MSH0703', 'there are no sockets to serve', {
      hint: 'start meshctl-proxy.socket, or pass --outbound, --inbound, --link',
    })
  }
  // What descriptors systemd gave us is nobody else's business, and not our workers'.
  delete process.env['LISTEN_FDS']
  delete process.env['LISTEN_PID']
  delete process.env['LISTEN_FDNAMES']
  const { destination } = options
  const supervisor = new Supervisor({
    clock: systemClock,
    log,
    workers: options.workers,
    sockets,
    // The real path: after an upgrade a crashed worker must still be of this release.
    command: [
      realpathSync(process.argv[1]!),
      '--worker',
      paths.accessLog,
      destination === null ? '-' : `${destination.host}:${destination.port}`,
    ],
    accessLog: paths.accessLog,
  })
  const health = await serveHealth(supervisor, options.health.host, options.health.port)
  const prometheus = await servePrometheus(supervisor, options.prometheus.host, options.prometheus.port)
  supervisor.start(secrets, snapshot)
  const push = await servePush(paths.proxySocket, log, supervisor.handle)

  let isEnding = false
  const end = (signal: string): void => {
    if (isEnding) process.exit(1)
    isEnding = true
    log.info({ signal }, 'draining')
    void supervisor.drain().then((open) => {
      log.info({ open }, 'drained')
      push.close()
      health.close()
      prometheus.close()
      supervisor.close()
      for (const socket of bound) socket.close()
      process.exit(0)
    })
  }
  process.on('SIGTERM', end)
  process.on('SIGINT', end)
  log.info(
    {
      version,
      workers: options.workers,
      snapshot: snapshot?.hash ?? '',
      health: health.port,
      prometheus: prometheus.port,
      sockets: sockets.map(({ role, port }) => `${role}:${port}`),
    },
    'started',
  )
}

const args = process.argv.slice(2)
if (args[0] === '--worker') {
  runWorker(args.slice(1))
} else if (args.includes('--help') || args.includes('-h')) {
  process.stdout.write(usage)
} else {
  try {
    await supervise(args)
  } catch (error) {
    const code = error instanceof MeshError ? error.code : ''
    makeLog('proxy').fatal({ code, reason: reason(error) }, 'cannot start')
    process.exit(error instanceof MeshError ? error.exit : 1)
  }
}
