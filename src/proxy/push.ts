// The proxy's end of the push protocol: a unix socket for the agent alone, one JSON line per message. Besides what the
// agent says, `systemctl reload` may ask for a reload.
import { chmodSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { dirname } from 'node:path'
import { reason } from '../errors.ts'
import type { Log } from '../log.ts'
import { Lines } from '../snapshot/lines.ts'
import { maxPushBytes } from '../snapshot/push.ts'
import type { Push, PushReply } from '../snapshot/types.ts'

/** The agent needs one; a person with socat may be a second. */
const maxConnections = 8

const kinds: ReadonlySet<unknown> = new Set([
  'snapshot',
  'patch',
  'secrets',
  'ping',
  'stats',
  'drain',
  'reload',
])

/** What a reload came to. */
export interface Reloaded {
  readonly type: 'reloaded'
  readonly pid: number
  readonly version: string
}

export interface PushServer {
  /** Takes the socket away. */
  close(): void
  /** Another process listens at the path now: the socket stays, and a reload that is under way gets its answer. */
  retire(): void
}

/** Listens at `path` (in the place of what is there, mode 0600) and answers each message with what `handle` makes of it. */
export async function servePush(
  path: string,
  log: Log,
  handle: (push: Push) => Promise<PushReply>,
  reload: () => Promise<Reloaded> = () => Promise.reject(new Error('nobody can take over here')),
): Promise<PushServer> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  const sockets = new Set<Socket>()
  const reloading = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', (error) => log.debug({ reason: error.message }, 'push connection failed'))
    converse(socket, log, async (push) => {
      if (push.type !== 'reload') return handle(push)
      reloading.add(socket)
      const reply = await reload()
      setImmediate(() => socket.end())
      return reply
    })
  })
  server.maxConnections = maxConnections
  await listen(server, path)
  const end = (spared: ReadonlySet<Socket>): void => {
    server.close()
    for (const socket of sockets) if (!spared.has(socket)) socket.destroy()
  }
  return {
    close() {
      end(new Set())
      rmSync(path, { force: true })
    },
    retire: () => end(reloading),
  }
}

/** Asks the running proxy for a reload; `error` when it does not do it or cannot be reached. */
export function askReload(path: string, timeoutMs: number): Promise<Reloaded | ErrorReply> {
  return new Promise((resolve) => {
    const socket = connect(path, () => socket.write('{"type":"reload"}\n'))
    const fail = (why: string): void => {
      resolve({ type: 'error', reason: why })
      socket.destroy()
    }
    const lines = new Lines(maxPushBytes)
    socket.setTimeout(timeoutMs, () => fail(`no answer within ${timeoutMs} ms`))
    socket.on('error', (error) => fail(error.message))
    socket.on('close', () => fail('the proxy closed the connection'))
    socket.on('data', (chunk: Buffer) => {
      const line = lines.feed(chunk)?.[0]
      if (line === undefined) return
      resolve(JSON.parse(line) as Reloaded | ErrorReply)
      socket.destroy()
    })
  })
}

/**
 * The socket must never be there with a wider mode, not even between bind and chmod. Made beside and renamed: there is
 * always one, and closing (which unlinks the name that was bound) does not take a successor's away.
 */
async function listen(server: Server, path: string): Promise<void> {
  const beside = `${path}.${process.pid}`
  rmSync(beside, { force: true })
  const mask = process.umask(0o177)
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(beside, resolve)
    })
  } finally {
    process.umask(mask)
  }
  chmodSync(beside, 0o600)
  renameSync(beside, path)
}

type Ask = Push | { readonly type: 'reload' }
type ErrorReply = Extract<PushReply, { type: 'error' }>

function converse(socket: Socket, log: Log, handle: (push: Ask) => Promise<PushReply | Reloaded>): void {
  const lines = new Lines(maxPushBytes)
  let queue = Promise.resolve()
  const answer = (reply: PushReply | Reloaded): void => {
    if (socket.writable) socket.write(`${JSON.stringify(reply)}\n`)
  }
  socket.on('data', (chunk: Buffer) => {
    const messages = lines.feed(chunk)
    if (messages === null) {
      answer({ type: 'error', reason: `a message is longer than ${maxPushBytes} bytes` })
      socket.destroySoon()
      return
    }
    for (const line of messages) {
      queue = queue.then(async () => {
        const push = parse(line)
        if (typeof push === 'string') {
          log.warn({ reason: push }, 'push refused')
          answer({ type: 'error', reason: push })
          return
        }
        try {
          answer(await handle(push))
        } catch (error) {
          log.error({ type: push.type, reason: reason(error) }, 'push failed')
          answer({ type: 'error', reason: reason(error) })
        }
      })
    }
  })
}

/** A message, or why it is none. Its content is checked by those who use it. */
function parse(line: string): Ask | string {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    return 'the message is not JSON'
  }
  if (typeof value !== 'object' || value === null || !('type' in value)) return 'the message has no type'
  if (!kinds.has(value.type)) return `the message type ${JSON.stringify(value.type)} is unknown`
  const push = value as Ask
  const isObject = (part: unknown): boolean => typeof part === 'object' && part !== null
  if (push.type === 'snapshot' && !isObject(push.snapshot)) return 'the message holds no snapshot'
  if (push.type === 'patch' && !isObject(push.change)) return 'the message holds no change'
  if (push.type === 'secrets' && !isObject(push.secrets)) return 'the message holds no secrets'
  if (push.type === 'drain' && !(push.timeout >= 0)) return 'the message holds no timeout'
  return push
}
