// Grants and joins over real HTTPS.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { grantLifeMs } from '../../src/control/grant.ts'
import { readCertificates } from '../../src/pki/cert.ts'
import { readRoots, verifyChain } from '../../src/pki/trust.ts'
import { grantFor, joinHost, Plane, refusedWith, requestsFor, sshKey } from './plane.ts'

const plane = new Plane()
before(() => plane.start())
after(() => plane.remove())

test('a host joins: its own leaf first, then its services, and a token for the registry', async () => {
  const { reply } = await joinHost(plane, 'vm1', ['web', 'api'])
  const roots = readRoots(reply.roots)
  const uris = reply.chains.map((chain) => verifyChain(chain, roots, { now: plane.clock.now() }).names.uris)
  assert.deepEqual(uris.flat(), [
    'spiffe://demo.mesh/host/vm1',
    'spiffe://demo.mesh/ns/default/sa/web',
    'spiffe://demo.mesh/ns/default/sa/api',
  ])
  const [leaf] = readCertificates(reply.chains[0] ?? '')
  assert.equal(leaf?.notAfter, Math.floor(plane.clock.now() / 1000 + 3600) * 1000)
  assert.equal(reply.registryToken?.length, 43)
  const [record] = (await plane.operator().hosts()).filter(({ host }) => host === 'vm1')
  assert.equal(record?.address, '10.0.0.11')
  assert.match(record.sshFingerprint, /^SHA256:[A-Za-z0-9+/]{43}$/)
  assert.equal(record.revoked, false)
})

test('a grant opens one join, and of joins at once exactly one', async () => {
  const { grant } = await plane.operator().grant(grantFor('vm2', ['web']))
  const tries = await Promise.allSettled(
    Array.from({ length: 6 }, () =>
      plane.client().join(grant, { host: 'vm2', csrs: requestsFor('vm2', ['web']).csrs }),
    ),
  )
  assert.equal(tries.filter(({ status }) => status === 'fulfilled').length, 1)
  for (const result of tries)
    if (result.status === 'rejected') assert.ok(refusedWith('MSH0406')(result.reason))
})

test('a grant is only kept as a hash', async () => {
  const { grant } = await plane.operator().grant(grantFor('vm3', []))
  for (const file of ['control.db', 'control.db-wal']) {
    assert.ok(!readFileSync(join(plane.dir, 'state', file)).includes(grant), file)
  }
})

test('an expired grant is refused with its own code', async () => {
  const { grant, expiresAt } = await plane.operator().grant(grantFor('vm4', []))
  assert.equal(new Date(expiresAt).getTime(), plane.clock.now() + grantLifeMs)
  plane.clock.advance(grantLifeMs)
  await assert.rejects(
    plane.client().join(grant, { host: 'vm4', csrs: requestsFor('vm4', []).csrs }),
    refusedWith('MSH0407'),
  )
})

test('a grant is for one host and exactly its services; a refused join leaves it open', async () => {
  const { grant } = await plane.operator().grant(grantFor('vm5', ['web', 'api']))
  const attempt = (host: string, csrs: string[]) => plane.client().join(grant, { host, csrs })
  const other = 'MSH0408'
  await assert.rejects(
    attempt('vm6', requestsFor('vm6', ['web', 'api']).csrs),
    refusedWith(other),
    'another host',
  )
  await assert.rejects(
    attempt('vm5', requestsFor('vm6', ['web', 'api']).csrs),
    refusedWith(other),
    "another host's request",
  )
  await assert.rejects(
    attempt('vm5', requestsFor('vm5', ['web', 'db']).csrs),
    refusedWith(other),
    'another service',
  )
  await assert.rejects(
    attempt('vm5', requestsFor('vm5', ['web', 'api', 'db']).csrs),
    refusedWith(other),
    'one more',
  )
  await assert.rejects(attempt('vm5', requestsFor('vm5', ['web']).csrs), refusedWith(other), 'one less')
  await assert.rejects(
    attempt('vm5', requestsFor('vm5', ['web', 'web', 'api']).csrs),
    refusedWith(other),
    'twice',
  )
  const shuffled = requestsFor('vm5', ['web', 'api']).csrs.toReversed()
  await assert.rejects(attempt('vm5', shuffled), refusedWith(other), 'the host is not first')
  await assert.rejects(attempt('vm5', ['nonsense']), refusedWith('MSH0402'))
  assert.equal((await attempt('vm5', requestsFor('vm5', ['api', 'web']).csrs)).chains.length, 3)
})

test('an unknown or missing grant opens nothing', async () => {
  const body = { host: 'vm7', csrs: requestsFor('vm7', []).csrs }
  await assert.rejects(plane.client().join('A'.repeat(43), body), refusedWith('MSH0406'))
  await assert.rejects(plane.client().join('', body), refusedWith('MSH0406'))
})

test('a host known under another SSH key needs replace, and its old token ends', async () => {
  await joinHost(plane, 'vm8', ['web'])
  const stranger = { sshHostKey: sshKey('other') }
  await assert.rejects(plane.operator().grant(grantFor('vm8', ['web'], stranger)), refusedWith('MSH0409'))
  // The same key joins again without a word.
  await joinHost(plane, 'vm8', ['api'])
  const { grant } = await plane.operator().grant(grantFor('vm8', ['web'], { ...stranger, replace: true }))
  await plane.client().join(grant, { host: 'vm8', csrs: requestsFor('vm8', ['web']).csrs })
  const [record] = (await plane.operator().hosts()).filter(({ host }) => host === 'vm8')
  assert.deepEqual(record?.services, [{ name: 'web', namespace: 'default' }])
})

test('a key that changed between grant and join is noticed', async () => {
  const old = await plane.operator().grant(grantFor('vm9', []))
  const fresh = await plane.operator().grant(grantFor('vm9', [], { sshHostKey: sshKey('reinstalled') }))
  await plane.client().join(fresh.grant, { host: 'vm9', csrs: requestsFor('vm9', []).csrs })
  const late = plane.client().join(old.grant, { host: 'vm9', csrs: requestsFor('vm9', []).csrs })
  await assert.rejects(late, refusedWith('MSH0409'))
})

test('bad grant requests are refused field by field', async () => {
  const good = grantFor('vm10', ['web'])
  const bad = [
    { ...good, host: 'VM10' },
    { ...good, host: '../etc' },
    { ...good, address: 'not an address' },
    { ...good, sshHostKey: 'ssh-ed25519 AAAA' },
    { ...good, sshHostKey: 'ssh-dss AAAAB3NzaC1kc3M=' },
    { ...good, services: [{ name: 'Web', namespace: 'default' }] },
    { ...good, services: [...good.services, ...good.services] },
    { ...good, services: Array.from({ length: 33 }, (_, n) => ({ name: `s${n}`, namespace: 'default' })) },
    { ...good, extra: 1 },
  ]
  for (const body of bad) await assert.rejects(plane.operator().grant(body), refusedWith('MSH0412'))
})
