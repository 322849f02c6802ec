// The agent's own socket for the one-shot verbs on the host: one JSON line asks, one answers.
import { chmodSync, rmSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { errorCodes, MeshError, reason } from '../errors.ts'
import { isRecord } from '../model/problem.ts'
import type { HostReport } from '../registry/registry.ts'
import { Lines } from '../snapshot/lines.ts'

/** What may be asked. `drain` and `leave` are for `meshctl leave`. */
export type Ask =
  | { readonly verb: 'status' }
  | { readonly verb: 'renew'; readonly force: boolean }
  | { readonly verb: 'drain'; readonly timeoutMs: number }
  | { readonly verb: 'leave' }

/** What the agent knows of itself. */
export interface AgentStatus {
  readonly report: HostReport
  readonly registry: {
    readonly connected: boolean
    readonly ageMs: number | null
    readonly registered: boolean
  }
  readonly certificates: readonly {
    readonly spiffe: string
    readonly notBefore: number
    readonly notAfter: number
  }[]
  readonly proxy: { readonly snapshot: string; readonly wanted: string }
}

export interface Answers {
  status(): AgentStatus
  renew(force: boolean): Promise<{ readonly renewed: boolean; readonly notAfter: number }>
  drain(timeoutMs: number): Promise<{ readonly open: number }>
  leave(): Promise<Record<string, never>>
}

type Result<V extends Ask['verb']> = Awaited<ReturnType<Answers[V]>>

const maxBytes = 64 * 1024 * 1024
const maxConnections = 16

/** Listens at `path`, mode 0600, in place of a socket that a dead agent left. */
export async function serveAgent(path: string, answers: Answers): Promise<{ close(): void }> {
  rmSync(path, { force: true })
  const open = new Set<Socket>()
  const server = createServer((socket) => {
    open.add(socket)
    socket.on('close', () => open.delete(socket))
    socket.on('error', () => socket.destroy())
    const lines = new Lines(64 * 1024)
    socket.on('data', (chunk: Buffer) => {
      const asked = lines.feed(chunk)
      if (asked === null) return socket.destroy()
      for (const line of asked) {
        void reply(line, answers).then((text) => {
          if (socket.writable) socket.write(text)
        })
      }
      return undefined
    })
  })
  server.maxConnections = maxConnections
  // Never there with a wider mode, not even between bind and chmod.
  const mask = process.umask(0o177)
  try {
    await new Promise<void>((done, fail) => {
      server.once('error', fail)
      server.listen(path, done)
    })
  } finally {
    process.umask(mask)
  }
  chmodSync(path, 0o600)
  return {
    close() {
      server.close()
      for (const socket of open) socket.destroy()
    },
  }
}

async function reply(line: string, answers: Answers): Promise<string> {
  try {
    const asked: unknown = JSON.parse(line)
    return `${JSON.stringify({ ok: await dispatch(asked, answers) })}\n`
  } catch (error) {
    const code = error instanceof MeshError ? error.code : null
    return `${JSON.stringify({ error: reason(error), code })}\n`
  }
}

async function dispatch(asked: unknown, answers: Answers): Promise<unknown> {
  const ask = isRecord(asked) ? asked : {}
  const timeoutMs = ask['timeoutMs']
  switch (ask['verb']) {
    case 'status':
      return answers.status()
    case 'renew':
      return await answers.renew(ask['force'] === true)
    case 'drain':
      return await answers.drain(
        typeof timeoutMs === 'number' && timeoutMs >= 0 ? Math.min(timeoutMs, 600_000) : 10_000,
      )
    case 'leave':
      return await answers.leave()
    default:
      throw new MeshError('MSH0101', 'unknown verb')
  }
}

/** Asks the agent of this host. Throws MSH0604 where none answers, and what the agent said where it refused. */
export function askAgent<V extends Ask['verb']>(
  path: string,
  ask: Extract<Ask, { readonly verb: V }>,
  timeoutMs: number = 15_000,
): Promise<Result<V>> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    const lines = new Lines(maxBytes)
    const fail = (why: string): void => {
      socket.destroy()
      reject(
        new MeshError('MSH0604', `the agent does not answer: ${why}`, {
          hint: 'systemctl status meshctl-agent',
        }),
      )
    }
    socket.setTimeout(timeoutMs, () => fail(`nothing within ${timeoutMs} ms`))
    socket.on('error', (error) => fail(reason(error)))
    socket.on('close', () => fail('it closed the connection'))
    socket.on('connect', () => socket.write(`${JSON.stringify(ask)}\n`))
    socket.on('data', (chunk: Buffer) => {
      const [line] = lines.feed(chunk) ?? []
      if (line === undefined) return
      socket.removeAllListeners('close')
      socket.destroy()
      try {
        const said = JSON.parse(line) as { ok?: Result<V>; error?: string; code?: string }
        if (said.ok !== undefined) return resolve(said.ok)
        const code = errorCodes.find((known) => known === said.code) ?? 'MSH0604'
        reject(new MeshError(code, said.error ?? 'the agent gave no answer'))
      } catch (error) {
        reject(new MeshError('MSH0604', 'the agent answered something that is not JSON', { cause: error }))
      }
    })
  })
}
