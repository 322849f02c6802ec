import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MeshError } from '../../src/errors.ts'
import { isWithinDates, matchesKey, readCertificate, readCertificates } from '../../src/pki/cert.ts'
import { alternativeName, basicConstraints, keyUsage } from '../../src/pki/extension.ts'
import { makeIssuing, makeLeaf, makeRoot } from '../../src/pki/issue.ts'
import { makeKey, publicOf } from '../../src/pki/key.ts'
import { addRoot, readRoots, retireRoot, verifyChain } from '../../src/pki/trust.ts'
import { Authority } from './authority.ts'
import { forgeCertificate } from './forgery.ts'

const code = (wanted: string) => (error: unknown) => error instanceof MeshError && error.code === wanted
const now = Date.now()
const web = 'spiffe://demo.mesh/ns/default/sa/web'
const mesh = new Authority()
const roots = readRoots(mesh.roots)

test('a leaf says what was asked for and no more', () => {
  const { chain, keyObject } = mesh.leaf(web, {
    now,
    lifeSeconds: 86_400,
    names: ['control.example.com', '10.0.0.1', 'fd00::1'],
  })
  const leaf = readCertificate(readCertificates(chain)[0]?.pem ?? '')
  assert.equal(leaf.subject, 'web.default')
  assert.equal(leaf.isCa, false)
  assert.deepEqual(leaf.keyUsages, ['digitalSignature'])
  assert.ok(leaf.serverAuth && leaf.clientAuth)
  assert.deepEqual(leaf.names.uris, [web])
  assert.deepEqual(leaf.names.dns, ['control.example.com'])
  assert.deepEqual(
    leaf.names.ips.map((ip) => ip.toString('hex')),
    ['0a000001', 'fd000000000000000000000000000001'],
  )
  assert.equal(leaf.notBefore, Math.floor((now - 60_000) / 1000) * 1000)
  assert.equal(leaf.notAfter, Math.floor(now / 1000 + 86_400) * 1000)
  assert.ok(matchesKey(leaf, keyObject) && !matchesKey(leaf, makeKey()))
  assert.ok(isWithinDates(leaf, now) && !isWithinDates(leaf, now + 90_000_000))
  assert.ok(BigInt(`0x${leaf.serial}`) > 1n << 64n)
})

test('CAs are bounded: path length, dates, trust domain', () => {
  const { certificate: root } = mesh.root
  assert.deepEqual([root.isCa, root.pathLength, root.permitted], [true, 1, ['demo.mesh']])
  const { certificate: issuing } = mesh.issuing
  assert.deepEqual([issuing.isCa, issuing.pathLength, issuing.permitted], [true, 0, ['demo.mesh']])
  // Ten years from now lies beyond 2049 one day: both encodings of time are used.
  const late = readCertificate(
    makeRoot({ key: makeKey(), trustDomain: 'demo.mesh', now: Date.UTC(2045, 0, 1) }),
  )
  assert.equal(new Date(late.notAfter).getUTCFullYear(), 2054)
  assert.throws(() => mesh.leaf('spiffe://other.mesh/control'), code('MSH0404'))
  // A leaf never outlives its issuer; an ended issuer signs nothing.
  const short = makeIssuing({
    root: mesh.root,
    publicKey: publicOf(mesh.issuing.key),
    trustDomain: 'demo.mesh',
    now,
    lifeSeconds: 600,
  })
  const issuer = { certificate: readCertificate(short), key: mesh.issuing.key }
  const leaf = mesh.leaf(web, { issuer, now, lifeSeconds: 3600 })
  assert.equal(readCertificate(leaf.chain).notAfter, issuer.certificate.notAfter)
  assert.throws(() => mesh.leaf(web, { issuer, now: now + 700_000 }), code('MSH0403'))
})

test('a good chain gives its leaf', () => {
  assert.deepEqual(verifyChain(mesh.service('web').chain, roots, { now }).names.uris, [web])
})

