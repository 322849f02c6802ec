import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import { MeshError } from '../../src/errors.ts'
import { makeKey } from '../../src/pki/key.ts'
import { parseSpiffe, peerSpiffe, provesSpiffe, spiffeOrNull } from '../../src/pki/spiffe.ts'
import { Authority } from './authority.ts'
import { forgeCertificate, rawNames } from './forgery.ts'

const code = (wanted: string) => (error: unknown) => error instanceof MeshError && error.code === wanted

test('the four forms are read', () => {
  assert.deepEqual(parseSpiffe('spiffe://demo.mesh/ns/shop/sa/web'), {
    kind: 'service',
    namespace: 'shop',
    service: 'web',
    trustDomain: 'demo.mesh',
    id: 'spiffe://demo.mesh/ns/shop/sa/web',
  })
  const host = parseSpiffe('spiffe://demo.mesh/host/vm1.example.com')
  assert.equal(host.kind === 'host' && host.host, 'vm1.example.com')
  assert.equal(parseSpiffe('spiffe://demo.mesh/control').kind, 'control')
  const operator = parseSpiffe('spiffe://demo.mesh/operator/ann_b')
  assert.equal(operator.kind === 'operator' && operator.name, 'ann_b')
})

test('everything else is refused, not normalised', () => {
  const refused = [
    '',
    'https://demo.mesh/control',
    'SPIFFE://demo.mesh/control',
    'spiffe://Demo.mesh/control',
    'spiffe://demo.mesh/Control',
    'spiffe://demo.mesh/ns/default/sa/Web',
    'spiffe://demo.mesh/ns/default/sa/we%62',
    'spiffe://demo.mesh/ns/default/sa/web\0',
    'spiffe://demo.mesh/ns/default/sa/web ',
    'spiffe://demo.mesh/ns/default/sa/web/',
    'spiffe://demo.mesh/ns/default/sa/web?x',
    'spiffe://demo.mesh/ns/default/sa/web#x',
    'spiffe://demo.mesh//ns/default/sa/web',
    'spiffe://demo.mesh/ns/../sa/web',
    'spiffe://demo.mesh/ns/default/sa/..',
    'spiffe://demo.mesh/ns/default/sa/',
    'spiffe://demo.mesh/ns/default/sa/a.b',
    'spiffe://demo.mesh/ns/default',
    'spiffe://demo.mesh/host/',
    'spiffe://demo.mesh/host/a/b',
    'spiffe://demo.mesh/host/.a',
    'spiffe://demo.mesh',
    'spiffe://demo.mesh/',
    'spiffe:///control',
    'spiffe://user@demo.mesh/control',
    'spiffe://demo.mesh:443/control',
    'spiffe://demo.mesh/controls',
    'spiffe://demo.mesh/control\nspiffe://demo.mesh/host/a',
    'spiffe://d\u00e9mo.mesh/control',
    `spiffe://demo.mesh/host/${'a'.repeat(3000)}`,
  ]
  for (const text of refused) {
    assert.throws(() => parseSpiffe(text), code('MSH0403'), text)
    assert.equal(spiffeOrNull(text), null)
  }
})

test('the identity is read from the one URI name of a certificate', () => {
  const { chain } = new Authority().service('web')
  const x509 = new X509Certificate(chain)
  assert.equal(peerSpiffe(x509).id, 'spiffe://demo.mesh/ns/default/sa/web')
  assert.equal(peerSpiffe(x509.toLegacyObject()).id, 'spiffe://demo.mesh/ns/default/sa/web')
  assert.ok(provesSpiffe(x509, 'spiffe://demo.mesh/ns/default/sa/web'))
  assert.ok(!provesSpiffe(x509, 'spiffe://demo.mesh/ns/default/sa/web2'))
})

test('certificates without exactly one good URI name prove nothing', () => {
  const { issuing } = new Authority()
  const publicKey = makeKey()
  const make = (...names: (readonly [number, string])[]) =>
    new X509Certificate(forgeCertificate({ issuer: issuing, publicKey, extensions: [rawNames(...names)] }))
  const web = 'spiffe://demo.mesh/ns/default/sa/web'
  const cases = {
    'DNS only': make([2, 'web.default.mesh']),
    'a URI inside a DNS name': make([2, `x, URI:${web}`]),
    'two URIs': make([6, web], [6, 'spiffe://demo.mesh/control']),
    'the same URI twice': make([6, web], [6, web]),
    'a URI that imitates two': make([6, `${web}, URI:spiffe://demo.mesh/control`]),
    'NUL inside': make([6, 'spiffe://demo.mesh/control\0/ns/default/sa/web']),
    'upper case': make([6, 'spiffe://DEMO.mesh/control']),
    'another scheme': make([6, 'https://demo.mesh/control']),
    'no names': new X509Certificate(forgeCertificate({ issuer: issuing, publicKey, extensions: [] })),
  }
  for (const [what, certificate] of Object.entries(cases)) {
    assert.throws(() => peerSpiffe(certificate), code('MSH0403'), what)
    assert.equal(provesSpiffe(certificate, web), false, what)
  }
  // getPeerCertificate gives an empty object where the peer sent none.
  assert.throws(() => peerSpiffe({}), code('MSH0403'))
  assert.throws(() => peerSpiffe({ raw: Buffer.from('300300', 'hex') }), code('MSH0402'))
  // The same extension twice: OpenSSL and we could believe different ones.
  const twice = forgeCertificate({
    issuer: issuing,
    publicKey,
    extensions: [rawNames([6, web]), rawNames([6, web])],
  })
  assert.throws(() => peerSpiffe(new X509Certificate(twice)), code('MSH0402'))
})
