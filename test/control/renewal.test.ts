// Renewals, entitlement, revocation and roles over real HTTPS.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { makeRequest } from '../../src/pki/csr.ts'
import { readCertificate } from '../../src/pki/cert.ts'
import { operatorSeconds } from '../../src/pki/issue.ts'
import { makeKey } from '../../src/pki/key.ts'
import { Authority } from '../pki/authority.ts'
import { forgeRequest, rawNames } from '../pki/forgery.ts'
import { joinHost, Plane, refusedWith, requestsFor } from './plane.ts'

const plane = new Plane({}, Date.now() - 86_400_000)
before(() => plane.start())
after(() => plane.remove())

const services = (...names: string[]) => names.map((name) => ({ name, namespace: 'default' }))

test('a host renews itself and its services with its current leaf', async () => {
  const { leaf } = await joinHost(plane, 'vm1', ['web'])
  plane.clock.advance(30_000)
  const reply = await plane.client(leaf).sign({ csrs: requestsFor('vm1', ['web']).csrs })
  assert.equal(reply.chains.length, 2)
  assert.equal(reply.registryToken, null)
  const renewed = readCertificate(
    (reply.chains[0] ?? '').split('-----END CERTIFICATE-----')[0] + '-----END CERTIFICATE-----\n',
  )
  assert.ok(renewed.notAfter >= plane.clock.now() + 3_599_000)
  const [record] = (await plane.operator().hosts()).filter(({ host }) => host === 'vm1')
  assert.equal(record?.renewedAt, new Date(plane.clock.now()).toISOString())
  // A service alone is fine too.
  assert.equal((await plane.client(leaf).sign({ csrs: requestsFor(null, ['web']).csrs })).chains.length, 1)
})

test('no host gets what it is not entitled to', async () => {
  const { leaf } = await joinHost(plane, 'vm2', ['web'])
  const client = plane.client(leaf)
  const key = makeKey()
  const web = 'spiffe://demo.mesh/ns/default/sa/web'
  const refused = {
    'another service': requestsFor('vm2', ['db']).csrs,
    'another host': requestsFor('vm1', []).csrs,
    'the same service in another namespace': [makeRequest(key, 'spiffe://demo.mesh/ns/prod/sa/web')],
    'another trust domain': [makeRequest(key, 'spiffe://other.mesh/ns/default/sa/web')],
    control: [makeRequest(key, 'spiffe://demo.mesh/control')],
    'an operator': [makeRequest(key, 'spiffe://demo.mesh/operator/ann')],
    'one good and one bad': [...requestsFor('vm2', ['web']).csrs, ...requestsFor(null, ['db']).csrs],
    'two names in one request': [
      forgeRequest({ key, extensions: [rawNames([6, web], [6, 'spiffe://demo.mesh/control'])] }),
    ],
    'a DNS name beside': [forgeRequest({ key, extensions: [rawNames([6, web], [2, 'web.default.mesh'])] })],
    'a key it does not hold': [forgeRequest({ key, signer: makeKey(), extensions: [rawNames([6, web])] })],
  }
  for (const [what, csrs] of Object.entries(refused)) {
    await assert.rejects(client.sign({ csrs }), refusedWith('MSH0404'), what)
  }
})

test('the entitlement follows what the operator says', async () => {
  const { leaf } = await joinHost(plane, 'vm3', ['web'])
  const record = await plane.operator().entitlement('vm3', { services: services('db') })
  assert.deepEqual(record.services, services('db'))
  assert.equal((await plane.client(leaf).sign({ csrs: requestsFor('vm3', ['db']).csrs })).chains.length, 2)
  await assert.rejects(
    plane.client(leaf).sign({ csrs: requestsFor('vm3', ['web']).csrs }),
    refusedWith('MSH0404'),
  )
  await assert.rejects(plane.operator().entitlement('nobody', { services: [] }), refusedWith('MSH0410'))
})

