// Against a real TLS server in the proxy's place.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { createSecureContext, createServer, type Server } from 'node:tls'
import pino from 'pino'
import { DnsServer } from '../../src/agent/dns/server.ts'
import { holdersOf, Keyring } from '../../src/agent/keyring.ts'
import { verifyDns, verifyServed } from '../../src/agent/verify.ts'
import { systemClock } from '../../src/clock.ts'
import { FakeHost } from '../../src/host/fake.ts'
import { readHostConfig } from '../../src/agent/hostconfig.ts'
import { report, renew, verify, type VerbContext } from '../../src/agent/verbs.ts'
import { serveAgent } from '../../src/agent/socket.ts'
import { linkHttp2 } from '../../src/snapshot/types.ts'
import { declared, hostConfig } from '../compile/mesh.ts'
import { Authority, type Leaf } from '../pki/authority.ts'
import { furnish, makePlace, type Place, silent } from './place.ts'

const authority = new Authority('demo.mesh')
const config = hostConfig({
  services: [declared('web')],
  capture: { outbound: 'off', inbound: false, excludePorts: [], excludeCidrs: [] },
})
const web = 'spiffe://demo.mesh/ns/default/sa/web'
let place: Place
let server: Server
let names: string[]
let serving: { key: string; chain: string }

beforeEach(async () => {
  place = makePlace()
  names = []
  await furnish(place.paths, authority, 'vm1', config.services)
  const [, holder] = holdersOf('demo.mesh', 'vm1', config.services)
  const leaf = holder === undefined ? null : await new Keyring(place.paths).load(holder)
  serving = { key: leaf?.keyPem ?? '', chain: leaf?.chain ?? '' }
  server = createServer({
    requestCert: true,
    rejectUnauthorized: true,
    ca: authority.roots,
    minVersion: 'TLSv1.3',
    ALPNProtocols: [linkHttp2],
    SNICallback: (name, done) => {
      names.push(name)
      done(null, createSecureContext({ key: serving.key, cert: serving.chain, ca: authority.roots }))
    },
  })
  server.on('tlsClientError', () => undefined)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
})

afterEach(async () => {
  place.remove()
  await new Promise<void>((done) => void server.close(() => done()))
})

const link = (): { address: string; port: number } => ({
  address: '127.0.0.1',
  port: (server.address() as AddressInfo).port,
})
const look = (now: number = Date.now()): Promise<string[]> =>
  verifyServed({ config, keyring: new Keyring(place.paths), now, link: link() })
const serve = (leaf: Leaf): void => {
  serving = { key: leaf.key, chain: leaf.chain }
}

describe('the certificate served on the wire', () => {
  test('is the newest on disk: nothing to say, asked for by the name of its port', async () => {
    assert.deepEqual(await look(), [])
    assert.deepEqual(names, ['outbound_.8080_._.web.default.mesh'])
  })

  test('an old one, though still good, is a finding', async () => {
    serve(authority.service('web'))
    assert.deepEqual(await look(), ['web.default: the certificate served is not the newest one on disk'])
  })

  test('of a service that only calls it is on disk, in date, and not asked for on the wire', async () => {
    const shop = declared('shop', { port: 0, servicePort: 0 })
    const calling = { ...config, services: [...config.services, shop] }
    const lookAll = (now: number = Date.now()): Promise<string[]> =>
      verifyServed({ config: calling, keyring: new Keyring(place.paths), now, link: link() })
    assert.deepEqual(await lookAll(), ['spiffe://demo.mesh/ns/default/sa/shop has no certificate'])
    await furnish(place.paths, authority, 'vm1', [shop])
    names = []
    assert.deepEqual(await look(), [])
    assert.deepEqual(await lookAll(), [])
    assert.deepEqual([...new Set(names)], ['outbound_.8080_._.web.default.mesh'])
    assert.ok(
      (await lookAll(Date.now() + 30 * 86_400_000)).includes(
        'the certificate of spiffe://demo.mesh/ns/default/sa/shop is expired',
      ),
    )
  })

  test('an expired one', async () => {
    serve(authority.leaf(web, { now: Date.now() - 7_200_000, lifeSeconds: 3600 }))
    assert.match((await look()).join('\n'), /web.default: the certificate served is expired since 20/)
  })

  test("another service's, and one of a foreign authority", async () => {
    serve(authority.service('bank'))
    assert.match((await look())[0] ?? '', /not for spiffe:\/\/demo.mesh\/ns\/default\/sa\/web/)
    serve(new Authority('demo.mesh').service('web'))
    assert.match((await look())[0] ?? '', /not trusted/)
  })

  test('nobody there', async () => {
    await new Promise<void>((done) => void server.close(() => done()))
    const found = await verifyServed({
      config,
      keyring: new Keyring(place.paths),
      now: Date.now(),
      link: { address: '127.0.0.1', port: 1 },
    })
    assert.match(found[0] ?? '', /does not serve it: .*ECONNREFUSED/)
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
  })
})

