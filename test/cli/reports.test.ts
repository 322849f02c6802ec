import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readReports } from '../../src/cli/reports.ts'
import type { Registry } from '../../src/registry/registry.ts'

test("what a host says of itself cannot write to the operator's terminal", async () => {
  const evil = '\u001b]0;owned\u0007\u001b[2J\r\nok \u009b31m'
  const report = {
    schema: 1,
    version: evil,
    proxy: evil,
    problems: [evil, { evil }],
    services: [{ name: evil, namespace: evil, status: evil }],
    machine: { os: evil, kernel: evil },
    at: evil,
  }
  const value = [{ key: 'meshctl/demo/reports/vm1', value: JSON.stringify(report), modifyIndex: '1' }]
  const registry = { list: () => Promise.resolve({ index: '1', value }) } as unknown as Registry
  const read = await readReports(registry, 'demo')
  assert.equal(read.length, 1)
  assert.doesNotMatch(
    Object.values(read[0] ?? {})
      .flatMap(leaves)
      .join(''),
    /\p{Cc}/u,
  )
})

function leaves(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return [String(value)]
  return Object.values(value).flatMap(leaves)
}