test('a revoked host gets nothing until it joins again', async () => {
  const { leaf } = await joinHost(plane, 'vm4', ['web'])
  await plane.operator().revoke('vm4')
  await plane.operator().revoke('vm4')
  await assert.rejects(plane.client(leaf).sign({ csrs: requestsFor('vm4', []).csrs }), refusedWith('MSH0410'))
  assert.equal((await plane.operator().hosts()).find(({ host }) => host === 'vm4')?.revoked, true)
  await joinHost(plane, 'vm4', ['web'])
  assert.equal((await plane.client(leaf).sign({ csrs: requestsFor('vm4', []).csrs })).chains.length, 1)
  await assert.rejects(plane.operator().revoke('nobody'), refusedWith('MSH0410'))
})

test('a leaf of a host that never joined here gets nothing', async () => {
  const stray = plane.authority.host('ghost')
  await assert.rejects(
    plane.client(stray).sign({ csrs: requestsFor('ghost', []).csrs }),
    refusedWith('MSH0410'),
  )
})

describe('a host that was off for longer than its leaf lives', () => {
  const day = 86_400_000
  const late = new Plane({}, Date.now() - 40 * day)
  before(() => late.start())
  after(() => late.remove())

  /** Joins, and gives a leaf that ended so long ago and counts as the newest of the host. */
  const lapsed = async (host: string, endedAgo: number) => {
    await joinHost(late, host, ['web'])
    const issued = Date.now() - endedAgo - 3_600_000
    late.renewedAt(host, issued)
    return late.authority.leaf(`spiffe://demo.mesh/host/${host}`, { now: issued, lifeSeconds: 3600 })
  }

  test('renews itself once, and does nothing else until then', async () => {
    const leaf = await lapsed('vm1', 29 * day)
    await assert.rejects(late.client(leaf).status(), refusedWith('MSH0411'))
    await assert.rejects(
      late.client(leaf).sign({ csrs: requestsFor('vm1', ['db']).csrs }),
      refusedWith('MSH0404'),
    )
    const reply = await late.client(leaf).sign({ csrs: requestsFor('vm1', ['web']).csrs })
    assert.equal(reply.chains.length, 2)
    // The key has been replaced: whoever finds it in an old copy gets nothing.
    await assert.rejects(
      late.client(leaf).sign({ csrs: requestsFor('vm1', []).csrs }),
      refusedWith('MSH0411'),
    )
  })

  test('is told to join again after 30 days', async () => {
    const leaf = await lapsed('vm2', 31 * day)
    await assert.rejects(
      late.client(leaf).sign({ csrs: requestsFor('vm2', []).csrs }),
      refusedWith('MSH0411'),
    )
  })

  test('gets nothing where it was revoked', async () => {
    const leaf = await lapsed('vm3', day)
    await late.operator().revoke('vm3')
    await assert.rejects(
      late.client(leaf).sign({ csrs: requestsFor('vm3', []).csrs }),
      refusedWith('MSH0410'),
    )
  })

  test('a service is no host', async () => {
    await lapsed('vm4', day)
    const options = { now: Date.now() - 2 * 3_600_000, lifeSeconds: 3600 }
    const service = late.authority.leaf('spiffe://demo.mesh/ns/default/sa/web', options)
    await assert.rejects(
      late.client(service).sign({ csrs: requestsFor('vm4', []).csrs }),
      refusedWith('MSH0411'),
    )
  })
})

test('an expired leaf of another CA gets nothing', async () => {
  await joinHost(plane, 'vm5', [])
  const options = { now: Date.now() - 7_200_000, lifeSeconds: 3600 }
  const foreign = new Authority('demo.mesh', options.now).leaf('spiffe://demo.mesh/host/vm5', options)
  await assert.rejects(
    plane.client(foreign).sign({ csrs: requestsFor('vm5', []).csrs }),
    refusedWith('MSH0403'),
  )
})

