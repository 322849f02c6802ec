// The signer's client against real, wrong and dead servers.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:https'
import type { Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { createServer as createTcpServer } from 'node:net'
import { after, before, test } from 'node:test'
import { connectSigner } from '../../src/api/client.ts'
import type { SignerOptions } from '../../src/api/client.ts'
import { MeshError } from '../../src/errors.ts'
import { grantFor, Plane, refusedWith, requestsFor } from '../control/plane.ts'
import { Authority } from '../pki/authority.ts'

const plane = new Plane()
const closing: (() => unknown)[] = []
before(() => plane.start())
after(async () => {
  for (const close of closing) close()
  await plane.remove()
})

const connect = (urls: string[], changes: Partial<SignerOptions> = {}) => {
  const { chain, key } = plane.authority.operator('ann')
  return connectSigner({
    urls,
    roots: plane.authority.roots,
    trustDomain: 'demo.mesh',
    cert: chain,
    key,
    ...changes,
  })
}

async function listen(server: Server | ReturnType<typeof createTcpServer>): Promise<string> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  closing.push(() => server.close())
  return `https://127.0.0.1:${(server.address() as AddressInfo).port}`
}

async function deadUrl(): Promise<string> {
  const server = createTcpServer()
  const url = await listen(server)
  server.close()
  await once(server, 'close')
  return url
}

/** An HTTPS server with a certificate of any identity. */
const impostor = (
  leaf: { chain: string; key: string },
  answer: (server: Server) => void = () => undefined,
) => {
  const server = createServer({ cert: leaf.chain, key: leaf.key }, (_request, response) => {
    response.end('{}')
  })
  answer(server)
  return listen(server)
}

test('addresses are tried in turn until one answers', async () => {
  const signer = connect([await deadUrl(), plane.url])
  assert.equal((await signer.status()).mesh, 'demo')
  const { grant } = await signer.grant(grantFor('vm1', []))
  assert.equal(grant.length, 43)
})

test('when none answers the error names each and says what to check', async () => {
  const urls = [await deadUrl(), await deadUrl()]
  await assert.rejects(connect(urls).status(), (error) => {
    assert.ok(error instanceof MeshError && error.code === 'MSH0401')
    assert.equal(error.details.length, 2)
    assert.match(error.hint ?? '', /systemctl status meshctl-control/)
    return error.exit === 69
  })
})

test('a server that accepts and says nothing is given up after the timeout', async () => {
  const sockets: { destroy(): void }[] = []
  const mute = createTcpServer((socket) => sockets.push(socket))
  closing.push(() => sockets.forEach((socket) => socket.destroy()))
  const url = await listen(mute)
  await assert.rejects(connect([url], { timeoutMs: 100 }).status(), /no answer within 100 ms/)
  assert.equal((await connect([url, plane.url], { timeoutMs: 1000 }).status()).mesh, 'demo')
})

test('only the identity of control is believed, whatever the host name says', async () => {
  const { authority } = plane
  const host = authority.leaf('spiffe://demo.mesh/host/vm1', { names: ['127.0.0.1', 'localhost'] })
  const service = authority.leaf('spiffe://demo.mesh/ns/default/sa/control', { names: ['127.0.0.1'] })
  const foreign = new Authority().leaf('spiffe://demo.mesh/control', { names: ['127.0.0.1'] })
  const expired = authority.leaf('spiffe://demo.mesh/control', {
    now: Date.now() - 7_200_000,
    lifeSeconds: 600,
  })
  for (const leaf of [host, service, foreign, expired]) {
    let asked = 0
    const url = await impostor(leaf, (server) => server.on('request', () => asked++))
    await assert.rejects(connect([url]).status(), refusedWith('MSH0403'))
    // Not a byte of a request, least of all a grant, reaches it.
    await assert.rejects(
      connect([url]).join('A'.repeat(43), { host: 'vm1', csrs: [] }),
      refusedWith('MSH0403'),
    )
    assert.equal(asked, 0)
  }
  // The true one is found behind it.
  assert.equal((await connect([await impostor(host), plane.url]).status()).mesh, 'demo')
})

test('a control without any DNS name or address in its certificate is believed by its identity', async () => {
  const leaf = plane.authority.leaf('spiffe://demo.mesh/control')
  const url = await impostor(leaf)
  assert.deepEqual(await connect([url]).status(), {})
})

test('a join whose reply was lost is not sent to a second address', async () => {
  let asked = 0
  const cut = await impostor(plane.authority.leaf('spiffe://demo.mesh/control'), (server) => {
    server.removeAllListeners('request')
    server.on('request', (request) => {
      asked++
      request.socket.destroy()
    })
  })
  const { grant } = await plane.operator().grant(grantFor('vm2', []))
  const body = { host: 'vm2', csrs: requestsFor('vm2', []).csrs }
  await assert.rejects(connect([cut, plane.url]).join(grant, body), /the reply of control was lost/)
  assert.equal(asked, 1)
  assert.equal(
    (await plane.operator().hosts()).some(({ host }) => host === 'vm2'),
    false,
  )
  // Reading is safe to repeat.
  assert.equal((await connect([cut, plane.url]).status()).mesh, 'demo')
})

test('faults keep their code, message and hint; odd replies get one', async () => {
  await assert.rejects(plane.client().status(), (error) => {
    assert.ok(error instanceof MeshError && error.code === 'MSH0403')
    assert.match(error.hint ?? '', /meshctl join/)
    return true
  })
  const replies: [number, string, string][] = [
    [500, 'oops', 'MSH0414'],
    [503, '{"code":"MSH9999","message":"newer"}', 'MSH0414'],
    [418, '{"code":"MSH9999","message":"newer"}', 'MSH0412'],
    [403, '{}', 'MSH0405'],
    [429, 'null', 'MSH0413'],
    [200, 'not json', 'MSH0414'],
  ]
  for (const [status, text, code] of replies) {
    const url = await impostor(plane.authority.leaf('spiffe://demo.mesh/control'), (server) => {
      server.removeAllListeners('request')
      server.on('request', (_request, response) => response.writeHead(status).end(text))
    })
    await assert.rejects(connect([url]).status(), refusedWith(code), text)
  }
})

test('an endless reply is cut', async () => {
  const url = await impostor(plane.authority.leaf('spiffe://demo.mesh/control'), (server) => {
    server.removeAllListeners('request')
    server.on('request', (_request, response) => {
      response.on('error', () => undefined)
      const more = (): void => {
        if (response.destroyed) return
        if (response.write('x'.repeat(1 << 16))) setImmediate(more)
        else response.once('drain', more)
      }
      more()
    })
  })
  await assert.rejects(connect([url]).status(), refusedWith('MSH0401'))
})

test('addresses must be https', () => {
  assert.throws(() => connect(['http://127.0.0.1:1']), refusedWith('MSH0412'))
  assert.throws(() => connect([]), refusedWith('MSH0401'))
})
