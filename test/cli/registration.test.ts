// A service that only calls, as the commands see it: its host is there and well, the registry knows nothing of it.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { isRegistered } from '../../src/cli/registration.ts'
import { keys } from '../../src/registry/registry.ts'
import { declared } from '../compile/mesh.ts'
import { joinHost } from '../control/plane.ts'
import { Place } from './place.ts'

const place = new Place()
before(async () => {
  await place.start()
  await joinHost(place.plane, 'vm1', ['web'])
  await joinHost(place.plane, 'vm3', ['shop'])
  await place.host('vm1', '10.0.0.1', 'web,port=8080,protocol=http,version=v1')
  await place.host('vm3', '10.0.0.3', 'shop,user=shop')
})
after(() => place.close())

test('a host is registered with its lease and what listens on it', async () => {
  const shop = declared('shop', { port: 0, servicePort: 0, unit: null, user: 'shop' })
  const host = { mesh: 'demo', host: 'vm3', services: [shop] }
  assert.equal(await isRegistered(place.registry, host), false)
  await place.registry.put(`${keys.leases('demo')}vm3`, '{}')
  assert.equal(await isRegistered(place.registry, host), true)
  const serving = { ...host, services: [shop, declared('shop', { id: 'shop-2' })] }
  assert.equal(await isRegistered(place.registry, serving), false)
})

test('its host is healthy and lists it; there is no such service to find, and nothing to complain of', async () => {
  const { status, out, err } = await place.run(['status'])
  assert.equal(status, 0, err)
  assert.match(out, /^services {2}1 of 1 healthy$/m)
  assert.match(out, /^hosts {5}2 of 2 healthy$/m)
  assert.match(out, /^vm3 {3}10\.0\.0\.3 {2}healthy .* shop +19h/m)
  const services = await place.run(['service', 'list', '-o', 'name'])
  assert.match(services.out, /^web$/m)
  assert.doesNotMatch(services.out, /shop/)
  const check = await place.run(['check'])
  assert.equal(check.status, 0, check.out)
})