test('an expired leaf that is not the newest of its host is told to join again', async () => {
  const options = { now: Date.now() - 7_200_000, lifeSeconds: 3600 }
  const expired = plane.authority.leaf('spiffe://demo.mesh/host/vm1', options)
  await assert.rejects(plane.client(expired).sign({ csrs: requestsFor('vm1', []).csrs }), (error) => {
    assert.ok(refusedWith('MSH0411')(error))
    assert.match(String((error as { hint?: string }).hint), /meshctl join/)
    return true
  })
})

test('a certificate that ends by the clock of control is refused, though TLS lets it pass', async () => {
  const late = new Plane({ leafSeconds: 86_400 })
  await late.start()
  try {
    const leaf = late.authority.leaf('spiffe://demo.mesh/host/vm1', { lifeSeconds: 1800 })
    await late.client(leaf).status()
    late.clock.advance(1_801_000)
    await assert.rejects(late.client(leaf).status(), refusedWith('MSH0411'))
  } finally {
    await late.remove()
  }
})

test('foreign, missing and odd certificates are refused', async () => {
  const foreign = new Authority()
  await assert.rejects(plane.client(foreign.operator('ann')).hosts(), refusedWith('MSH0403'))
  await assert.rejects(plane.client().status(), refusedWith('MSH0403'))
  const ca = { chain: plane.authority.issuing.certificate.pem, key: '' }
  const key = plane.authority.issuing.key.export({ type: 'pkcs8', format: 'pem' }).toString()
  await assert.rejects(plane.client({ ...ca, key }).status(), refusedWith('MSH0403'))
})

test('roles: each may do its own and nothing else', async () => {
  const { leaf } = await joinHost(plane, 'vm5', ['web'])
  const host = plane.client(leaf)
  const service = plane.client(plane.authority.service('web'))
  const grant = { host: 'x', address: '10.0.0.1', services: [], sshHostKey: '', replace: false }
  const { csrs } = requestsFor('vm5', [])
  for (const caller of [host, service]) {
    await assert.rejects(caller.grant(grant), refusedWith('MSH0405'))
    await assert.rejects(caller.hosts(), refusedWith('MSH0405'))
    await assert.rejects(caller.revoke('vm5'), refusedWith('MSH0405'))
    await assert.rejects(caller.entitlement('vm5', { services: services('db') }), refusedWith('MSH0405'))
    await assert.rejects(caller.renewOperator(csrs[0] ?? ''), refusedWith('MSH0405'))
    assert.equal((await caller.status()).mesh, 'demo')
    assert.equal(await caller.trust(), plane.authority.roots)
  }
  await assert.rejects(service.sign({ csrs }), refusedWith('MSH0405'))
  await assert.rejects(plane.operator().sign({ csrs }), refusedWith('MSH0405'))
})

test('an operator renews itself and nobody else', async () => {
  const own = makeRequest(makeKey(), 'spiffe://demo.mesh/operator/ann')
  const reply = await plane.operator().renewOperator(own)
  const [pem = ''] = reply.chains
  assert.ok(pem.includes(plane.authority.issuing.certificate.pem))
  const leaf = readCertificate(pem.slice(0, pem.indexOf('-----END') + '-----END CERTIFICATE-----\n'.length))
  assert.equal(leaf.notAfter, Math.floor(plane.clock.now() / 1000 + operatorSeconds) * 1000)
  const other = makeRequest(makeKey(), 'spiffe://demo.mesh/operator/bob')
  await assert.rejects(plane.operator().renewOperator(other), refusedWith('MSH0404'))
})

test('status says what runs', async () => {
  const status = await plane.operator().status()
  assert.equal(status.registry, 'embedded')
  assert.equal(status.trustDomain, 'demo.mesh')
  assert.equal(status.issuingNotAfter, new Date(plane.authority.issuing.certificate.notAfter).toISOString())
  assert.equal(status.rootNotAfter, new Date(plane.authority.root.certificate.notAfter).toISOString())
  assert.ok(status.hosts >= 1)
})
