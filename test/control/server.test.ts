// The signer's server under hostile and unlucky clients, and over its own life.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { statSync } from 'node:fs'
import { request } from 'node:https'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import tls from 'node:tls'
import { connectRegistry } from '../../src/registry/client.ts'
import { peerSpiffe } from '../../src/pki/spiffe.ts'
import { grantFor, joinHost, managementToken, Plane, refusedWith, requestsFor } from './plane.ts'

interface Raw {
  method?: string
  path?: string
  headers?: Record<string, string>
  body?: string
}

/** A request as nobody's client would send it. */
function raw(plane: Plane, wanted: Raw): Promise<{ status: number; code: string }> {
  const leaf = plane.authority.operator('ann')
  return new Promise((resolve, reject) => {
    const outgoing = request(
      {
        port: plane.port,
        host: '127.0.0.1',
        agent: false,
        ca: plane.authority.roots,
        cert: leaf.chain,
        key: leaf.key,
        checkServerIdentity: () => undefined,
        method: wanted.method ?? 'GET',
        path: wanted.path ?? '/v1/status',
        headers: wanted.headers ?? {},
      },
      (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('end', () => {
          const body = JSON.parse(Buffer.concat(chunks).toString()) as { code?: string }
          resolve({ status: response.statusCode ?? 0, code: body.code ?? '' })
        })
      },
    )
    outgoing.on('error', reject)
    outgoing.end(wanted.body)
  })
}

const plane = new Plane()
before(() => plane.start())
after(() => plane.remove())

test('a foreign Host header changes nothing', async () => {
  assert.equal((await raw(plane, { headers: { host: 'evil.example.com' } })).status, 200)
  assert.equal(
    (await raw(plane, { headers: { host: '169.254.169.254', 'x-forwarded-for': '1.2.3.4' } })).status,
    200,
  )
})

test('odd paths, methods and bodies get an answer with a code', async () => {
  const odd: Raw[] = [
    { path: '/' },
    { path: '/v1/hosts/%2e%2e%2f' },
    { path: '/v1/hosts/%zz', method: 'DELETE' },
    { path: '/v1/hosts/a/b/c' },
    { path: '//v1/status' },
    { method: 'PUT', path: '/v1/grants' },
    { method: 'POST', path: '/v1/grants', body: 'not json' },
    { method: 'POST', path: '/v1/grants', body: '[]' },
    { method: 'POST', path: '/v1/grants', body: 'null' },
    { method: 'POST', path: '/v1/grants', body: '{"__proto__": 1}' },
    { method: 'POST', path: '/v1/grants' },
  ]
  for (const wanted of odd) {
    assert.deepEqual(await raw(plane, wanted), { status: 400, code: 'MSH0412' }, JSON.stringify(wanted))
  }
})

test('a body that is too large is refused without being read to its end', async () => {
  const body = JSON.stringify({ csrs: ['x'.repeat(400_000)] })
  const reply = raw(plane, { method: 'POST', path: '/v1/grants', body })
  // The answer, or the connection cut while we were still sending.
  const ended = await reply.catch((error: NodeJS.ErrnoException) => ({ status: 0, code: error.code ?? '' }))
  assert.ok(['MSH0412', 'EPIPE', 'ECONNRESET'].includes(ended.code), ended.code)
  assert.equal((await raw(plane, {})).status, 200)
})

test('TLS below 1.3 is not spoken', async () => {
  const socket = tls.connect({
    port: plane.port,
    host: '127.0.0.1',
    rejectUnauthorized: false,
    maxVersion: 'TLSv1.2',
  })
  await assert.rejects(once(socket, 'secureConnect'))
  socket.destroy()
})

test('its certificate proves control and holds the names for people; the registry shows the same', async () => {
  const seen: (string | undefined)[] = []
  for (const port of [plane.port, plane.registryPort]) {
    const socket = tls.connect({
      port,
      host: '127.0.0.1',
      ca: plane.authority.roots,
      servername: 'control.example.com',
    })
    await once(socket, 'secureConnect')
    assert.equal(peerSpiffe(socket.getPeerCertificate(true)).id, 'spiffe://demo.mesh/control')
    seen.push(socket.getPeerX509Certificate()?.fingerprint256)
    socket.destroy()
  }
  assert.equal(seen[0], seen[1])
})

test('failed joins of one address are slowed down, good ones are not', async () => {
  const busy = new Plane()
  await busy.start()
  try {
    const body = { host: 'vm1', csrs: requestsFor('vm1', []).csrs }
    const codes = new Set<string>()
    for (let n = 0; n < 25; n++) {
      await busy
        .client()
        .join('A'.repeat(43), body)
        .catch((error: { code: string }) => codes.add(error.code))
    }
    assert.deepEqual([...codes], ['MSH0406', 'MSH0413'])
    const { grant } = await busy.operator().grant(grantFor('vm1', []))
    await assert.rejects(busy.client().join(grant, body), refusedWith('MSH0413'))
    busy.clock.advance(10_000)
    assert.equal((await busy.client().join(grant, body)).chains.length, 1)
  } finally {
    await busy.remove()
  }
})

