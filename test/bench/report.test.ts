import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cpu, rss } from '../../bench/measure.ts'
import { median, ratiosOf, type Run, table } from '../../bench/report.ts'

const run = (system: string, round: number, cost: number): Run => ({
  scenario: 'h1-c32',
  system,
  round,
  cpu_us_per_request: cost,
  rps: 1000,
  p50_ms: 1,
  p99_ms: 2,
  p999_ms: 3,
  rss_mb: 50,
})

test('ratios compare rounds of one number, so that drift of the machine cancels out', () => {
  const runs = [1, 2, 3].flatMap((round) => [
    run('meshctl', round, 20 * round),
    run('nginx', round, 40 * round),
    run('direct', round, 0),
  ])
  assert.deepEqual(ratiosOf(runs), [{ scenario: 'h1-c32', peer: 'nginx', median: 0.5, min: 0.5, max: 0.5 }])
})

test('a peer that was not there has no ratio', () => {
  assert.deepEqual(ratiosOf([run('meshctl', 1, 20), run('direct', 1, 0)]), [])
})

test('median of odd and even many', () => {
  assert.equal(median([3, 1, 2]), 2)
  assert.equal(median([4, 1, 2, 3]), 2.5)
})

test('the table has a line for each system and the ratio beside the peer', () => {
  const runs = [run('meshctl', 1, 20), run('nginx', 1, 25), run('direct', 1, 0)]
  const lines = table(runs, ratiosOf(runs)).split('\n')
  assert.equal(lines.length, 4)
  assert.match(lines[2] ?? '', /nginx.*25\.0.*0\.80 \(0\.80–0\.80\)/)
})

test('CPU time and memory of a process tree are read from the kernel', () => {
  const before = cpu([process.pid])
  const end = performance.now() + 60
  while (performance.now() < end) Math.sqrt(end)
  assert.ok(cpu([process.pid]) - before >= 30_000, 'three ticks of 10 ms were used')
  assert.ok(rss([process.pid]) > 10)
  assert.equal(cpu([0x7fffffff]), 0)
})
