// A worker that does what its snapshot's host name says: refuse, crash or hang when it is applied,
// or be the only one that takes it. Everything else is the
// real message protocol on real sockets, so the supervisor's degraded modes can be met one by one.
import { mkdirSync } from 'node:fs'
import { createServer } from 'node:net'
import type { Server } from 'node:net'
import type { FromWorker, Reply, Request, ToWorker } from '../../src/proxy/message.ts'
import { Stats } from '../../src/proxy/stats.ts'

const stats = new Stats()
const servers: Server[] = []
let hash = ''
let secrets = 0

const fds = process.argv.slice(2).map((word) => Number(word.split('=')[1]))

function act(request: Request): Reply {
  switch (request.type) {
    case 'apply': {
      const { host, mesh } = request.snapshot
      if (host === 'refuse') return { type: 'refused', reason: 'the stand-in refuses' }
      if (host === 'first-only' && !isFirst(mesh))
        return { type: 'refused', reason: 'the stand-in is not the first' }
      if (host === 'crash') process.exit(7)
      if (host === 'hang') for (;;);
      if (hash === '') listen()
      hash = request.snapshot.hash
      stats.counter('standin_applied_total', 'Snapshots applied.').add(1)
      return { type: 'done' }
    }
    case 'change': {
      const { set } = request.change
      if (request.base !== hash) return { type: 'refused', reason: 'the stand-in has another base' }
      if (set?.['host'] === 'refuse') return { type: 'refused', reason: 'the stand-in refuses' }
      if (set?.['host'] === 'crash') process.exit(7)
      if (set?.['host'] === 'first-only' && !isFirst(String(set['mesh'])))
        return { type: 'refused', reason: 'the stand-in is not the first' }
      hash = String(set?.['hash'])
      return { type: 'done' }
    }
    case 'secrets':
      secrets = request.secrets.leafs.length
      return { type: 'done' }
    case 'stats':
      return {
        type: 'stats',
        dump: stats.dump(),
        endpoints: [{ cluster: 'c', endpoint: 'e', ejected: false, active: 1 }],
      }
    case 'drain':
      for (const server of servers) server.close()
      setImmediate(() => process.exit(0))
      return { type: 'drained', open: 1, dump: stats.dump() }
    case 'ping':
    case 'reopen':
      return { type: 'done' }
  }
}

/** Whether this is the first worker to be asked; `path` is made by the one that is. */
function isFirst(path: string): boolean {
  try {
    mkdirSync(path)
    return true
  } catch {
    return false
  }
}

/** Each connection is told who serves it, with which config; `crash` kills the worker, `hang` its event loop. */
function listen(): void {
  for (const fd of fds) {
    const server = createServer((socket) => {
      socket.on('data', (bytes) => {
        if (bytes.toString() === 'crash') process.exit(9)
        if (bytes.toString() === 'hang') for (;;);
        socket.end(`${process.pid} ${hash} ${secrets}`)
      })
    })
    server.listen({ fd })
    servers.push(server)
  }
}

process.on('message', ({ id, request }: ToWorker) => {
  process.send!({ id, reply: act(request) } satisfies FromWorker)
})
process.on('disconnect', () => process.exit(0))
process.send!({ id: 0, reply: { type: 'done' } } satisfies FromWorker)