test('a caller that never stops asking is told to wait', async () => {
  const busy = new Plane()
  await busy.start()
  try {
    const results = await Promise.allSettled(Array.from({ length: 70 }, () => busy.operator().status()))
    const refused = results.flatMap((result) =>
      result.status === 'rejected' ? [result.reason as unknown] : [],
    )
    assert.equal(refused.length, 10)
    for (const error of refused) assert.ok(refusedWith('MSH0413')(error))
  } finally {
    await busy.remove()
  }
})

test('one address cannot take all connections', async () => {
  const sockets: Socket[] = []
  try {
    let refused = 0
    for (let n = 0; n < 140; n++) {
      const socket = connect({ port: plane.port, host: '127.0.0.1', localAddress: '127.0.0.2' })
      socket.on('error', () => undefined)
      sockets.push(socket)
      await once(socket, 'connect')
    }
    // The server hangs up on what is above its bound; the others wait for their handshake.
    while (refused < 12) {
      await new Promise((resolve) => setImmediate(resolve))
      refused = sockets.filter((socket) => socket.destroyed || socket.readableEnded).length
      for (const socket of sockets) socket.resume()
    }
    assert.equal(refused, 12)
    assert.equal((await raw(plane, {})).status, 200)
  } finally {
    for (const socket of sockets) socket.destroy()
  }
})

test('a restart loses nothing: open grants, used grants, hosts, tokens', async () => {
  const { leaf, reply } = await joinHost(plane, 'vm1', ['web'])
  const open = await plane.operator().grant(grantFor('vm2', []))
  const used = await plane.operator().grant(grantFor('vm3', []))
  await plane.client().join(used.grant, { host: 'vm3', csrs: requestsFor('vm3', []).csrs })
  await plane.operator().revoke('vm3')
  await plane.stop()
  await plane.start()
  assert.equal((await plane.client(leaf).sign({ csrs: requestsFor('vm1', ['web']).csrs })).chains.length, 2)
  assert.equal(
    (await plane.client().join(open.grant, { host: 'vm2', csrs: requestsFor('vm2', []).csrs })).chains.length,
    1,
  )
  const again = plane.client().join(used.grant, { host: 'vm3', csrs: requestsFor('vm3', []).csrs })
  await assert.rejects(again, refusedWith('MSH0406'))
  assert.equal((await plane.operator().hosts()).find(({ host }) => host === 'vm3')?.revoked, true)
  const registry = tokenClient(plane, reply.registryToken)
  await registry.put('meshctl/demo/leases/vm1', 'x')
  registry.close()
  assert.equal(statSync(join(plane.dir, 'state/control.db')).mode & 0o777, 0o600)
})

test("a host's token writes its own lease only, and ends with the host", async () => {
  const { reply } = await joinHost(plane, 'vm5', [])
  const registry = tokenClient(plane, reply.registryToken)
  try {
    await registry.put('meshctl/demo/leases/vm5', 'x')
    await assert.rejects(registry.put('meshctl/demo/leases/vm6', 'x'), refusedWith('MSH0302'))
    await plane.operator().revoke('vm5')
    await assert.rejects(registry.put('meshctl/demo/leases/vm5', 'x'), refusedWith('MSH0302'))
  } finally {
    registry.close()
  }
})

test('its own certificate is renewed at half of its life, for new connections', async () => {
  const short = new Plane({ leafSeconds: 60 })
  await short.start()
  const serial = async (port: number): Promise<string | undefined> => {
    const socket = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false })
    await once(socket, 'secureConnect')
    const { serialNumber } = socket.getPeerX509Certificate() ?? {}
    socket.destroy()
    return serialNumber
  }
  try {
    const first = await serial(short.port)
    short.clock.advance(29_000)
    assert.equal(await serial(short.port), first)
    short.clock.advance(1000)
    const second = await serial(short.port)
    assert.notEqual(second, first)
    assert.equal(await serial(short.registryPort), second)
  } finally {
    await short.remove()
  }
})

function tokenClient({ registryPort, authority }: Plane, token: string | null) {
  assert.notEqual(token, managementToken)
  return connectRegistry({
    url: `https://127.0.0.1:${registryPort}`,
    token,
    ca: authority.roots,
    spiffe: 'spiffe://demo.mesh/control',
    localAgent: null,
  })
}
