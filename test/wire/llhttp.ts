// Node's own HTTP parser as an oracle: the same bytes, read by llhttp in its strict mode.
import { createRequire } from 'node:module'
import type { Reading } from './reading.ts'

interface NativeParser {
  initialize(type: number, resource: object, maxHeaderSize: number, lenientFlags: number): void
  execute(bytes: Buffer): number | Error
  free(): void
  [event: number]: (...args: never[]) => unknown
}

interface Native {
  HTTPParser: (new () => NativeParser) & Record<string, number>
  methods: string[]
}

// Not a public module, but the only way to the parser without a socket per case.
const { HTTPParser, methods } = createRequire(import.meta.url)('_http_common') as Native

/** Reads bytes as llhttp does: all messages up to a fault, an upgrade or the end of the bytes. */
export function readLlhttp(
  bytes: Buffer,
  kind: 'request' | 'response',
  requestMethod: string = 'GET',
): Reading {
  const reading: Reading = { messages: [], fault: '', open: false }
  const parser = new HTTPParser()
  const type = kind === 'request' ? HTTPParser['REQUEST']! : HTTPParser['RESPONSE']!
  parser.initialize(type, {}, 1 << 20, HTTPParser['kLenientNone']!)
  let lines: string[] = []
  let url = ''
  let body: Buffer[] = []
  parser[HTTPParser['kOnMessageBegin']!] = () => {
    lines = []
    url = ''
    body = []
  }
  parser[HTTPParser['kOnHeaders']!] = (more: string[], part: string) => {
    lines.push(...more)
    url += part
  }
  parser[HTTPParser['kOnHeadersComplete']!] = (
    _major: number,
    minor: number,
    more: string[] | undefined,
    method: number,
    target: string,
    status: number,
    _reason: string,
    upgrade: boolean,
    keepAlive: boolean,
  ) => {
    // Long heads, and those behind a message with trailers, have come by kOnHeaders already.
    if (more !== undefined) {
      lines = more
      url = target
    }
    const headers: [string, string][] = []
    for (let i = 0; i < lines.length; i += 2) headers.push([lines[i]!.toLowerCase(), lines[i + 1]!])
    reading.messages.push({
      start: kind === 'request' ? `${methods[method]} ${url}` : `${status}`,
      minor,
      headers,
      body: '',
      keepAlive,
      complete: false,
      upgrade: upgrade,
    })
    // 1: no body follows, as after HEAD; 2: no body and other protocols behind.
    if (kind === 'response' && requestMethod === 'HEAD') return 1
    return 0
  }
  parser[HTTPParser['kOnBody']!] = (chunk: Buffer) => {
    body.push(Buffer.from(chunk))
  }
  parser[HTTPParser['kOnMessageComplete']!] = () => {
    const message = reading.messages.at(-1)!
    message.body = Buffer.concat(body).toString('latin1')
    message.complete = true
  }
  const result = parser.execute(bytes)
  if (result instanceof Error) reading.fault = (result as Error & { code: string }).code
  const last = reading.messages.at(-1)
  if (last !== undefined && !last.complete) {
    last.body = Buffer.concat(body).toString('latin1')
    reading.open = true
  }
  parser.free()
  return reading
}
