// Who is believed: renewals under load, foreign and expired certificates both ways, entitlements.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http2 from 'node:http2'
import tls from 'node:tls'
import { hostSpiffe, serviceSpiffe } from '../../src/model/service.ts'
import { ports } from '../../src/paths.ts'
import { claim } from '../../src/registry/vip.ts'
import { linkHttp2, serverName } from '../../src/snapshot/types.ts'
import { until } from '../agent/running.ts'
import { declared } from '../compile/mesh.ts'
import { Authority, type Leaf } from '../pki/authority.ts'
import { meshName, trustDomain } from './control.ts'
import { Mesh, web } from './mesh.ts'
import { recorded } from './recorder.ts'
import type { Vm } from './vm.ts'

const webId = serviceSpiffe(trustDomain, 'default', 'web')
const shopId = serviceSpiffe(trustDomain, 'default', 'shop')
const name = serverName('web', 'default', 8080)

/** One request on a link of one's own, made with any certificate; what came back, and the certificate that was served. */
async function ask(vm: Vm, leaf: Pick<Leaf, 'chain' | 'key'>): Promise<{ text: string; serial: string }> {
  const socket = tls.connect({
    host: vm.address,
    port: ports.link,
    servername: name,
    cert: leaf.chain,
    key: leaf.key,
    ALPNProtocols: [linkHttp2],
    // As a proxy's own dials: with another first group OpenSSL asks again and then loses the ALPN.
    ecdhCurve: 'P-256',
    // The test judges what it is served, not this.
    rejectUnauthorized: false,
  })
  let text = ''
  socket.on('error', () => undefined)
  socket.on('secureConnect', () => {
    const session = http2.connect('http://web.default.mesh:8080', { createConnection: () => socket })
    session.on('error', () => undefined)
    const request = session.request({ ':path': '/' })
    request.setEncoding('utf8')
    request.on('response', (head) => (text += `${head[':status']} `))
    request.on('data', (part: string) => (text += part))
    request.on('error', () => undefined)
    request.on('close', () => session.close())
  })
  const serial = once(socket, 'secureConnect').then(
    () => socket.getPeerCertificate(false).serialNumber,
    () => '',
  )
  await once(socket, 'close').catch(() => undefined)
  return { text, serial: await serial }
}

recorded('certificates of seconds are renewed under load without a failed request', async (recorder) => {
  await using mesh = await Mesh.start(recorder, { leafSeconds: 12 })
  const began = performance.now()
  const [vm1, , vm3] = await mesh.usual()
  const shop = mesh.control.authority.service('shop')
  const load = mesh.load(vm3, { as: 1 })
  const serials = new Set<string>()
  await until(
    'three certificates to be served in turn',
    async () => {
      const { text, serial } = await ask(vm1, shop)
      assert.match(text, /^200 /)
      return serials.add(serial).size >= 3
    },
    60_000,
  )
  // Past the end of every leaf of the beginning.
  await until('the first leafs to be over', () => performance.now() > began + 13_000, 60_000)
  await load.stop()
  assert.deepEqual(load.failed, [])
  assert.deepEqual([...load.versions.keys()].toSorted(), ['v1', 'v2'])
})

recorded(
  'callers whose certificate is foreign, expired or of another trust domain are refused',
  async (recorder) => {
    await using mesh = await Mesh.start(recorder)
    const vm1 = await mesh.host('vm1', [web('v1')])
    const { authority } = mesh.control
    await until('links to be taken', async () => (await ask(vm1, authority.service('shop'))).text !== '')
    assert.match((await ask(vm1, authority.service('shop'))).text, /^200 /)
    const foreign = new Authority(trustDomain)
    const before = vm1.app.requests
    const now = Date.now()
    for (const [what, leaf] of [
      ['foreign', foreign.service('shop')],
      ['expired', authority.leaf(shopId, { now: now - 7_200_000, lifeSeconds: 3600 })],
      ['not begun', authority.leaf(shopId, { now: now + 7_200_000, lifeSeconds: 3600 })],
      ['an operator', authority.operator('ann')],
      ['another trust domain', new Authority('other.mesh').service('shop')],
    ] as const) {
      assert.doesNotMatch((await ask(vm1, leaf)).text, /^200 /, what)
    }
    assert.equal(vm1.app.requests, before, 'the application has seen none of them')
  },
)

