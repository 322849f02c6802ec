// A client that speaks HBONE as Istio's ztunnel does: mTLS without a server name, ALPN h2, CONNECT with :authority alone, and
// its fields of baggage, tracing and forwarding (istio/ztunnel, src/proxy/outbound.rs and src/tls/workload.rs).
import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import http2 from 'node:http2'
import net from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import tls from 'node:tls'
import { serverName } from '../../src/snapshot/types.ts'
import type { Snapshot } from '../../src/snapshot/types.ts'
import { Authority, Instance, eventually, listen, shopId, trustDomain, webId } from './hops.ts'
import type { InstanceOptions } from './hops.ts'

const authority = new Authority()
const hostId = `spiffe://${trustDomain}/host/vm1`
const dbId = `spiffe://${trustDomain}/ns/default/sa/db`

interface Ztunnel {
  readonly session: http2.ClientHttp2Session
  /** The SPIFFE id that the link showed. */
  readonly shown: string
}

async function ztunnel(
  t: TestContext,
  instance: Instance,
  options: tls.ConnectionOptions = {},
  spiffe: string = shopId,
): Promise<Ztunnel> {
  const { chain, key } = authority.leaf(spiffe)
  const socket = tls.connect({
    port: instance.linkPort,
    host: '127.0.0.1',
    ca: authority.roots,
    cert: chain,
    key,
    minVersion: 'TLSv1.3',
    // As rustls has them.
    ecdhCurve: 'X25519:P-256:P-384',
    ALPNProtocols: ['h2'],
    checkServerIdentity: () => undefined,
    ...options,
  })
  t.after(() => socket.destroy())
  socket.on('error', () => undefined)
  await once(socket, 'secureConnect')
  assert.equal(socket.alpnProtocol, 'h2')
  const { raw } = socket.getPeerCertificate()
  const shown = /URI:(\S+)/.exec(new X509Certificate(raw).subjectAltName ?? '')?.[1] ?? ''
  const session = http2.connect('https://0.0.0.0', { createConnection: () => socket })
  session.on('error', () => undefined)
  return { session, shown }
}

interface Tunnel {
  readonly stream: http2.ClientHttp2Stream
  readonly status: number
  readonly headers: http2.IncomingHttpHeaders
}

async function connect(session: http2.ClientHttp2Session, to: string): Promise<Tunnel> {
  const stream = session.request({
    ':method': 'CONNECT',
    ':authority': to,
    baggage: 'k8s.cluster.name=c1,k8s.namespace.name=default,k8s.deployment.name=shop,service.name=shop',
    forwarded: 'for=10.0.0.9',
    traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
  })
  stream.on('error', () => undefined)
  const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders]
  return { stream, status: Number(headers[':status']), headers }
}

async function textOf(stream: http2.ClientHttp2Stream): Promise<string> {
  const chunks: Buffer[] = []
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  await once(stream, 'close')
  return Buffer.concat(chunks).toString('latin1')
}

/** Answers only after its caller's end. */
const echoOnEnd = (): net.Server =>
  net.createServer({ allowHalfOpen: true }, (socket) => {
    const chunks: Buffer[] = []
    socket.on('data', (chunk: Buffer) => chunks.push(chunk))
    socket.on('end', () => socket.end(Buffer.concat(chunks)))
  })

async function start(t: TestContext, app: net.Server, options: InstanceOptions): Promise<Instance> {
  return new Instance(t, await listen(t, app), options).start(authority)
}

for (const protocol of ['tcp', 'tls', 'auto'] as const) {
  test(`a port declared ${protocol}: bytes both ways, half-close kept, the caller known`, async (t) => {
    const instance = await start(t, echoOnEnd(), { protocol })
    const { session, shown } = await ztunnel(t, instance)
    assert.equal(shown, webId)
    const { stream, status } = await connect(session, `10.1.2.3:${instance.appPort}`)
    assert.equal(status, 200)
    const bulk = 'abcdef'.repeat(100_000)
    stream.end(bulk)
    assert.equal(await textOf(stream), bulk)
    await eventually(() => instance.lines.length === 1, 'the line')
    const [line] = instance.lines
    assert.deepEqual(
      [line?.protocol, line?.source, line?.mtls, line?.flags, line?.bytes_in, line?.bytes_out],
      ['TCP', shopId, true, '-', bulk.length, bulk.length],
    )
  })
}

