// Heads of HTTP/2 that try to be more than one request, or somebody else's: from a peer of the mesh that does not keep to the
// rules, to an application that speaks HTTP/1.1 and one that speaks HTTP/2.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import http2 from 'node:http2'
import type net from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import tls from 'node:tls'
import fc from 'fast-check'
import { linkHttp2, serverName } from '../../src/snapshot/types.ts'
import { Flag, Type } from '../../src/wire/h2/frame.ts'
import { frame } from '../wire/h2/victim.ts'
import { seed } from '../wire/soup.ts'
import { eventually, shopId, webId } from './hops.ts'
import { authority, wayTo } from './way.ts'

const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
const proof = `By=${webId};URI=${shopId}`
const smuggled = 'GET /smuggled HTTP/1.1\r\nHost: web\r\n\r\n'

interface Seen {
  readonly method: string
  readonly url: string
  readonly names: readonly string[]
  readonly values: readonly string[]
  body: string
  trailers: readonly string[]
}

function serving(
  seen: Seen[],
): (
  request: http.IncomingMessage | http2.Http2ServerRequest,
  response: { end(text: string): unknown },
) => void {
  return (request, response) => {
    const { rawHeaders, method = '', url = '' } = request
    const own: Seen = {
      method,
      url,
      names: rawHeaders.filter((_text, i) => i % 2 === 0),
      values: rawHeaders.filter((_text, i) => i % 2 === 1),
      body: '',
      trailers: [],
    }
    seen.push(own)
    request.on('error', () => undefined)
    request.setEncoding('latin1')
    request.on('data', (chunk: string) => (own.body += chunk))
    request.on('end', () => {
      own.trailers = request.rawTrailers
      response.end('ok')
    })
  }
}

async function link(t: TestContext, port: number): Promise<net.Socket> {
  const { chain, key } = authority.leaf(shopId)
  const socket = tls.connect({
    port,
    host: '127.0.0.1',
    ca: authority.roots,
    cert: chain,
    key,
    servername: serverName('web', 'default', 8080),
    ALPNProtocols: [linkHttp2],
    checkServerIdentity: () => undefined,
  })
  t.after(() => socket.destroy())
  socket.on('error', () => undefined)
  await once(socket, 'secureConnect')
  return socket
}

/** A literal of HPACK whose name is one too; `kind` is one of its three forms. */
function literal(kind: number, name: string, value: string): Buffer {
  const text = (bytes: Buffer): Buffer =>
    Buffer.concat([
      bytes.length < 127 ? Buffer.from([bytes.length]) : Buffer.from([127, ...integer(bytes.length - 127)]),
      bytes,
    ])
  return Buffer.concat([
    Buffer.from([kind]),
    text(Buffer.from(name, 'latin1')),
    text(Buffer.from(value, 'latin1')),
  ])
}

function integer(rest: number): number[] {
  return rest < 128 ? [rest] : [128 | (rest & 127), ...integer(rest >> 7)]
}

const nasty = ['\r\n', '\n', '\r', '\0', ' ', '\t', ':', `\r\n\r\n${smuggled}`, '\x7f', '\xff', ',']
const kinds = fc.constantFrom(0x00, 0x10, 0x40)
const dirty = (texts: readonly string[]): fc.Arbitrary<string> =>
  fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(...texts) },
    {
      weight: 1,
      arbitrary: fc
        .tuple(fc.constantFrom(...texts), fc.constantFrom(...nasty), fc.nat(8))
        .map(([text, dirt, at]) => text.slice(0, at) + dirt + text.slice(at)),
    },
  )

const names = dirty([
  'transfer-encoding',
  'content-length',
  'connection',
  'upgrade',
  'keep-alive',
  'proxy-connection',
  'te',
  'host',
  'expect',
  'cookie',
  'trailer',
  'http2-settings',
  'x-forwarded-client-cert',
  'x_forwarded_client_cert',
  'x-forwarded_client-cert',
  'X-Forwarded-Client-Cert',
  'x-meshctl-caller',
  'x_meshctl_caller',
  'x-meshctl-protocol',
  'x-request_id',
  'x-plain',
  'x-plain',
  'x-other',
  'accept',
  '',
])
const values = dirty([
  'chunked',
  'identity',
  '0',
  '4',
  '5',
  '4, 4',
  '+4',
  'admin',
  'close',
  'trailers',
  'web',
  'a=1',
  '',
])
const field = fc.tuple(kinds, names, values)
const request = fc.record({
  method: dirty(['GET', 'POST', 'HEAD', 'get', 'CONNECT']),
  path: dirty(['/', '/a?b', '*', 'http://web/', '//web', '/../', '/%0d%0a', '/a#b', '/a\\b', '']),
  authority: dirty(['web', 'web.default.mesh', 'a@web', 'web:80', 'web, b', '']),
  isOften: fc.constantFrom(true, true, true, false),
  fields: fc.array(field, { maxLength: 4 }),
  body: fc.option(fc.constantFrom('', 'abcd', smuggled, `0\r\n\r\n${smuggled}`), { nil: null }),
  trailers: fc.option(fc.array(field, { maxLength: 2 }), { nil: null }),
})