/** A TLS server at a host's link port that answers everything as if it were the service. */
async function impostor(
  mesh: Mesh,
  address: string,
  leaf: Pick<Leaf, 'chain' | 'key'>,
): Promise<{ asked: number } & AsyncDisposable> {
  const state = { asked: 0 }
  const server = http2.createSecureServer({ cert: leaf.chain, key: leaf.key }, (_request, response) => {
    state.asked++
    response.end('{"version":"bad"}')
  })
  server.on('sessionError', () => undefined)
  server.on('tlsClientError', () => undefined)
  server.listen(ports.link, address)
  await once(server, 'listening')
  await claim(mesh.registry, meshName, 'default', 'web')
  const meta = {
    'meshctl-mesh': meshName,
    'meshctl-namespace': 'default',
    'meshctl-host': 'bad',
    'meshctl-protocol': 'http',
    'meshctl-service-port': '8080',
    'meshctl-link-port': String(ports.link),
    version: 'bad',
  }
  await mesh.registry.register(
    { node: 'bad', address, id: 'web', service: 'web', port: 8080, tags: [], meta },
    { status: 'passing', output: '' },
  )
  return Object.assign(state, {
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      await closed
    },
  })
}

recorded(
  'servers whose certificate is foreign, expired or of another service are not spoken to',
  async (recorder) => {
    await using mesh = await Mesh.start(recorder)
    const { authority } = mesh.control
    const vm1 = await mesh.host('vm1', [web('v1')])
    const vm2 = await mesh.host('vm2', [declared('shop', { port: 9090, servicePort: 9090 })])
    await mesh.answering(vm2, ['v1'])
    const now = Date.now()
    for (const leaf of [
      new Authority(trustDomain).leaf(webId),
      authority.leaf(webId, { now: now - 7_200_000, lifeSeconds: 3600 }),
      authority.leaf(shopId),
      authority.leaf(hostSpiffe(trustDomain, 'bad')),
    ]) {
      const { address } = mesh.prepare('bad')
      await using bad = await impostor(mesh, address, leaf)
      await until('vm2 to know it', () => vm2.knows(address))
      const load = mesh.load(vm2, { as: 1 })
      await load.more(50)
      await load.stop()
      // The good one serves all of them.
      assert.deepEqual([load.failed, [...load.versions.keys()], bad.asked], [[], ['v1'], 0])
      await vm1.app.stop()
      // Alone, it is refused by name.
      await until('the impostor to be refused', async () =>
        (await vm2.call({ as: 1 })).text.includes('did not prove the identity of the service'),
      )
      assert.equal(bad.asked, 0)
      await vm1.app.start()
      await mesh.registry.deregisterNode('bad')
      await mesh.answering(vm2, ['v1'], {}, 60_000)
    }
  },
)

recorded(
  'a host gets no certificate for a service it was not granted, and keeps its own',
  async (recorder) => {
    await using mesh = await Mesh.start(recorder)
    const bank = declared('bank', { port: 7070, servicePort: 7070 })
    const thief = mesh.prepare('vm1')
    await assert.rejects(thief.join([web('v1'), bank], [web('v1')]), (error) => {
      return error instanceof Error && 'code' in error && String(error.code).startsWith('MSH04')
    })
    // Joined in order, then its own host.json is changed by hand.
    const vm2 = await mesh.host('vm2', [web('v2')])
    const vm3 = await mesh.host('vm3', [declared('shop', { port: 9090, servicePort: 9090 })])
    await mesh.answering(vm3, ['v2'])
    await vm2.stopAgent()
    vm2.config = { ...vm2.config, services: [...vm2.config.services, { ...bank, bind: vm2.address }] }
    await vm2.startAgent()
    await until('the agent to say why', async () => {
      const { report } = await vm2.status()
      return report.problems.some((problem) => problem.includes('sa/bank'))
    })
    const { certificates } = await vm2.status()
    assert.ok(!certificates.some(({ spiffe }) => spiffe.endsWith('/bank')))
    assert.ok(certificates.some(({ spiffe }) => spiffe === webId))
    await mesh.answering(vm3, ['v2'])
    // The registry's token is bound to what was granted as well.
    assert.deepEqual(await mesh.healthy('bank'), [])
  },
)
