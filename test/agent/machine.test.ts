import assert from 'node:assert/strict'
import { arch, availableParallelism, release, totalmem } from 'node:os'
import { test } from 'node:test'
import { readMachine } from '../../src/agent/machine.ts'

test('the facts of the machine agree with what the runtime knows', async () => {
  const facts = await readMachine()
  assert.equal(facts.kernel, release())
  assert.equal(facts.arch, arch())
  assert.ok(facts.cores >= availableParallelism())
  assert.ok(Math.abs(facts.memoryBytes - totalmem()) < 2 ** 20)
  assert.notEqual(facts.os, '')
})
