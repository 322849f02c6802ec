// TLS that is passed through by its server name: real clients and servers, whose handshake nobody else takes part in.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import tls from 'node:tls'
import type { Protocol } from '../../src/snapshot/types.ts'
import { ServerNames } from '../../src/proxy/route/sni.ts'
import { Split } from '../../src/proxy/route/pick.ts'
import { Authority, Caller, Client, eventually, Instance, listen, shopId } from './hops.ts'
import { cut, nodeHello } from '../wire/hellos.ts'

const authority = new Authority()
/** Of the applications; the mesh knows nothing of it. */
const foreign = new Authority('elsewhere.example')
const appId = (version: string): string => `spiffe://elsewhere.example/ns/default/sa/${version}`

/** Says which version it is and what it heard, once its client has ended. */
function app(version: string): tls.Server {
  const leaf = foreign.leaf(appId(version))
  return tls.createServer({ key: leaf.key, cert: leaf.chain, allowHalfOpen: true }, (socket) => {
    const chunks: Buffer[] = []
    socket.on('error', () => {})
    socket.on('data', (chunk: Buffer) => chunks.push(chunk))
    socket.on('end', () => socket.end(`${version}:${Buffer.concat(chunks).toString()}`))
  })
}

/** Calls like an application and checks that the certificate is the application's own. */
async function call(port: number, servername: string, text: string): Promise<string> {
  const socket = tls.connect({
    port,
    host: '127.0.0.1',
    servername,
    ca: foreign.roots,
    checkServerIdentity: () => undefined,
  })
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  await once(socket, 'secureConnect')
  const { subjectaltname = '' } = socket.getPeerCertificate()
  // Half-closed: the answer comes after our end.
  socket.end(text)
  await once(socket, 'close')
  const said = Buffer.concat(chunks).toString()
  assert.equal(subjectaltname, `URI:${appId(said.split(':')[0] ?? '')}`)
  return said
}

const routes = [
  { sniHosts: ['one.example.com'], subset: 0 },
  { sniHosts: ['*.example.com', 'other.test'], subset: 1 },
]

async function hosts(
  t: TestContext,
  protocol: Protocol,
  tlsRoutes: typeof routes,
): Promise<{ caller: Caller; instances: Instance[] }> {
  const instances = await Promise.all(
    ['v1', 'v2'].map(async (version) =>
      new Instance(t, await listen(t, app(version)), { protocol, version }).start(authority),
    ),
  )
  const caller = await new Caller(t).start(authority, {
    protocol,
    tlsRoutes,
    subsets: instances.map((instance, at) => ({
      name: `v${at + 1}`,
      weight: 1 - at,
      endpoints: [instance.endpoint()],
    })),
  })
  return { caller, instances }
}

test('a tls port is split by server name, untouched, with half-close', async (t) => {
  const { caller, instances } = await hosts(t, 'tls', routes)
  assert.equal(await call(caller.port, 'one.example.com', 'hello'), 'v1:hello')
  assert.equal(await call(caller.port, 'ONE.example.com', 'x'.repeat(300_000)), `v1:${'x'.repeat(300_000)}`)
  assert.equal(await call(caller.port, 'two.example.com', 'a'), 'v2:a')
  assert.equal(await call(caller.port, 'deep.below.example.com', 'b'), 'v2:b')
  assert.equal(await call(caller.port, 'other.test', 'c'), 'v2:c')
  await eventually(() => instances[1]?.lines.length === 3, 'the lines')
  assert.deepEqual(
    instances[1]?.lines.map((line) => [line.protocol, line.source, line.mtls]),
    Array.from({ length: 3 }, () => ['TCP', shopId, true]),
  )
})

