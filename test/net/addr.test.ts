import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isLoopback, parseAddress, plainAddress, printAddress } from '../../src/net/addr.ts'

test('addresses are read and printed', () => {
  assert.deepEqual(parseAddress('10.0.0.1:80'), { address: '10.0.0.1', port: 80 })
  assert.deepEqual(parseAddress('[fd00::1]:80'), { address: 'fd00::1', port: 80 })
  assert.deepEqual(parseAddress('[FD00:0::1]:80'), { address: 'fd00::1', port: 80 })
  for (const bad of ['', '10.0.0.1', '10.0.0.1:', '10.0.0.1:x', '10.0.0.1:65536', 'web:80', ':80']) {
    assert.equal(parseAddress(bad), null, bad)
  }
  assert.equal(printAddress('10.0.0.1', 80), '10.0.0.1:80')
  assert.equal(printAddress('fd00::1', 80), '[fd00::1]:80')
})

test('one address has one form', () => {
  assert.equal(plainAddress('::ffff:10.0.0.1'), '10.0.0.1')
  assert.equal(plainAddress('FD00:0:0::1'), 'fd00::1')
  assert.equal(plainAddress('10.0.0.1'), '10.0.0.1')
  assert.ok(isLoopback('127.9.9.9') && isLoopback('::1') && !isLoopback('10.0.0.1'))
})