test('dates are checked with a tolerance', () => {
  const { chain } = mesh.leaf(web, { now, lifeSeconds: 600 })
  assert.ok(verifyChain(chain, roots, { now: now + 630_000 }))
  assert.throws(() => verifyChain(chain, roots, { now: now + 630_000, toleranceMs: 0 }), code('MSH0403'))
  assert.throws(() => verifyChain(chain, roots, { now: now + 700_000 }), code('MSH0403'))
  assert.throws(() => verifyChain(chain, roots, { now: now - 180_000 }), code('MSH0403'))
})

test('foreign, broken and stretched chains are refused', () => {
  const other = new Authority()
  assert.throws(() => verifyChain(other.service('web').chain, roots, { now }), code('MSH0403'))
  const [leaf] = readCertificates(mesh.service('web').chain)
  assert.throws(
    () => verifyChain(leaf?.pem ?? '', roots, { now }),
    code('MSH0403'),
    'issuing certificate missing',
  )
  assert.throws(
    () => verifyChain(mesh.issuing.certificate.pem, roots, { now }),
    code('MSH0403'),
    'a CA as leaf',
  )

  // A leaf that signs another leaf.
  const host = mesh.host('vm1')
  const issuer = { certificate: readCertificate(host.chain), key: host.keyObject }
  const below = makeLeaf({ issuer, publicKey: makeKey(), spiffe: web, now, lifeSeconds: 600 })
  assert.throws(() => verifyChain(below + host.chain, roots, { now }), code('MSH0403'))

  // A CA below the issuing CA, whose path length is 0.
  const key = makeKey()
  const sub = forgeCertificate({
    issuer: mesh.issuing,
    publicKey: key,
    extensions: [basicConstraints({ pathLength: 0 }), keyUsage(['keyCertSign'])],
  })
  const long = makeLeaf({
    issuer: { certificate: readCertificate(sub), key },
    publicKey: makeKey(),
    spiffe: web,
    now,
    lifeSeconds: 600,
  })
  assert.throws(
    () => verifyChain(long + sub + mesh.issuing.certificate.pem, roots, { now }),
    /path below it is too long/,
  )

  // Another trust domain below a constrained CA.
  const extensions = [basicConstraints(null), alternativeName({ uri: 'spiffe://other.mesh/control' })]
  const strayed = forgeCertificate({ issuer: mesh.issuing, publicKey: makeKey(), extensions })
  assert.throws(() => verifyChain(strayed + mesh.issuing.certificate.pem, roots, { now }), /may not sign for/)

  // A critical extension that nobody understands.
  const odd = { oid: '1.2.3.4', critical: true, value: Buffer.from('0500', 'hex') }
  const unknown = forgeCertificate({ issuer: mesh.issuing, publicKey: makeKey(), extensions: [odd] })
  assert.throws(() => verifyChain(unknown, roots, { now }), code('MSH0402'))
  assert.throws(() => verifyChain('', roots, { now }), code('MSH0402'))
})

test('roots are added once, retired by fingerprint, never the last', () => {
  const next = new Authority()
  const both = addRoot(mesh.roots, next.roots)
  assert.equal(addRoot(both, mesh.roots), both)
  assert.equal(readRoots(both).length, 2)
  assert.ok(verifyChain(next.service('web').chain, readRoots(both), { now }))
  const left = retireRoot(both, mesh.root.certificate.fingerprint)
  assert.equal(left, next.roots)
  assert.throws(() => retireRoot(left, next.root.certificate.fingerprint), code('MSH0403'))
  assert.throws(() => retireRoot(both, '00'), code('MSH0403'))
  assert.throws(() => addRoot(both, mesh.service('web').chain), code('MSH0402'))
  assert.throws(() => readRoots(mesh.issuing.certificate.pem), code('MSH0402'))
  assert.equal(addRoot('', mesh.roots), mesh.roots)
})