test('what no rule names is reset before anything is dialled, and logged', async (t) => {
  const { caller, instances } = await hosts(t, 'tls', routes)
  for (const servername of ['example.com', '', 'none.test']) {
    await assert.rejects(call(caller.port, servername, ''), servername)
  }
  await new Client(t, caller.port).send('SSH-2.0-x\r\n').untilClosed()
  const silent = new Client(t, caller.port)
  silent.socket.end()
  await silent.untilClosed()
  await eventually(() => caller.lines.length === 5, 'the lines')
  assert.deepEqual(
    caller.lines.map(({ flags, reason, detail }) => [flags, reason, detail]),
    ['example.com', 'no server name', 'none.test', 'no TLS', 'no TLS'].map((detail) => [
      'NR',
      'no_route',
      detail,
    ]),
  )
  assert.deepEqual(
    instances.map((instance) => instance.lines.length),
    [0, 0],
  )
})

test('a star takes what names no server, and what is no TLS', async (t) => {
  const { caller, instances } = await hosts(t, 'tls', [...routes, { sniHosts: ['*'], subset: 0 }])
  assert.equal(await call(caller.port, 'none.test', 'a'), 'v1:a')
  assert.equal(await call(caller.port, '', 'b'), 'v1:b')
  const plain = new Client(t, caller.port).send('SSH-2.0-x\r\n')
  plain.socket.end()
  await eventually(() => instances[0]!.lines.some((line) => line.bytes_in === 11), 'the line')
})

test('a tls port without rules is opaque: nothing is waited for', async (t) => {
  const { caller, instances } = await hosts(t, 'tls', [])
  assert.equal(instances.length, 2)
  caller.apply({
    protocol: 'tls',
    subsets: [{ name: '', weight: 1, endpoints: [instances[1]!.endpoint()] }],
  })
  assert.equal(await call(caller.port, 'any.thing', 'a'), 'v2:a')
})

test('a sniffed port splits TLS by name and leaves the rest its way', async (t) => {
  const { caller } = await hosts(t, 'auto', [{ sniHosts: ['two.example.com'], subset: 1 }])
  // Twice: the first opens a connection in advance, the second knows that clients speak first here.
  for (let i = 0; i < 2; i++) {
    assert.equal(await call(caller.port, 'two.example.com', 'a'), 'v2:a')
    assert.equal(await call(caller.port, 'other.test', 'b'), 'v1:b')
  }
})

test('a hello in many pieces and records is waited for; one that never ends is not', async (t) => {
  const { caller } = await hosts(t, 'tls', [{ sniHosts: ['two.example.com'], subset: 1 }])
  const hello = await nodeHello({ servername: 'two.example.com' })
  const pieces = cut(hello, Math.ceil(hello.length / 40))
  const client = new Client(t, caller.port)
  for (let at = 0; at < pieces.length; at += 64) {
    client.send(pieces.subarray(at, at + 64))
    await new Promise((resolve) => setImmediate(resolve))
  }
  // ServerHello: the application took it.
  await client.until(({ received }) => received[0] === 22 && received[5] === 2, 'an answer')
  caller.apply({
    protocol: 'tls',
    tlsRoutes: [{ sniHosts: ['two.example.com'], subset: 0 }],
    subsets: [{ name: 'v1', weight: 1, endpoints: [] }],
    settings: { headTimeout: 100 },
  })
  await new Client(t, caller.port).send(hello.subarray(0, 50)).untilClosed()
  await eventually(() => caller.lines.some(({ detail }) => detail === 'no hello in time'), 'the line')
})

test('names: the first rule wins, whatever is written more narrowly', () => {
  const split = (): Split => new Split([])
  const [a, b, c] = [split(), split(), split()]
  const names = new ServerNames([
    { hosts: ['*.x.test'], split: a },
    { hosts: ['one.x.test', 'two.test'], split: b },
    { hosts: ['*.test'], split: c },
  ])
  assert.equal(names.pick('one.x.test'), a)
  assert.equal(names.pick('two.test'), b)
  assert.equal(names.pick('x.test'), c)
  assert.equal(names.pick('test'), null)
  assert.equal(names.pick(''), null)
  assert.equal(names.pick('.test'), c)
})
