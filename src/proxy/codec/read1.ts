// What a head of HTTP/1.1 says of its exchange.
import type { Head } from '../../wire/head.ts'
import type { Exchange } from '../chain/exchange.ts'

export function fillRequest(x: Exchange, head: Head): void {
  x.method = head.method
  x.path = head.target
  x.authority = head.host
  x.version = head.minor
  x.keepAlive = head.keepAlive && !x.core.draining
  x.isUnsized = head.chunked
  x.requestDone = !head.chunked && head.contentLength <= 0
  // Only what we know how to tunnel; other tokens are ignored, as RFC 9110 7.8 allows.
  if (head.upgrade === 'websocket' && head.method === 'GET') x.upgrade = 'websocket'
}

/** `PRI`: no method, but the first word of HTTP/2 (RFC 9113 3.4). */
export function isPreface(buffer: Buffer, at: number, end: number): boolean {
  return end - at >= 3 && buffer[at] === 80 && buffer[at + 1] === 82 && buffer[at + 2] === 73
}
