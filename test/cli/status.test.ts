import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { operatorSpiffe } from '../../src/api/signer.ts'
import { readCertificates } from '../../src/pki/cert.ts'
import { leaseCheckId } from '../../src/registry/registry.ts'
import { joinHost } from '../control/plane.ts'
import { Place } from './place.ts'

const place = new Place()
before(async () => {
  await place.start()
  await joinHost(place.plane, 'vm1', ['web'])
  await joinHost(place.plane, 'vm2', ['web'])
  await place.host('vm1', '10.0.0.1', 'web,port=8080,protocol=http,version=v1')
  await place.host('vm2', '10.0.0.2', 'web,port=8080,protocol=http,version=v2')
})
after(() => place.close())

test('status of a mesh in good health fits 80 columns', async () => {
  const { status, out, err } = await place.run(['status'])
  assert.equal(status, 0, err)
  assert.match(out, /^mesh {6}demo \(trust domain demo\.mesh\)$/m)
  assert.match(out, /^control {3}√ https:\/\/127\.0\.0\.1:\d+, version 0\.1\.0, up \d+s, CA \d+d left$/m)
  assert.match(out, /^registry {2}√ embedded at https/m)
  assert.match(out, /^services {2}1 of 1 healthy$/m)
  assert.match(out, /^hosts {5}2 of 2 healthy$/m)
  assert.match(out, /^vm1 {3}10\.0\.0\.1 {2}healthy {2}ok {5}ok {7}ok {3}web {7}19h\d*m?$/m)
  assert.deepEqual(
    out.split('\n').filter((line) => line.length > 80),
    [],
  )
  assert.equal(out.includes('\u001B'), false)
  const json = JSON.parse((await place.run(['status', '-o', 'json'])).out) as Record<string, unknown>
  assert.deepEqual(Object.keys(json), [
    'schemaVersion',
    'kind',
    'mesh',
    'trustDomain',
    'control',
    'registry',
    'hosts',
    'services',
  ])
})

test('check is quiet about what is well and ends with 0', async () => {
  const { status, out } = await place.run(['check'])
  assert.equal(status, 0, out)
  assert.match(out, /^hosts\n {2}√ vm1: is well\n {2}√ vm2: is well$/m)
  assert.match(out, /0 to look at, 0 wrong\n$/)
  const ascii = await place.run(['check'], { env: { LANG: 'C' } })
  assert.match(ascii.out, /^ {2}ok vm1: is well$/m)
})

test('cert status shows root, issuing, operator and hosts', async () => {
  const { status, out, err } = await place.run(['cert', 'status'])
  assert.equal(status, 0, out + err)
  assert.deepEqual(
    out
      .split('\n')
      .slice(1, -1)
      .map((line) => line.split(/ +/)[0]),
    ['root', 'issuing', 'operator', 'host', 'host'],
  )
})

test('check finds what is wrong, says how to mend it and ends with 79', async () => {
  await place.registry.setCheck('vm2', '10.0.0.2', null, leaseCheckId, 'critical', 'its lease stands still')
  await place.report({
    host: 'vm1',
    capture: 'drifted',
    certificateNotAfter: Date.now() - 3_600_000,
    version: '0.0.9',
    services: [{ name: 'web', namespace: 'default', status: 'passing' }],
  })
  const applied = await place.run(['apply', '-f', '-'], {
    input:
      'apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web}\n' +
      'spec: {host: web, subsets: [{name: v9, labels: {version: v9}}]}\n',
  })
  assert.equal(applied.status, 0, applied.err)
  const { status, out } = await place.run(['check'])
  assert.equal(status, 79)
  assert.match(out, /× vm2: its lease stands still\n {6}fix: .*meshctl leave vm2 --force/)
  assert.match(out, /× vm1: capture drifted\n {6}fix: meshctl check host vm1/)
  assert.match(out, /‼ vm1: runs 0\.0\.9/)
  assert.match(out, /× host vm1: expired 60m ago\n {6}fix: meshctl agent renew on vm1/)
  assert.match(out, /‼ web: 1 of 2 instances are healthy/)
  assert.match(out, /‼ DestinationRule default\/web: no instance is in the subset v9/)
  const certificates = await place.run(['cert', 'status'])
  assert.equal(certificates.status, 79)
  assert.match(certificates.out, /^host +vm1 .* -60m +expired$/m)
  const shown = await place.run(['status'])
  assert.match(shown.out, /^vm2 +10\.0\.0\.2 +gone/m)
  assert.match(shown.out, /^services {2}1 of 1 healthy, 1 with failing instances$/m)
  assert.match(shown.out, /^‼ vm1: capture drifted$/m)
})

test("the operator's certificate renews itself past half of its life", async () => {
  const { authority, clock } = place.plane
  const old = authority.leaf(operatorSpiffe('demo.mesh', 'ann'), {
    now: clock.now() - 4_000_000,
    lifeSeconds: 7000,
  })
  const folder = join(place.folder, 'demo')
  writeFileSync(join(folder, 'operator.key'), old.key)
  writeFileSync(join(folder, 'operator.pem'), old.chain)
  const { status, err } = await place.run(['status'])
  assert.equal(status, 0, err)
  const { readFileSync } = await import('node:fs')
  const [fresh] = readCertificates(readFileSync(join(folder, 'operator.pem'), 'utf8'))
  assert.ok((fresh?.notAfter ?? 0) > clock.now() + 86_400_000)
})

test('with control and registry away: what is known, why, and 69', async () => {
  await place.plane.stop()
  const shown = await place.run(['status'])
  assert.equal(shown.status, 69)
  assert.match(shown.out, /^control {3}× https/m)
  assert.match(shown.out, /^registry {2}× embedded/m)
  assert.match(shown.err, /MSH0401/)
  assert.match(shown.err, /MSH0301/)
  const certificates = await place.run(['cert', 'status'])
  assert.match(certificates.out, /^root /m)
  assert.match(certificates.out, /^operator /m)
  const check = await place.run(['check', '-o', 'json'])
  assert.equal(check.status, 79)
  const found = JSON.parse(check.out) as { ok: boolean; findings: { level: string; subject: string }[] }
  assert.ok(
    !found.ok && found.findings.some(({ level, subject }) => level === 'error' && subject === 'signer'),
  )
  const route = await place.run(['route', 'list'])
  assert.equal(route.status, 69)
})
