import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { hashOf, snapshotHash } from '../../src/snapshot/hash.ts'
import { settle } from '../../src/snapshot/settle.ts'
import type { Snapshot } from '../../src/snapshot/types.ts'
import { anySnapshot } from './snapshots.ts'

test('with or without one before it is the same, to the byte of the hash', () => {
  fc.assert(
    fc.property(anySnapshot, anySnapshot, (old, { hash, ...next }) => {
      const before = settle(contentOf(old), null)
      const result = settle(next, before)
      assert.deepEqual(result, { ...next, hash })
      assert.equal(result.hash, hashOf(next))
      assert.equal(result.hash, snapshotHash(result))
      assert.deepEqual(settle(next, null), result)
    }),
    { numRuns: 1000 },
  )
})

test('what is as it was is the same object, frozen; what was given is left alone', () => {
  fc.assert(
    fc.property(anySnapshot, (snapshot) => {
      const content = contentOf(snapshot)
      const clusters = new Set(content.clusters.map(({ name }) => name))
      const services = new Set(content.outbound.map(({ fqdn }) => fqdn))
      fc.pre(clusters.size === content.clusters.length && services.size === content.outbound.length)
      const before = settle(content, null)
      const again = settle(structuredClone(content), before)
      assert.ok(again.clusters === before.clusters && again.outbound === before.outbound)
      assert.ok(
        Object.isFrozen(again) && again.clusters.every((cluster) => Object.isFrozen(cluster.endpoints)),
      )
      assert.ok(!Object.isFrozen(content.clusters))
      const more = { ...content, clusters: [...content.clusters, { name: 'more', endpoints: [] }] }
      const result = settle(more as unknown as Omit<Snapshot, 'hash'>, before)
      assert.ok(before.clusters.every((cluster, at) => cluster === result.clusters[at]))
    }),
  )
})

function contentOf(snapshot: Snapshot): Omit<Snapshot, 'hash'> {
  const { hash, ...content } = snapshot
  assert.equal(typeof hash, 'string')
  return content
}
