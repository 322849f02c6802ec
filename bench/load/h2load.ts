// gRPC by h2load: unary calls as HTTP/2 streams with prior knowledge. It does not look at trailers; program/grpc.ts has
// done that before, and under load the number of bytes tells.
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { cores, type Place } from '../place.ts'
import { Latencies } from '../program/latency.ts'
import type { Load } from '../scenario/scenario.ts'
import type { At } from '../system/system.ts'

export interface GrpcOptions {
  readonly connections: number
  /** At once on each connection. */
  readonly streams: number
  readonly path: string
  /** The request's message with its prefix of five bytes. */
  readonly frame: Buffer
  /** Of the response's message with its prefix. */
  readonly answerBytes: number
}

export function h2load(place: Place, { host, port }: At, seconds: number, options: GrpcOptions): Load {
  const { connections, streams, path, frame, answerBytes } = options
  const data = place.file('grpc.request', frame)
  const log = join(place.dir, 'h2load.log')
  rmSync(log, { force: true })
  const url = `http://${host}:${port}${path}`
  const text = place.run(
    'client',
    cores.load,
    'h2load',
    '-t1',
    `-c${connections}`,
    `-m${streams}`,
    `-D${seconds}`,
    '-w20',
    '-W24',
    '-H',
    'content-type: application/grpc',
    '-H',
    'te: trailers',
    '-d',
    data,
    '--log-file',
    log,
    url,
  )
  const found = /(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored/.exec(text)
  if (found === null) throw new Error(`h2load gave no report: ${text.slice(-300)}`)
  const [done, succeeded, failed, errored] = found.slice(1).map(Number) as [number, number, number, number]
  if (failed + errored > 0 || succeeded === 0)
    throw new Error(`${failed + errored} of ${done} calls to ${url} failed`)
  // An error of gRPC is a success of HTTP, but has no message.
  const bytes = Number(/\((\d+)\) data/.exec(text)?.[1])
  if (!(bytes >= succeeded * answerBytes))
    throw new Error(`${succeeded} answers of ${url} had ${bytes} bytes instead of ${succeeded * answerBytes}`)
  const latencies = new Latencies()
  for (const line of readFileSync(log, 'utf8').split('\n')) {
    const us = line.split('\t')[2]
    if (us !== undefined) latencies.add(Number(us) / 1000)
  }
  return { count: succeeded, rps: succeeded / seconds, ...latencies.summary() }
}
