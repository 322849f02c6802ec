// A web service for labs: says its version, what it received and a marker to look for on the wire.
//   PORT (8080)  VERSION (v1)  MARKER  HOST (0.0.0.0)
// Paths: / one line; /headers the request's headers as JSON; /slow?ms=N answers late; /waiting how many of those are
// under way; /bytes?n=N a body of N bytes; /healthz 200, or 503 after POST /sick (until POST /well).
import { createServer } from 'node:http'
import { hostname } from 'node:os'

const env = (name: string, fallback: string): string => process.env[name] ?? fallback
const version = env('VERSION', 'v1')
const marker = env('MARKER', 'no-marker')
let sick = false
let served = 0
let waiting = 0

createServer((request, response) => {
  const url = new URL(request.url ?? '/', 'http://web')
  const send = (status: number, body: string): void => {
    response.writeHead(status, { 'content-type': 'text/plain', 'x-version': version, 'x-marker': marker })
    response.end(body)
  }
  if (url.pathname === '/healthz') return send(sick ? 503 : 200, sick ? 'sick\n' : 'ok\n')
  if (url.pathname === '/sick' || url.pathname === '/well') {
    sick = url.pathname === '/sick'
    return send(200, 'ok\n')
  }
  request.resume()
  request.once('end', () => {
    served += 1
    if (url.pathname === '/headers') return send(200, `${JSON.stringify(request.headers)}\n`)
    if (url.pathname === '/served') return send(200, `${served - 1}\n`)
    if (url.pathname === '/bytes') return send(200, 'x'.repeat(Number(url.searchParams.get('n') ?? 0)))
    if (url.pathname === '/waiting') return send(200, `${waiting}\n`)
    const say = (): void => send(200, `web ${version} ${hostname()} ${marker}\n`)
    if (url.pathname !== '/slow') return say()
    waiting += 1
    setTimeout(
      () => {
        waiting -= 1
        say()
      },
      Number(url.searchParams.get('ms') ?? 1000),
    )
  })
}).listen(Number(env('PORT', '8080')), env('HOST', '0.0.0.0'))
