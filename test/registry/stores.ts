// The part of the contract about what is built on keys: virtual addresses, the config store, the watcher.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '../../src/clock.ts'
import { changeObjects, getObject, listObjects, putObject, removeObject } from '../../src/registry/config.ts'
import type { ConfigObject } from '../../src/registry/config.ts'
import { keys } from '../../src/registry/registry.ts'
import type { Entry, Registry } from '../../src/registry/registry.ts'
import { claim, listVips, release } from '../../src/registry/vip.ts'
import { watch } from '../../src/registry/watch.ts'
import { code, eventually, fresh } from './place.ts'

export function stores(given: () => Registry): void {
  test('a service gets one address, whoever claims it and however often', async () => {
    const r = given()
    const mesh = fresh('mesh')
    const claims = await Promise.all(Array.from({ length: 6 }, () => claim(r, mesh, 'default', 'web')))
    assert.equal(new Set(claims).size, 1, claims.join(' '))
    assert.match(claims[0] ?? '', /^240\.240\.\d+\.\d+$/)
    assert.equal(await claim(r, mesh, 'default', 'web'), claims[0])
    const others = await Promise.all(Array.from({ length: 12 }, (_, at) => claim(r, mesh, 'shop', `s${at}`)))
    assert.equal(new Set([...others, ...claims]).size, 13, 'no two services share one')
    const listed = await listVips(r, mesh)
    assert.equal(listed.length, 13)
    assert.deepEqual(
      listed.find(({ service }) => service === 'web'),
      { service: 'web', namespace: 'default', address: claims[0] },
    )
    await release(r, mesh, 'default', 'web')
    assert.equal((await listVips(r, mesh)).length, 12)
    assert.equal(
      await claim(r, mesh, 'default', 'web'),
      claims[0],
      'the same name leads to the same place again',
    )
  })

  test('services whose names meet at one address get neighbours', async () => {
    const r = given()
    const mesh = fresh('mesh')
    const first = await claim(r, mesh, 'default', 'web')
    await release(r, mesh, 'default', 'web')
    // Another service sits where `web` would.
    await r.put(`${keys.vips(mesh)}${first}`, JSON.stringify({ service: 'squatter', namespace: 'default' }))
    const [one, two] = await Promise.all([claim(r, mesh, 'default', 'web'), claim(r, mesh, 'default', 'web')])
    assert.equal(one, two)
    assert.notEqual(one, first)
    assert.equal(await claim(r, mesh, 'default', 'squatter'), first)
  })

  test('objects are stored, listed, changed by who saw them, and removed', async () => {
    const r = given()
    const mesh = fresh('mesh')
    const name = { kind: 'VirtualService', namespace: 'default', name: 'web' }
    assert.equal(await getObject(r, mesh, name), null)
    await putObject(r, mesh, object('web', { n: 1 }), '0')
    const seen = await getObject(r, mesh, name)
    assert.deepEqual(seen?.object, object('web', { n: 1 }))
    await assert.rejects(putObject(r, mesh, object('web', { n: 2 }), '0'), code('MSH0304'))
    await putObject(r, mesh, object('web', { n: 2 }), seen.index)
    await assert.rejects(putObject(r, mesh, object('web', { n: 3 }), seen.index), code('MSH0304'))
    await assert.rejects(removeObject(r, mesh, name, seen.index), code('MSH0304'))
    await putObject(r, mesh, object('web', { n: 4 }), null)
    await putObject(r, mesh, { ...object('rule', {}), kind: 'DestinationRule' }, null)
    const all = (await listObjects(r, mesh)).value.objects.map((stored) => stored.object.kind)
    assert.deepEqual(all, ['DestinationRule', 'VirtualService'])
    const some = (await listObjects(r, mesh, { kind: 'VirtualService' })).value.objects
    assert.deepEqual(
      some.map((stored) => stored.object.spec),
      [{ n: 4 }],
    )
    await removeObject(r, mesh, name, some[0]?.index ?? null)
    assert.equal(await getObject(r, mesh, name), null)
  })

  test('several objects are changed at once or not at all', async () => {
    const r = given()
    const mesh = fresh('mesh')
    await putObject(r, mesh, object('a', {}), '0')
    const changes = [
      { put: object('b', {}), index: '0' },
      { put: object('a', { late: true }), index: '0' },
    ]
    await assert.rejects(changeObjects(r, mesh, changes), code('MSH0304'))
    assert.equal((await listObjects(r, mesh)).value.objects.length, 1)
    const many = Array.from({ length: 65 }, (_, at) => ({ put: object(`o${at}`, {}), index: null }))
    await assert.rejects(changeObjects(r, mesh, many), code('MSH0303'))
    await changeObjects(r, mesh, many.slice(0, 64))
    assert.equal((await listObjects(r, mesh)).value.objects.length, 65)
    const bad = { ...object('x', {}), metadata: { name: '../../escape', namespace: 'default' } }
    await assert.rejects(putObject(r, mesh, bad, null), code('MSH0201'))
  })

  test('what is no object is told, and hides nothing', async () => {
    const r = given()
    const mesh = fresh('mesh')
    await putObject(r, mesh, object('good', {}), null)
    const at = (name: string) => keys.resource(mesh, 'VirtualService', 'default', name)
    await r.put(at('text'), 'not json')
    await r.put(at('list'), '[]')
    await r.put(at('other'), JSON.stringify(object('good', { stolen: true })))
    const { objects, problems } = (await listObjects(r, mesh)).value
    assert.deepEqual(
      objects.map((stored) => stored.object),
      [object('good', {})],
    )
    assert.deepEqual(
      problems.map(({ key }) => key),
      [at('list'), at('other'), at('text')],
    )
    await assert.rejects(
      getObject(r, mesh, { kind: 'VirtualService', namespace: 'default', name: 'text' }),
      code('MSH0303'),
    )
  })

  test('a watcher is told what there is and each change after it', async (t) => {
    const r = given()
    const prefix = `${fresh('watch')}/`
    await r.put(`${prefix}a`, '1')
    const abort = new AbortController()
    t.after(() => abort.abort())
    const told: Entry[][] = []
    const ended = watch({
      poll: (query) => r.list(prefix, query),
      changed: (value) => told.push(value),
      clock: systemClock,
      signal: abort.signal,
    })
    const last = () =>
      told
        .at(-1)
        ?.map(({ value }) => value)
        .join(',')
    await eventually(() => last() === '1', 'the first value')
    await r.put(`${prefix}b`, '2')
    await eventually(() => last() === '1,2', 'an added key')
    await r.put(`${prefix}a`, '3')
    await r.put(`${prefix}a`, '4')
    await eventually(() => last() === '4,2', 'the latest value')
    await r.delete(prefix, { recurse: true })
    await eventually(() => last() === '', 'the end')
    abort.abort()
    await ended
  })
}

function object(name: string, spec: unknown): ConfigObject {
  return {
    apiVersion: 'networking.istio.io/v1',
    kind: 'VirtualService',
    metadata: { name, namespace: 'default' },
    spec,
  }
}
