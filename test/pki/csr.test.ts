import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { MeshError } from '../../src/errors.ts'
import { basicConstraints } from '../../src/pki/extension.ts'
import { makeRequest, readRequest } from '../../src/pki/csr.ts'
import { makeKey, publicBytes } from '../../src/pki/key.ts'
import { pem, unpem } from '../../src/pki/pem.ts'
import { forgeRequest, rawNames } from './forgery.ts'

const code = (wanted: string) => (error: unknown) => error instanceof MeshError && error.code === wanted
const web = 'spiffe://demo.mesh/ns/default/sa/web'

test('a request carries its key and the one SPIFFE id', () => {
  const key = makeKey()
  const request = readRequest(makeRequest(key, web))
  assert.equal(request.spiffe.id, web)
  assert.ok(publicBytes(request.publicKey).equals(publicBytes(key)))
  assert.throws(() => makeRequest(key, 'spiffe://demo.mesh/'), code('MSH0403'))
})

test('a request that does not prove its key is refused', () => {
  const stolen = forgeRequest({ key: makeKey(), signer: makeKey(), extensions: [rawNames([6, web])] })
  assert.throws(() => readRequest(stolen), code('MSH0404'))
})

test('a request for more than one SPIFFE id or for anything else is refused', () => {
  const key = makeKey()
  const cases = {
    'two URIs': [rawNames([6, web], [6, 'spiffe://demo.mesh/control'])],
    'a DNS name beside': [rawNames([6, web], [2, 'web'])],
    'an address beside': [rawNames([6, web], [7, '\x7f\0\0\x01'])],
    'a mail address beside': [rawNames([6, web], [1, 'a@b'])],
    'DNS only': [rawNames([2, 'web'])],
    'a CA': [rawNames([6, web]), basicConstraints({ pathLength: 0 })],
    'no names': [],
  }
  for (const [what, extensions] of Object.entries(cases)) {
    assert.throws(() => readRequest(forgeRequest({ key, extensions })), code('MSH0404'), what)
  }
  const challenge = forgeRequest({ key, extensions: [rawNames([6, web])], attribute: '1.2.840.113549.1.9.7' })
  assert.throws(() => readRequest(challenge), code('MSH0404'))
  const upper = forgeRequest({ key, extensions: [rawNames([6, 'spiffe://demo.mesh/Control'])] })
  assert.throws(() => readRequest(upper), code('MSH0403'))
})

test('other kinds of keys are refused', () => {
  const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey
  assert.throws(
    () => readRequest(forgeRequest({ key: p384, extensions: [rawNames([6, web])] })),
    code('MSH0404'),
  )
})

test('hostile bytes end in an error of ours, never in another', () => {
  const good = unpem(makeRequest(makeKey(), web), 'CERTIFICATE REQUEST', 8192)
  const read = (der: Buffer) => {
    try {
      readRequest(pem('CERTIFICATE REQUEST', der))
    } catch (error) {
      assert.ok(error instanceof MeshError, String(error))
      return
    }
    assert.ok(der.equals(good), 'a changed request was accepted')
  }
  for (let length = 0; length < good.length; length++) read(good.subarray(0, length))
  read(Buffer.concat([good, Buffer.from([0])]))
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), (at, mask) => {
      const bad = Buffer.from(good)
      bad[at] = (bad[at] ?? 0) ^ mask
      read(bad)
    }),
    { numRuns: 400 },
  )
  const deep = Buffer.concat(Array.from({ length: 2000 }, () => Buffer.from([0x30, 0x80])))
  read(deep)
  for (const text of [
    '',
    'x',
    'x'.repeat(1 << 20),
    `${makeRequest(makeKey(), web)}${makeRequest(makeKey(), web)}`,
  ]) {
    assert.throws(() => readRequest(text), code('MSH0402'))
  }
})
