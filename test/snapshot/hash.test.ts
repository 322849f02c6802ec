import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deepFreeze } from '../../src/snapshot/freeze.ts'
import { canonical, hashOf } from '../../src/snapshot/hash.ts'

test('canonical bytes do not depend on the order of members', () => {
  assert.equal(canonical({ b: [1, { d: null, c: 'x' }], a: true }), '{"a":true,"b":[1,{"c":"x","d":null}]}')
  assert.equal(hashOf({ a: 1, b: 2 }), hashOf({ b: 2, a: 1 }))
  assert.notEqual(hashOf({ a: [1, 2] }), hashOf({ a: [2, 1] }))
  assert.equal(canonical({ a: undefined, b: 1 }), '{"b":1}')
})

test('deepFreeze reaches every level', () => {
  const frozen = deepFreeze({ list: [{ deep: { deeper: 1 } }] })
  assert.ok(Object.isFrozen(frozen.list[0]?.deep))
})