test('a server that speaks first is heard at once, whatever names the port', async (t) => {
  const greeter = net.createServer((socket) => socket.write('220 hello\r\n'))
  const instance = await start(t, greeter, { protocol: 'tcp' })
  const { session } = await ztunnel(t, instance)
  for (const host of ['10.1.2.3', '[fd00::3]', 'web.default.mesh']) {
    const { stream } = await connect(session, `${host}:${instance.appPort}`)
    const [greeting] = (await once(stream, 'data')) as [Buffer]
    assert.equal(greeting.toString(), '220 hello\r\n')
    stream.close(http2.constants.NGHTTP2_CANCEL)
  }
})

test('every group of keys that ztunnels begin with is taken at once, with and without a server name', async (t) => {
  const instance = await start(t, echoOnEnd(), { protocol: 'tcp' })
  for (const ecdhCurve of ['X25519:P-256:P-384', 'P-256:P-384', 'X25519MLKEM768', 'X25519MLKEM768:X25519']) {
    for (const servername of ['', serverName('web', 'default', 8080)]) {
      const { session } = await ztunnel(t, instance, { ecdhCurve, servername })
      const { status } = await connect(session, `10.1.2.3:${instance.appPort}`)
      assert.equal(status, 200, `${ecdhCurve} ${servername}`)
    }
  }
})

test('200 comes after the application has accepted; where it does not, 503 with the reason', async (t) => {
  const gone = net.createServer()
  const instance = await start(t, gone, { protocol: 'tcp' })
  await new Promise((resolve) => gone.close(resolve))
  const { session } = await ztunnel(t, instance)
  const { stream, status, headers } = await connect(session, `10.1.2.3:${instance.appPort}`)
  assert.equal(status, 503)
  assert.equal(headers['x-meshctl-reason'], 'upstream_connect_failure')
  assert.match(await textOf(stream), /could not be reached: ECONNREFUSED/)
  await eventually(() => instance.lines.length === 1, 'the line')
  assert.equal(instance.lines[0]?.flags, 'UF')
})

test('ports that are no service’s, or another service’s than the link is for, are refused', async (t) => {
  const instance = await start(t, echoOnEnd(), { protocol: 'tcp' })
  const nameless = await ztunnel(t, instance)
  assert.equal((await connect(nameless.session, '127.0.0.1:1')).status, 404)
  await eventually(() => instance.lines.length === 1, 'the line')
  assert.deepEqual([instance.lines[0]?.flags, instance.lines[0]?.source], ['NR', shopId])
  two(instance)
  const named = await ztunnel(t, instance, {
    servername: serverName('web', 'default', 8080),
  })
  assert.equal(named.shown, webId)
  assert.equal((await connect(named.session, '127.0.0.1:3306')).status, 404)
  assert.equal((await connect(named.session, `127.0.0.1:${instance.appPort}`)).status, 200)
})

test('who has proved nothing gets no tunnel', async (t) => {
  const instance = await start(t, echoOnEnd(), { protocol: 'tcp' })
  const { session } = await ztunnel(t, instance, {}, `spiffe://${trustDomain}/control`)
  const { stream, status } = await connect(session, `10.1.2.3:${instance.appPort}`)
  assert.equal(status, 403)
  assert.match(await textOf(stream), /is no workload/)
})

/** A second service, db, on the same host. */
function two(instance: Instance): void {
  instance.engine.setSecrets(authority.secrets(webId, dbId, hostId))
  const snapshot = instance.snapshot()
  const [web] = snapshot.inbound
  const more: Snapshot = {
    ...snapshot,
    identities: [
      ...snapshot.identities,
      { spiffe: dbId, service: 'db', namespace: 'default', version: 'v1', capturePort: 15102 },
    ],
    inbound: [
      web!,
      { ...web!, service: 'db', identity: 2, port: 3306, serverName: serverName('db', 'default', 3306) },
    ],
  }
  instance.engine.apply(more)
}

