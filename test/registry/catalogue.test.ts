import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ServiceDeclaration } from '../../src/model/service.ts'
import { meshInstance, registrationOf } from '../../src/registry/catalogue.ts'
import type { Instance, Registration } from '../../src/registry/registry.ts'

const declaration: ServiceDeclaration = {
  name: 'web',
  namespace: 'shop',
  id: 'web-8080',
  port: 8080,
  servicePort: 80,
  tags: ['v2', 'team=a'],
  meta: { tier: 'front' },
  checks: [],
  protocol: 'http',
  unit: 'web.service',
  user: null,
  locality: 'eu/west/a',
  mtls: 'permissive',
  onFailure: 'open',
  bind: null,
}
const facts = { mesh: 'demo', host: 'vm1', address: '10.0.0.1', linkPort: 15008 }

function asInstance(registration: Registration, more: Partial<Instance> = {}): Instance {
  const { node, address, id, service, port, tags, meta } = registration
  return {
    node,
    nodeAddress: address,
    address,
    id,
    service,
    port,
    tags,
    meta,
    passing: true,
    checks: [],
    ...more,
  }
}

test('a declaration comes back as the instance it described', () => {
  assert.deepEqual(meshInstance(asInstance(registrationOf(declaration, facts)), 'demo'), {
    service: 'web',
    namespace: 'shop',
    host: 'vm1',
    address: '10.0.0.1',
    port: 8080,
    servicePort: 80,
    protocol: 'http',
    version: 'v2',
    labels: { team: 'a', tier: 'front', version: 'v2' },
    linkPort: 15008,
    locality: 'eu/west/a',
    passing: true,
  })
})

test('meta wins over tags, and tags that are no labels are none', () => {
  const of = (tags: string[], meta: Record<string, string>) =>
    meshInstance(asInstance(registrationOf({ ...declaration, tags, meta }, facts)), 'demo')?.labels
  assert.deepEqual(of(['v1', 'version=v2'], { version: 'v3' }), { version: 'v3' })
  assert.deepEqual(of(['v1', 'version=v2'], {}), { version: 'v2' })
  assert.deepEqual(of(['primary', '=x', 'vip'], {}), {})
})

test('labels that Consul takes for no meta keys travel as tags; ours cannot be overwritten', () => {
  const meta = { 'app.kubernetes.io/name': 'web', long: 'x'.repeat(600), 'meshctl-mesh': 'other', ok: 'yes' }
  const registration = registrationOf({ ...declaration, tags: [], meta }, facts)
  assert.equal(registration.meta['meshctl-mesh'], 'demo')
  assert.deepEqual(
    Object.keys(registration.meta).filter((key) => !key.startsWith('meshctl-')),
    ['ok'],
  )
  const labels = meshInstance(asInstance(registration), 'demo')?.labels
  assert.deepEqual(labels, { 'app.kubernetes.io/name': 'web', long: 'x'.repeat(600), ok: 'yes' })
})

test('more labels than Consul has room for in meta travel as tags', () => {
  const meta = Object.fromEntries(Array.from({ length: 80 }, (_, at) => [`l${at}`, String(at)]))
  const registration = registrationOf({ ...declaration, tags: [], meta }, facts)
  assert.equal(Object.keys(registration.meta).length, 64)
  assert.deepEqual(meshInstance(asInstance(registration), 'demo')?.labels, meta)
})

test('a service that somebody else registered is plain; one of another mesh is none of ours', () => {
  const foreign = asInstance({
    node: 'db1',
    address: '10.0.0.9',
    id: 'postgres',
    service: 'postgres',
    port: 5432,
    tags: [],
    meta: { 'meshctl-link-port': '15008' },
  })
  const seen = meshInstance(foreign, 'demo')
  assert.equal(seen?.namespace, 'default')
  assert.equal(seen.linkPort, null, 'no links to who is not of the mesh')
  assert.equal(seen.servicePort, 5432)
  assert.equal(seen.protocol, 'auto')
  assert.equal(meshInstance(asInstance(registrationOf(declaration, facts)), 'other'), null)
})

test('what makes no sense is left out', () => {
  const good = asInstance(registrationOf(declaration, facts))
  const bad = (meta: Record<string, string>, more: Partial<Instance> = {}) =>
    meshInstance({ ...good, ...more, meta: { ...good.meta, ...meta } }, 'demo')
  assert.equal(bad({ 'meshctl-namespace': 'a/b' }), null)
  assert.equal(bad({}, { port: 0 }), null)
  assert.equal(bad({}, { service: 'Web Server' }), null)
  assert.equal(bad({ 'meshctl-link-port': '99999' })?.linkPort, null)
  assert.equal(bad({ 'meshctl-service-port': 'x' })?.servicePort, 8080)
  assert.equal(bad({ 'meshctl-protocol': 'gopher' })?.protocol, 'auto')
  const odd = bad({ ['__proto__']: 'x', 'a b': 'x' })
  assert.deepEqual(Object.keys(odd?.labels ?? {}), ['team', 'tier', 'version'])
})

test('an instance cannot be where no instance is: whatever the registry says, nobody is led there', () => {
  const at = (address: string): boolean =>
    meshInstance(asInstance(registrationOf(declaration, facts), { address }), 'demo') !== null
  for (const address of [
    '169.254.169.254',
    '::ffff:169.254.169.254',
    '::ffff:a9fe:a9fe',
    'fe80::1',
    '0.0.0.0',
    '::',
    '240.240.1.1',
    '224.0.0.1',
    '255.255.255.255',
    '2852039166',
    '0xa9.254.43518',
    '0xa9fea9fe',
    '10.0.0.1","status":"200',
    '10.0.0.1\n',
    'a b',
    '',
    '../x',
  ]) {
    assert.equal(at(address), false, address)
  }
  for (const address of ['10.0.0.1', '127.0.0.1', 'fd00::1', 'db.example.com', 'vm-1', 'x_y.internal.'])
    assert.equal(at(address), true, address)
})