describe('the verbs', () => {
  const lines: string[] = []
  /** What the host's resolver says of itself while ours is in place. */
  const resolver = '@@resolv\nnameserver 127.0.0.53\n@@resolved\nactive\n@@dropin\nDNS=127.0.0.153\n'
  const context = (dnsPort: number): VerbContext => ({
    config,
    paths: place.paths,
    host: new FakeHost('x', (command) =>
      command === 'sh -s' ? { status: 0, stdout: resolver, stderr: '' } : null,
    ),
    clock: systemClock,
    log: silent,
    tell: (line) => lines.push(line),
    link: link(),
    dnsPort,
  })
  const agentSays = async (over: object = {}): Promise<{ close(): void }> =>
    await serveAgent(place.paths.agentSocket, {
      status: () => ({
        report: {
          schema: 1,
          host: 'vm1',
          address: '10.0.0.1',
          version: '0',
          bootId: '',
          snapshot: 'abc',
          proxy: 'ok',
          capture: 'ok',
          dns: 'ok',
          services: [{ name: 'web', namespace: 'default', status: 'passing' }],
          certificateNotAfter: Date.now() + 1000_000,
          problems: [],
          machine: null,
          at: '',
          ...over,
        },
        registry: { connected: true, ageMs: 0, registered: true },
        certificates: [],
        proxy: { snapshot: 'abc', wanted: 'abc' },
      }),
      renew: async () => ({ renewed: false, notAfter: 1 }),
      drain: async () => ({ open: 0 }),
      leave: async () => ({}),
    })

  test('verify is quiet when all is well, and names the first finding otherwise', async () => {
    const dns = new DnsServer(pino({ level: 'silent' }))
    const port = await dns.listen('127.0.0.1', 0)
    dns.setTable(new Map())
    const agent = await agentSays()
    await verify({ ...context(port), config: { ...config, dns: 'resolved' } })
    assert.deepEqual(lines.splice(0), [
      'certificates: ok',
      'dns: ok',
      'resolver: ok',
      'capture: ok',
      'agent: ok',
    ])
    serve(authority.service('web'))
    await dns.close()
    await assert.rejects(
      verify({ ...context(port), config: { ...config, dns: 'resolved' } }),
      (error: Error & { exit: number }) => {
        assert.match(error.message, /not the newest one on disk \(and 1 more\)/)
        return error.exit === 79
      },
    )
    agent.close()
  })

  test('report: quiet, findings, or no agent at all', async () => {
    let agent = await agentSays()
    await report(context(0))
    agent.close()
    agent = await agentSays({ capture: 'drifted', problems: ['registry away'] })
    await assert.rejects(report(context(0)), { code: 'MSH0606', message: 'capture drifted (and 1 more)' })
    agent.close()
    await assert.rejects(report(context(0)), { code: 'MSH0604' })
  })

  test('renew without the agent: nothing before half of life; later control is missed: try again', async () => {
    await renew(context(0), false)
    const old = { now: Date.now() - 3_000_000, lifeSeconds: 7200 }
    await furnish(place.paths, authority, 'vm1', config.services, { ...old, now: Date.now() - 4_000_000 })
    const away = { ...context(0), config: { ...config, signers: ['https://127.0.0.1:1'] } }
    await assert.rejects(renew(away, false), (error: Error & { code: string }) =>
      ['MSH0607', 'MSH0401'].includes(error.code),
    )
  })

  test('dns that does not answer is a finding', async () => {
    assert.match((await verifyDns(1)) ?? '', /dns: /)
  })
})

describe('host.json', () => {
  test('is read whole, and what is missing is named without its secrets', async () => {
    writeFileSync(place.paths.hostConfig, JSON.stringify(config))
    assert.deepEqual(await readHostConfig(place.paths.hostConfig), structuredClone(config))
    writeFileSync(place.paths.hostConfig, '{"schema": 2, "mesh": "demo"}')
    await assert.rejects(
      readHostConfig(place.paths.hostConfig),
      /missing or wrong: schema, trustDomain, host/,
    )
    writeFileSync(place.paths.hostConfig, '{"token": "very-secret')
    await assert.rejects(
      readHostConfig(place.paths.hostConfig),
      (error: Error) => !error.message.includes('very-secret'),
    )
    await assert.rejects(readHostConfig('/nowhere/host.json'), { code: 'MSH0605' })
  })
})
