import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cpu, rss } from '../../bench/measure.ts'
import { details, median, ratiosOf, type Run, table } from '../../bench/report.ts'

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

test('a scenario beside another is compared with our own of that one, round by round', () => {
  const big = (round: number, cost: number): Run => ({ ...run('meshctl', round, cost), scenario: 'config' })
  const runs = [run('meshctl', 1, 20), run('meshctl', 2, 40), big(1, 22), big(2, 42)]
  assert.deepEqual(ratiosOf(runs, new Map([['config', 'h1-c32']])), [
    { scenario: 'config', peer: 'meshctl', median: 1.075, min: 1.05, max: 1.1 },
  ])
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

test('what only one scenario has is told apart from the table', () => {
  const memory = { ...run('meshctl', 1, 0), scenario: 'memory', kb_per_connection: 8, kb_per_link: 70 }
  assert.deepEqual(details([memory, run('nginx', 1, 20)]), [
    "memory, meshctl: KB per idle connection 8, KB per link at the client's end 70",
  ])
})

test('CPU time and memory of a process tree are read from the kernel', () => {
  const before = cpu([process.pid])
  const start = process.cpuUsage()
  const used = (): number => {
    const { user, system } = process.cpuUsage(start)
    return user + system
  }
  while (used() < 50_000) Math.sqrt(before)
  const seen = cpu([process.pid]) - before
  // The kernel brings the running thread's figure up to date at its ticks.
  assert.ok(Math.abs(seen - used()) < 15_000, `${seen} of ${used()} µs`)
  assert.ok(rss([process.pid]) > 10)
  assert.equal(cpu([0x7fffffff]), 0)
})
