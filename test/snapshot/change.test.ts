import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { diff, patch, type Change } from '../../src/snapshot/change.ts'
import { equal } from '../../src/snapshot/equal.ts'
import { deepFreeze } from '../../src/snapshot/freeze.ts'
import { canonical, snapshotHash } from '../../src/snapshot/hash.ts'
import type { Snapshot } from '../../src/snapshot/types.ts'
import { clientSnapshot } from '../../bench/system/snapshot.ts'
import { anySnapshot } from './snapshots.ts'

const sent = (change: Change): Change => JSON.parse(JSON.stringify(change)) as Change

/** 20 services with 10 routes and 50 endpoints each. */
const large = clientSnapshot({
  protocol: 'http',
  backendPort: 8000,
  vip: '240.240.0.1',
  outboundPort: 15001,
  linkPort: 15008,
  instances: 1,
  others: { services: 20, routes: 10, endpoints: 50 },
})

describe('diff and patch', () => {
  test('patch(old, diff(old, next)) is next, whatever the two are, to the byte of the hash', () => {
    fc.assert(
      fc.property(anySnapshot, anySnapshot, (old, next) => {
        deepFreeze(old)
        deepFreeze(next)
        const change = diff(old, next)
        if (change === null) return assert.equal(canonical(old), canonical(next))
        const result = patch(old, sent(change))
        assert.deepEqual(result, next)
        assert.equal(snapshotHash(result), next.hash)
      }),
      { numRuns: 2000 },
    )
  })

  test('equal snapshots have no difference', () => {
    fc.assert(
      fc.property(anySnapshot, (snapshot) => {
        assert.equal(diff(snapshot, structuredClone(snapshot)), null)
      }),
    )
  })

  test('one endpoint that moves is little to send, and everything else is the same object', () => {
    const next = moved(large, 7)
    const change = diff(large, next) ?? assert.fail()
    assert.ok(JSON.stringify(change).length < 600, JSON.stringify(change))
    const result = patch(large, sent(change))
    assert.deepEqual(result, next)
    assert.ok(result.outbound === large.outbound && result.settings === large.settings)
    for (const [at, cluster] of result.clusters.entries()) {
      assert.equal(cluster === large.clusters[at], at !== 7)
      for (const [place, endpoint] of cluster.endpoints.entries())
        assert.equal(endpoint === large.clusters[at]?.endpoints[place], at !== 7 || place !== 0)
    }
  })

  test('a service that comes moves the places of the others, and is all that is sent', () => {
    const [web, first, ...rest] = large.outbound
    const without: Snapshot = reindexed({
      ...large,
      outbound: [web!, ...rest],
      clusters: large.clusters.toSpliced(1, 1),
    })
    for (const [old, next] of [
      [without, large],
      [large, without],
    ] as const) {
      const change = diff(old, next) ?? assert.fail()
      const room = next === large ? JSON.stringify([first, large.clusters[1]]).length : 0
      assert.ok(JSON.stringify(change).length < room + 400, JSON.stringify(change).slice(0, 2000))
      const result = patch(old, sent(change))
      assert.deepEqual(result, next)
      // Its routes lead elsewhere by number, and match as they did.
      const service = result.outbound.at(-1)!
      assert.notEqual(service, old.outbound.at(-1))
      assert.ok(service.ports[0]!.routes[0]!.matches === old.outbound.at(-1)!.ports[0]!.routes[0]!.matches)
    }
  })

  test('a change of another snapshot is an error or gives something else, and touches nothing', () => {
    fc.assert(
      fc.property(anySnapshot, anySnapshot, anySnapshot, (old, next, other) => {
        const change = diff(old, next)
        if (change === null) return
        deepFreeze(other)
        try {
          patch(other, sent(change))
        } catch (error) {
          assert.ok(error instanceof TypeError || error instanceof RangeError)
        }
      }),
    )
    for (const change of [
      { lists: { clusters: [{ from: 0, count: 1e12 }] } },
      { lists: { clusters: [{ from: -1, count: 2 }] } },
      { lists: { clusters: [{ at: 99, change: {} }] } },
      { lists: { host: [] } },
      { lists: { clusters: [{ at: 0, change: { lists: { name: [] } } }] } },
    ] as Change[])
      assert.throws(() => patch(large, change), /item|steps/)
  })
})

test('equality is that of JSON', () => {
  assert.ok(equal({ a: undefined, b: [1, { c: null }] }, { b: [1, { c: null }] }))
  assert.ok(equal({ b: 1 }, { b: 1, a: undefined }))
  for (const [a, b] of [
    [{ a: 1 }, { b: 1 }],
    [{}, { constructor: 1 }],
    [{ constructor: Object }, {}],
    [[1], { 0: 1 }],
    [[1, 2], [1]],
    [null, {}],
    ['1', 1],
  ]) {
    assert.ok(!equal(a, b))
    assert.ok(!equal(b, a))
  }
})

function moved(snapshot: Snapshot, place: number): Snapshot {
  const cluster = snapshot.clusters[place]!
  const endpoints = cluster.endpoints.with(0, { ...cluster.endpoints[0]!, address: '10.1.2.3' })
  const draft = { ...snapshot, clusters: snapshot.clusters.with(place, { ...cluster, endpoints }) }
  return { ...draft, hash: snapshotHash(draft) }
}

/** Its routes lead where their names say. */
function reindexed(snapshot: Snapshot): Snapshot {
  const outbound = snapshot.outbound.map((service) => {
    const cluster = snapshot.clusters.findIndex(({ service: name }) => name === service.service)
    const to = [{ cluster, weight: 100 }]
    const ports = service.ports.map((port) => ({
      ...port,
      tcp: to,
      routes: port.routes.map((route) => ({ ...route, clusters: to })),
    }))
    return { ...service, ports }
  })
  const draft = { ...snapshot, outbound }
  return { ...draft, hash: snapshotHash(draft) }
}
