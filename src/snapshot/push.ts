// The agent's end of the push protocol: JSON lines on the proxy's unix socket, one reply per message, in order.
import { connect } from 'node:net'
import { MeshError } from '../errors.ts'
import { Lines } from './lines.ts'
import type { Push, PushReply } from './types.ts'

/** Upper bound of one message, either way: far above any snapshot, far below what would hurt a host. */
export const maxPushBytes: number = 64 * 1024 * 1024

export interface PushConnection {
  /**
   * Sends a message and waits for its reply. Throws MSH0702 when the proxy cannot be reached, goes away or does not
   * answer in time; the connection is of no use then, and connecting again is the caller's business.
   */
  send(push: Push, timeoutMs?: number): Promise<PushReply>
  close(): void
}

interface Waiting {
  readonly resolve: (reply: PushReply) => void
  readonly reject: (error: MeshError) => void
  readonly timer: NodeJS.Timeout
}

/** Connects in the background; messages sent meanwhile wait. */
export function connectPush(path: string): PushConnection {
  const socket = connect(path)
  const lines = new Lines(maxPushBytes)
  const waiting: Waiting[] = []
  let broken: MeshError | null = null

  const fail = (message: string, cause?: unknown): void => {
    broken ??= new MeshError('MSH0702', `the proxy at ${path} ${message}`, {
      hint: 'systemctl status meshctl-proxy',
      cause,
    })
    for (const { reject, timer } of waiting.splice(0)) {
      clearTimeout(timer)
      reject(broken)
    }
    socket.destroy()
  }

  socket.on('data', (chunk: Buffer) => {
    const replies = lines.feed(chunk)
    if (replies === null) return fail('sent a reply that is too long')
    for (const line of replies) {
      const next = waiting.shift()
      if (next === undefined) return fail('sent a reply that nobody asked for')
      clearTimeout(next.timer)
      try {
        next.resolve(JSON.parse(line) as PushReply)
      } catch (error) {
        waiting.unshift(next)
        return fail('sent a reply that is not JSON', error)
      }
    }
  })
  socket.on('error', (error) => fail(`cannot be reached: ${error.message}`, error))
  socket.on('close', () => fail('closed the connection'))

  return {
    send(push, timeoutMs = 15_000) {
      return new Promise((resolve, reject) => {
        if (broken !== null) return reject(broken)
        const timer = setTimeout(() => fail(`did not answer within ${timeoutMs} ms`), timeoutMs)
        waiting.push({ resolve, reject, timer })
        socket.write(`${JSON.stringify(push)}\n`)
      })
    },
    close() {
      fail('was disconnected')
    },
  }
}
