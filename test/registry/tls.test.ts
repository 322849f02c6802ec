import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { connect } from 'node:tls'
import { connectRegistry } from '../../src/registry/client.ts'
import { checkSpiffe } from '../../src/registry/dial.ts'
import { Authority } from '../pki/authority.ts'
import type { RegistryConfig } from '../../src/model/host.ts'
import type { Embedded } from '../../src/registry/embedded/server.ts'
import { code, configFor, embedded, managementToken, startConsul } from './place.ts'
import type { Place } from './place.ts'

const authority = new Authority('demo.mesh')
const stranger = new Authority('demo.mesh')
const control = 'spiffe://demo.mesh/control'

async function reach(config: RegistryConfig): Promise<string> {
  const registry = connectRegistry(config)
  try {
    return await registry.leader()
  } finally {
    registry.close()
  }
}

describe('TLS of the embedded registry', () => {
  let server: Embedded
  let url: string
  const pair = (leaf: { chain: string; key: string }) => ({ cert: leaf.chain, key: leaf.key })
  before(async () => {
    server = await embedded({ tls: pair(authority.leaf(control)) })
    url = `https://127.0.0.1:${server.port}`
  })
  after(() => server.close())
  const config = (rest: Partial<RegistryConfig> = {}): RegistryConfig =>
    configFor(url, { token: managementToken, ca: authority.roots, spiffe: control, ...rest })

  test('it is known by its SPIFFE id, not by a host name', async () => {
    assert.match(await reach(config()), /127\.0\.0\.1/)
    // Without the id its name counts, and it has none.
    await assert.rejects(reach(config({ spiffe: null })), code('MSH0301'))
  })

  test('another id, another CA and no CA are refused', async () => {
    await assert.rejects(reach(config({ spiffe: 'spiffe://demo.mesh/host/vm1' })), (error: unknown) => {
      code('MSH0301')(error)
      assert.match(String(error), /proved .*control instead of/)
      return true
    })
    await assert.rejects(reach(config({ ca: stranger.roots })), code('MSH0301'))
    await assert.rejects(async () => reach(config({ ca: null })), code('MSH0303'))
  })

  test('a host of the mesh cannot pose as the registry', async (t) => {
    const host = await embedded({ tls: pair(authority.host('vm1')) })
    t.after(() => host.close())
    await assert.rejects(reach({ ...config(), url: `https://127.0.0.1:${host.port}` }), code('MSH0301'))
  })

  test('old versions of TLS are refused', async () => {
    const error = await new Promise<Error | null>((resolve) => {
      const socket = connect({
        port: server.port,
        host: '127.0.0.1',
        maxVersion: 'TLSv1.2',
        rejectUnauthorized: false,
      })
      socket.on('error', resolve)
      socket.on('secureConnect', () => {
        socket.destroy()
        resolve(null)
      })
    })
    assert.ok(error !== null)
  })

  test('a renewed certificate is shown to new connections without a restart', async () => {
    const renewed = authority.leaf('spiffe://demo.mesh/control')
    server.setTls(pair(renewed))
    const serial = await new Promise<string>((resolve, reject) => {
      const socket = connect({ port: server.port, host: '127.0.0.1', rejectUnauthorized: false }, () => {
        resolve(socket.getPeerX509Certificate()?.fingerprint256 ?? '')
        socket.destroy()
      })
      socket.on('error', reject)
    })
    assert.equal(serial, new X509Certificate(renewed.chain).fingerprint256)
    assert.match(await reach(config()), /127\.0\.0\.1/)
  })
})

test('a SPIFFE id counts only where it is the one URI of the certificate', () => {
  const check = (names: string) => checkSpiffe({ subjectaltname: names }, control)
  assert.equal(check(`URI:${control}`), undefined)
  assert.equal(check(`DNS:control, IP Address:10.0.0.1, URI:${control}`), undefined)
  assert.ok(check('') instanceof Error)
  assert.ok(check(`URI:${control}, URI:spiffe://demo.mesh/host/vm1`) instanceof Error)
  assert.ok(check(`URI:${control}/x`) instanceof Error)
  assert.ok(check(`DNS:URI:${control}`) instanceof Error)
  // What Node writes for a name that holds a comma.
  assert.ok(check(`DNS:"a, URI:${control}"`) instanceof Error)
})

describe('a Consul with tokens and TLS', () => {
  let consul: Place & { tlsUrl: string }
  const folder = mkdtempSync(join(tmpdir(), 'consul-tls-'))
  before(async () => {
    const leaf = authority.leaf('spiffe://demo.mesh/host/consul', { names: ['127.0.0.1', 'localhost'] })
    writeFileSync(join(folder, 'cert.pem'), leaf.chain)
    writeFileSync(join(folder, 'key.pem'), leaf.key)
    consul = await startConsul({
      acl: {
        enabled: true,
        default_policy: 'deny',
        tokens: { master: managementToken, agent: managementToken },
      },
      cert_file: join(folder, 'cert.pem'),
      key_file: join(folder, 'key.pem'),
    })
  })
  after(async () => {
    await consul.close()
    rmSync(folder, { recursive: true, force: true })
  })
  const config = (rest: Partial<RegistryConfig> = {}): RegistryConfig =>
    configFor(consul.tlsUrl, { token: managementToken, ca: authority.roots, ...rest })

  test('its certificate is checked by CA and host name', async () => {
    assert.match(await reach(config()), /:\d+$/)
    await assert.rejects(reach(config({ ca: stranger.roots })), code('MSH0301'))
    await assert.rejects(reach(config({ ca: null })), code('MSH0301'))
    const elsewhere = consul.tlsUrl.replace('127.0.0.1', '127.0.0.2')
    await assert.rejects(reach(config({ url: elsewhere })), code('MSH0301'))
  })

  test('without a token, or with a wrong one, what it denies is denied', async (t) => {
    const granted = connectRegistry(config())
    t.after(() => granted.close())
    await granted.put('a', 'x')
    assert.equal((await granted.get('a')).value?.value, 'x')
    assert.equal(await granted.transact([{ verb: 'set', key: 'b', value: 'y' }]), true)
    for (const token of [null, '5f9d3c1e-aaaa-bbbb-cccc-0123456789ab']) {
      const denied = connectRegistry(config({ token }))
      t.after(() => denied.close())
      await assert.rejects(denied.put('a', 'y'), code('MSH0302'))
      await assert.rejects(denied.transact([{ verb: 'set', key: 'a', value: 'y' }]), code('MSH0302'))
      await assert.rejects(denied.createSession({ name: 'x', ttlSeconds: 10 }), code('MSH0302'))
      await assert.rejects(
        denied.register(
          { node: 'vm1', address: '10.0.0.1', id: 'web', service: 'web', port: 1, tags: [], meta: {} },
          { status: 'passing', output: '' },
        ),
        code('MSH0302'),
      )
    }
  })
})

test('a URL that holds a password, or is none, is refused', () => {
  assert.throws(() => connectRegistry(configFor('https://user:secret@control:15011')), code('MSH0303'))
  assert.throws(() => connectRegistry(configFor('control:15011')), code('MSH0303'))
  assert.throws(() => connectRegistry(configFor('ftp://control')), code('MSH0303'))
})
