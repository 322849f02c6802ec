// One request as the endpoints see it, and the answers they give. Paths, numbers and bodies are checked here.
import type { Principal } from './access.ts'
import type { Answer, Watch } from './waits.ts'
import { Fault } from './fault.ts'

export interface Call {
  readonly method: string
  /** What the route's `:name` or trailing `*` matched, decoded. */
  readonly rest: string
  readonly query: URLSearchParams
  readonly body: Buffer
  readonly who: Principal
}

/** What an endpoint answers at once. */
export interface Reply {
  readonly status: number
  readonly type: string
  readonly body: Buffer
}

export interface Route {
  readonly method: 'GET' | 'PUT' | 'DELETE'
  /** `catalog/nodes`, or with a last part that may hold anything: `kv/*`. */
  readonly path: string
  /** A watch is answered at once or, with `?index=`, when it changes. */
  readonly handle: (call: Call) => Reply | Watch | Promise<Reply>
}

export function jsonBody(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}

export function ok(value: unknown): Reply {
  return { status: 200, type: 'application/json', body: jsonBody(value) }
}

/** Consul's endpoints of the agent answer with an empty body. */
export const done: Reply = { status: 200, type: '', body: Buffer.alloc(0) }

export function answer(index: number, value: unknown): Answer {
  return { status: 200, index: Math.max(index, 1), type: 'application/json', body: jsonBody(value) }
}

/** The body as a JSON object. */
export function parseObject(body: Buffer): Record<string, unknown> {
  const value = parse(body)
  if (!isObject(value)) throw new Fault(400, 'Request decode failed: the body is not a JSON object')
  return value
}

export function parseArray(body: Buffer): unknown[] {
  const value = parse(body)
  if (!Array.isArray(value)) throw new Fault(400, 'Failed to parse body: not a JSON array')
  return value
}

function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'))
  } catch (error) {
    throw new Fault(
      400,
      `Request decode failed: ${error instanceof Error ? error.message.slice(0, 120) : 'not JSON'}`,
    )
  }
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A string field; `''` where it is absent or null. */
export function stringField(object: Record<string, unknown>, name: string): string {
  const value = object[name] ?? ''
  if (typeof value !== 'string') throw new Fault(400, `Request decode failed: ${name} is not a string`)
  return value
}

export function integerField(object: Record<string, unknown>, name: string): number {
  const value = object[name] ?? 0
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    throw new Fault(400, `Request decode failed: ${name} is not a number`)
  }
  return value
}

export function objectField(object: Record<string, unknown>, name: string): Record<string, unknown> | null {
  const value = object[name] ?? null
  if (value !== null && !isObject(value))
    throw new Fault(400, `Request decode failed: ${name} is not an object`)
  return value
}

export function stringsField(object: Record<string, unknown>, name: string): string[] | null {
  const value = object[name] ?? null
  if (value === null) return null
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string')) {
    throw new Fault(400, `Request decode failed: ${name} is not a list of strings`)
  }
  return value
}

/** A string map such as Meta; null where it is absent. */
export function mapField(object: Record<string, unknown>, name: string): Record<string, string> | null {
  const value = objectField(object, name)
  if (value === null) return null
  for (const item of Object.values(value)) {
    if (typeof item !== 'string')
      throw new Fault(400, `Request decode failed: ${name} holds more than strings`)
  }
  return value as Record<string, string>
}

/** An unsigned number of the query; null where it is absent. */
export function unsigned(query: URLSearchParams, name: string): number | null {
  const value = query.get(name)
  if (value === null) return null
  if (!/^\d{1,16}$/.test(value) || !Number.isSafeInteger(Number(value))) {
    throw new Fault(400, `${name} is not a number`)
  }
  return Number(value)
}

const unitMs: Record<string, number> = { ns: 1e-6, us: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 }

/** A duration as Go writes it, `1m30s`, in milliseconds; null where it is none. */
export function duration(value: string): number | null {
  if (!/^(\d{1,12}(\.\d{1,9})?(ns|us|ms|s|m|h))+$/.test(value)) return null
  let sum = 0
  for (const part of value.matchAll(/(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)/g)) {
    sum += Number(part[1]) * (unitMs[part[2] ?? ''] ?? 0)
  }
  return sum
}