function frames(id: number, one: typeof request extends fc.Arbitrary<infer T> ? T : never): Buffer {
  // Most are good up to their fields, so that those are met.
  const {
    method,
    path,
    authority: host,
  } = one.isOften ? { method: 'POST', path: '/', authority: 'web' } : one
  const head = Buffer.concat([
    literal(0, ':method', method),
    literal(0, ':scheme', 'http'),
    literal(0, ':path', path),
    literal(0x10, ':authority', host),
    ...one.fields.map(([kind, name, value]) => literal(kind, name, value)),
  ])
  const isBare = one.body === null && one.trailers === null
  const parts = [frame(Type.headers, Flag.endHeaders | (isBare ? Flag.endStream : 0), id, head)]
  if (one.body !== null)
    parts.push(
      frame(Type.data, one.trailers === null ? Flag.endStream : 0, id, Buffer.from(one.body, 'latin1')),
    )
  if (one.trailers !== null) {
    const block = Buffer.concat(one.trailers.map(([kind, name, value]) => literal(kind, name, value)))
    parts.push(frame(Type.headers, Flag.endHeaders | Flag.endStream, id, block))
  }
  return Buffer.concat(parts)
}

const dashed = (name: string): string => name.toLowerCase().replaceAll('_', '-')

for (const version of [1, 2] as const) {
  test(`whatever a peer sends is one request of its own to an application of HTTP/${version}, seed ${seed}`, async (t) => {
    const seen: Seen[] = []
    const handler = serving(seen)
    const app = version === 1 ? http.createServer(handler) : http2.createServer(handler)
    const way = await wayTo(t, app, { protocol: version === 1 ? 'http' : 'http2' })
    let socket: net.Socket | null = null
    let id = 1
    let turn = 0
    let passed = 0
    await fc.assert(
      fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 30 }), async (many) => {
        // After a fault of the connection, or many of its streams, another one.
        if (socket === null || socket.destroyed || !socket.writable || id > 200) {
          socket?.destroy()
          socket = await link(t, way.instance.linkPort)
          socket.resume()
          socket.write(Buffer.concat([preface, frame(Type.settings, 0, 0)]))
          id = 1
        }
        seen.length = 0
        const canary = `/canary-${++turn}`
        for (const one of many) {
          socket.write(frames(id, one))
          id += 2
        }
        const other = await link(t, way.instance.linkPort).then(
          (peer) => peer,
          () => null,
        )
        if (other === null) return
        other.resume()
        const bare = {
          method: 'GET',
          path: canary,
          authority: 'web',
          isOften: false,
          fields: [],
          body: null,
          trailers: null,
        }
        other.write(Buffer.concat([preface, frame(Type.settings, 0, 0), frames(1, bare)]))
        await eventually(() => seen.some(({ url }) => url === canary), 'the canary')
        other.destroy()
        const note = JSON.stringify([many, seen])
        const own = seen.filter(({ url }) => url !== canary)
        assert.ok(own.length <= many.length, note)
        passed += own.length
        for (const { url, names: told, values: said, body, trailers } of seen) {
          assert.ok(!url.includes('smuggled'), note)
          const lower = told.map(dashed)
          assert.deepEqual(
            said.filter((_value, i) => lower[i] === 'x-forwarded-client-cert'),
            [proof],
            note,
          )
          assert.ok(!lower.some((name) => name.startsWith('x-meshctl')), note)
          assert.ok(!told.some((name) => /^x_forwarded|^x-forwarded_|^x-request_/.test(name)), note)
          assert.ok(lower.filter((name) => name === 'host' || name === ':authority').length === 1, note)
          assert.ok(lower.filter((name) => name === 'content-length').length <= 1, note)
          assert.ok(!(lower.includes('content-length') && lower.includes('transfer-encoding')), note)
          assert.ok(!lower.some((name) => name === 'http2-settings' || name === 'upgrade'), note)
          if (url !== canary)
            assert.ok(
              many.some((one) => one.body === body || body === ''),
              note,
            )
          for (let i = 0; i < trailers.length; i += 2) {
            assert.doesNotMatch(
              dashed(trailers[i]!),
              /^(x-meshctl.*|x-forwarded-client-cert|content-length|transfer-encoding|host|connection)$/,
              note,
            )
          }
        }
      }),
      { seed, interruptAfterTimeLimit: Number(process.env['FUZZ_MS'] ?? 1500), numRuns: 100_000 },
    )
    assert.ok(passed > 0)
    t.diagnostic(`${turn} requests, ${passed} of them passed`)
  })
}
