// The supervisor's program, or the request for a reload. Its workers run another one (worker.ts).
import { MeshError, reason } from '../errors.ts'
import { makeLog } from '../log.ts'
import { forgetPassed } from '../net/activation.ts'
import { readOptions, usage } from './options.ts'
import { Predecessor } from './predecessor.ts'
import { askReload } from './push.ts'
import { Service } from './service.ts'
import { bindSocket, inheritedSockets, takenSockets } from './sockets.ts'

/** Above what a supervisor allows its successor, below what systemd allows a reload. */
const reloadMs = 60_000

async function supervise(args: readonly string[]): Promise<void> {
  const log = makeLog('proxy')
  const options = readOptions(args)
  const isTakeover = options.taken.length > 0
  const inherited = inheritedSockets(process.env, process.pid)

  // ==== above: only read and check; below: touch the machine ====

  const bound = isTakeover ? [] : options.bind.map(({ role, host, port }) => bindSocket(role, host, port))
  const sockets = isTakeover ? takenSockets(options.taken) : [...inherited, ...bound]
  if (sockets.length === 0) {
    throw new MeshError('MSH0703', 'there are no sockets to serve', {
      hint: 'start meshctl-proxy.socket, or pass --outbound, --inbound, --link',
    })
  }
  forgetPassed(process.env)
  await new Service({
    log,
    options,
    sockets,
    program: process.argv[1]!,
    args: withoutTaken(args),
    predecessor: isTakeover ? new Predecessor() : null,
  }).start()
}

/** The sockets that were taken over are told anew to the next one. */
function withoutTaken(args: readonly string[]): string[] {
  return args.filter((word, at) => word !== '--take' && args[at - 1] !== '--take')
}

async function reload(args: readonly string[]): Promise<void> {
  const reply = await askReload(readOptions(args).paths.proxySocket, reloadMs)
  if (reply.type === 'error') throw new MeshError('MSH0705', reply.reason)
  makeLog('proxy').info({ pid: reply.pid, version: reply.version }, 'reloaded')
}

const args = process.argv.slice(2)
if (args.includes('--help') || args.includes('-h')) {
  process.stdout.write(usage)
} else {
  const isReload = args[0] === '--reload'
  try {
    await (isReload ? reload(args.slice(1)) : supervise(args))
  } catch (error) {
    const code = error instanceof MeshError ? error.code : ''
    makeLog('proxy').fatal({ code, reason: reason(error) }, isReload ? 'not reloaded' : 'cannot start')
    process.exit(error instanceof MeshError ? error.exit : 1)
  }
}