test('without a server name the only service’s certificate is shown, else the host’s, and always the newest', async (t) => {
  const instance = await start(t, echoOnEnd(), { protocol: 'tcp' })
  const first = await ztunnel(t, instance)
  assert.equal(first.shown, webId)
  two(instance)
  assert.equal((await ztunnel(t, instance)).shown, hostId)
  // With new roots, callers of the old ones are no longer believed.
  const other = new Authority()
  instance.engine.setSecrets(other.secrets(hostId, webId, dbId))
  const { chain, key } = other.leaf(shopId)
  const moved = await ztunnel(t, instance, { ca: other.roots, cert: chain, key })
  assert.equal(moved.shown, hostId)
  assert.equal((await connect(moved.session, `10.1.2.3:${instance.appPort}`)).status, 200)
  // What stood before stands.
  const { stream, status } = await connect(first.session, `10.1.2.3:${instance.appPort}`)
  assert.equal(status, 200)
  stream.end('hello')
  assert.equal(await textOf(stream), 'hello')
})

test('HTTP inside a tunnel to an HTTP port is HTTP: filters, identity and log of each request', async (t) => {
  const app = http.createServer((request, response) => {
    response.end(
      `${request.url} ${String(request.headers['x-forwarded-client-cert'])} ${request.httpVersion}`,
    )
  })
  const instance = await start(t, app, { protocol: 'http' })
  const { session } = await ztunnel(t, instance)
  const { stream, status } = await connect(session, `10.1.2.3:${instance.appPort}`)
  assert.equal(status, 200)
  const forged = 'x-forwarded-client-cert: forged\r\nX-Meshctl-Protocol: h2\r\n'
  stream.write(`GET /1 HTTP/1.1\r\nHost: web\r\n${forged}\r\n`)
  stream.end(`GET /2 HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n`)
  const text = await textOf(stream)
  const by = `By=${webId};URI=${shopId}`
  assert.match(text, new RegExp(`^HTTP/1.1 200 [^]*/1 ${by} 1.1HTTP/1.1 200 [^]*/2 ${by} 1.1$`))
  await eventually(() => instance.lines.length === 2, 'the lines')
  assert.deepEqual(
    instance.lines.map(({ path, source, mtls }) => [path, source, mtls]),
    [
      ['/1', shopId, true],
      ['/2', shopId, true],
    ],
  )
})

test('HTTP/2 inside a tunnel, from a caller that knows, reaches an application that speaks it', async (t) => {
  const app = http2.createServer((request, response) => response.end(`${request.url} ${request.httpVersion}`))
  const instance = await start(t, app, { protocol: 'http' })
  const { session } = await ztunnel(t, instance)
  const { stream } = await connect(session, `10.1.2.3:${instance.appPort}`)
  const inner = http2.connect('http://web', { createConnection: () => stream })
  t.after(() => inner.destroy())
  inner.on('error', () => undefined)
  const answers = await Promise.all(
    ['/1', '/2', '/3'].map(async (path) => textOf(inner.request({ ':path': path }))),
  )
  assert.deepEqual(answers, ['/1 2.0', '/2 2.0', '/3 2.0'])
  inner.close()
  await once(stream, 'close')
})

test('a request that is no CONNECT, on a link that names no service, is answered in words', async (t) => {
  const instance = await start(t, echoOnEnd(), { protocol: 'http' })
  const { session } = await ztunnel(t, instance)
  const request = session.request({ ':path': '/' })
  const [headers] = (await once(request, 'response')) as [http2.IncomingHttpHeaders]
  assert.deepEqual([headers[':status'], headers['x-meshctl-reason']], [404, 'no_route'])
  request.resume()
})

test('an application that wants PROXY headers is told who calls', async (t) => {
  let got = Buffer.alloc(0)
  const app = net.createServer((socket) =>
    socket.on('data', (chunk: Buffer) => (got = Buffer.concat([got, chunk]))),
  )
  const instance = await start(t, app, { protocol: 'tcp', proxyProtocol: { accept: false, send: true } })
  const { session } = await ztunnel(t, instance)
  const { stream } = await connect(session, `10.1.2.3:${instance.appPort}`)
  stream.write('hello')
  await eventually(() => got.toString('latin1').endsWith('hello'), 'the bytes')
  assert.ok(got.toString('latin1').includes(shopId))
  assert.equal(got.subarray(0, 12).toString('latin1'), '\r\n\r\n\0\r\nQUIT\n')
})
