// The proxy's end of the push protocol: a unix socket for the agent alone, one JSON line per message.
import { chmodSync, mkdirSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { dirname } from 'node:path'
import { reason } from '../errors.ts'
import type { Log } from '../log.ts'
import { Lines } from '../snapshot/lines.ts'
import { maxPushBytes } from '../snapshot/push.ts'
import type { Push, PushReply } from '../snapshot/types.ts'

/** The agent needs one; a person with socat may be a second. */
const maxConnections = 8

const kinds: ReadonlySet<unknown> = new Set(['snapshot', 'secrets', 'ping', 'stats', 'drain'])

/** Listens at `path` (replacing a stale socket, mode 0600) and answers each message with what `handle` makes of it. */
export async function servePush(
  path: string,
  log: Log,
  handle: (push: Push) => Promise<PushReply>,
): Promise<{ close(): void }> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  rmSync(path, { force: true })
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', (error) => log.debug({ reason: error.message }, 'push connection failed'))
    converse(socket, log, handle)
  })
  server.maxConnections = maxConnections
  await listen(server, path)
  return {
    close() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

/** The socket must never be there with a wider mode, not even between bind and chmod. */
async function listen(server: Server, path: string): Promise<void> {
  const mask = process.umask(0o177)
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(path, resolve)
    })
  } finally {
    process.umask(mask)
  }
  chmodSync(path, 0o600)
}

function converse(socket: Socket, log: Log, handle: (push: Push) => Promise<PushReply>): void {
  const lines = new Lines(maxPushBytes)
  let queue = Promise.resolve()
  const answer = (reply: PushReply): void => {
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
function parse(line: string): Push | string {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    return 'the message is not JSON'
  }
  if (typeof value !== 'object' || value === null || !('type' in value)) return 'the message has no type'
  if (!kinds.has(value.type)) return `the message type ${JSON.stringify(value.type)} is unknown`
  const push = value as Push
  const isObject = (part: unknown): boolean => typeof part === 'object' && part !== null
  if (push.type === 'snapshot' && !isObject(push.snapshot)) return 'the message holds no snapshot'
  if (push.type === 'secrets' && !isObject(push.secrets)) return 'the message holds no secrets'
  if (push.type === 'drain' && !(push.timeout >= 0)) return 'the message holds no timeout'
  return push
}
