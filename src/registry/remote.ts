// One registry server: runs calls of the `consul` package with a deadline, cancelling and errors of ours. The token
// travels in a header only.
import { MeshError } from '../errors.ts'
import type { Log } from '../log.ts'
import type { RegistryConfig } from '../model/host.ts'
import { CallContext, dial, place, putReply } from './dial.ts'
import type { CallOptions, Package, Reply } from './dial.ts'
import { failure, responseOf, unreachable } from './failure.ts'
import type { Indexed, Query } from './registry.ts'

const defaultTimeoutMs = 10_000
const defaultWaitMs = 60_000

export interface ConnectOptions {
  readonly log?: Log
  /** Deadline of a call; a blocking query has its wait on top. */
  readonly timeoutMs?: number
}

export class Remote {
  readonly consul: Package
  readonly #where: string
  readonly #timeoutMs: number
  readonly #token: string | null
  #closed = false

  constructor(url: string, config: RegistryConfig, options: ConnectOptions) {
    this.consul = dial(url, config)
    this.#where = place(url)
    this.#timeoutMs = options.timeoutMs ?? defaultTimeoutMs
    this.#token = config.token
    if (this.#token !== null && /^http:\/\/(?!localhost|127\.|\[::1\])/.test(this.#where)) {
      options.log?.warn({ registry: this.#where }, 'the registry token travels in plain text')
    }
  }

  /** `allow` turns an expected refusal into a value. */
  async ask(
    what: string,
    run: (consul: Package, options: CallOptions) => Promise<Reply>,
    query: Query = {},
    allow: (status: number, body: unknown) => Reply | null = () => null,
  ): Promise<Reply> {
    query.signal?.throwIfAborted()
    if (this.#closed) throw unreachable(what, this.#where, 'the client is closed')
    const ctx = new CallContext()
    const cancel = (): boolean => ctx.emit('cancel')
    query.signal?.addEventListener('abort', cancel, { once: true })
    const blocking = query.index !== undefined && query.index !== '0'
    const waitMs = query.waitMs ?? defaultWaitMs
    try {
      return await run(this.consul, {
        ctx,
        // The server adds up to a sixteenth of jitter to a wait.
        timeout: this.#timeoutMs + (blocking ? waitMs + waitMs / 16 : 0),
        ...(blocking ? { index: query.index ?? '', wait: `${Math.max(1, Math.round(waitMs))}ms` } : {}),
      })
    } catch (error) {
      query.signal?.throwIfAborted()
      const response = responseOf(error)
      const allowed = response === null ? null : allow(response.statusCode ?? 0, response.body)
      if (allowed !== null) return allowed
      throw failure(error, what, this.#where)
    } finally {
      query.signal?.removeEventListener('abort', cancel)
    }
  }

  /** Calls that the package has not, or whose fields it would drop. */
  put(what: string, path: string, params: Record<string, string>, body: object): Promise<Reply> {
    const headers: Record<string, string> = this.#token === null ? {} : { 'x-consul-token': this.#token }
    return this.ask(what, (consul, { ctx, timeout }) =>
      consul._put({ name: what, path, params, type: 'json', body, headers, ctx, timeout }, putReply),
    )
  }

  async read<T>(
    what: string,
    query: Query | undefined,
    run: (consul: Package, options: CallOptions) => Promise<Reply>,
    parse: (body: unknown) => T,
  ): Promise<Indexed<T>> {
    const [response, body] = await this.ask(what, run, query)
    const index = response.headers['x-consul-index']
    if (typeof index !== 'string' || !/^\d+$/.test(index)) {
      throw new MeshError(
        'MSH0303',
        `${what}: what answers at ${this.#where} is not a registry (no X-Consul-Index)`,
      )
    }
    // Consul's rules: an index that went back means another history, and starting from 0 reads it anew at once; an index
    // of 0 would not block and is taken as 1.
    const back = query?.index !== undefined && BigInt(index) < BigInt(query.index)
    return { index: back ? '0' : index === '0' ? '1' : index, value: parse(body) }
  }

  close(): void {
    this.#closed = true
    this.consul.destroy()
  }
}
