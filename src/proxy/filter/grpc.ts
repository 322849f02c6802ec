// What gRPC says in HTTP/2's fields: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
import type { Headers } from '../chain/ends.ts'

/** Statuses that we give ourselves, or act on. */
export const Grpc = { unknown: 2, deadlineExceeded: 4, unavailable: 14 } as const

const maxStatus = 16
/** Longer deadlines than this, ten days, are none. Milliseconds. */
const maxTimeout = 864_000_000
/** Milliseconds of one of each unit, by its letter. */
const units: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1000,
  m: 1,
  u: 0.001,
  n: 0.000_001,
}

/** Whether a request is a call of gRPC. gRPC-Web is not: its status stands in its body. */
export function isGrpc(head: Headers): boolean {
  const type = head.get('content-type')
  if (type === undefined || !type.startsWith('application/grpc')) return false
  const next = type.charCodeAt(16)
  // The end, `+proto` and the like, or a parameter.
  return Number.isNaN(next) || next === 43 || next === 59
}

/** A status as a response's trailers have it; -1: it has none. What is no status of gRPC is UNKNOWN. */
export function statusIn(fields: Headers): number {
  const text = fields.get('grpc-status')
  if (text === undefined) return -1
  const status = Number(text)
  return Number.isInteger(status) && status >= 0 && status <= maxStatus ? status : Grpc.unknown
}

/** How long the caller waits, in whole milliseconds, at least one; 0: it does not say, or nothing that makes sense. */
export function timeoutIn(head: Headers): number {
  const text = head.get('grpc-timeout')
  if (text === undefined || !/^\d{1,8}[HMSmun]$/.test(text)) return 0
  const ms = Math.max(1, Math.ceil(Number(text.slice(0, -1)) * units[text.at(-1)!]!))
  return ms > maxTimeout ? 0 : ms
}

/**
 * The status of gRPC for one of HTTP: https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md, and
 * DEADLINE_EXCEEDED for our own timeouts.
 */
export function grpcStatusOf(status: number): number {
  switch (status) {
    case 400:
    case 431:
      return 13
    case 401:
      return 16
    case 403:
      return 7
    case 404:
      return 12
    case 429:
    case 502:
    case 503:
      return Grpc.unavailable
    case 504:
      return Grpc.deadlineExceeded
    default:
      return Grpc.unknown
  }
}

/** The status of HTTP that judges an instance as one of gRPC does; Envoy's table. */
export function httpStatusOf(status: number): number {
  switch (status) {
    case 2:
    case 13:
    case 15:
      return 500
    case 4:
      return 504
    case 12:
      return 501
    case 14:
      return 503
    default:
      return 200
  }
}

/** grpc-message is percent-encoded (Status-Message). The text is printable ASCII. */
export function grpcMessage(text: string): string {
  return text.replaceAll('%', '%25').replaceAll(/[^\x20-\x7e]/g, ' ')
}
