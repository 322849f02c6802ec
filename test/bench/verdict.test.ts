import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ratiosOf, type Run } from '../../bench/report.ts'
import { verdicts } from '../../bench/verdict.ts'

const run = (system: string, cost: number, more: Partial<Run> = {}): Run => ({
  scenario: 'h1-c4',
  system,
  round: 1,
  cpu_us_per_request: cost,
  rps: 1000,
  p50_ms: 1,
  p99_ms: 2,
  p999_ms: 3,
  rss_mb: 50,
  ...more,
})

test('the peer that needs least is the one that counts, and Envoy has a bar of its own', () => {
  const runs = [run('meshctl', 20), run('nginx', 25), run('haproxy', 40), run('envoy', 100)]
  const scenarios = [{ name: 'h1-c4', bars: { best: 0.7, envoy: 0.4 } }]
  assert.deepEqual(verdicts(runs, ratiosOf(runs), scenarios), [
    "h1-c4, CPU ÷ the best peer's (nginx): 0.80, bar 0.7: missed",
    "h1-c4, CPU ÷ Envoy's: 0.20, bar 0.4: reached",
  ])
})

test('the floor is no peer: what it leaves to the best of them is told, and it is not judged', () => {
  const runs = [run('meshctl', 20), run('floor', 10), run('nginx', 40), run('haproxy', 16)]
  assert.deepEqual(verdicts(runs, ratiosOf(runs), [{ name: 'h1-c4', bars: { best: 0.7 } }]), [
    "h1-c4, CPU ÷ the best peer's (haproxy): 1.25, bar 0.7: missed",
    "h1-c4, the floor's CPU ÷ the best peer's (haproxy): 0.63",
  ])
})

test('the 99th percentile is compared with the lowest of the peers', () => {
  const runs = [
    run('meshctl', 20, { p99_ms: 5 }),
    run('nginx', 25, { p99_ms: 4 }),
    run('envoy', 100, { p99_ms: 6 }),
  ]
  assert.deepEqual(verdicts(runs, [], [{ name: 'h1-c4', bars: { p99: true } }]), [
    'h1-c4, p99 against nginx: 5.00 ms, bar 4 ms: missed',
  ])
})

test('memory and updates are judged by fields of their own', () => {
  const runs = [
    run('meshctl', 0, { scenario: 'memory', rss_mb: 69, kb_per_connection: 12.5 }),
    run('envoy', 0, { scenario: 'memory', rss_mb: 90, kb_per_connection: 99 }),
    run('meshctl', 900, { scenario: 'update', apply_ms: 20, pause_ms: 8 }),
  ]
  assert.deepEqual(verdicts(runs, ratiosOf(runs), []), [
    'memory of an idle worker: 69.00 MB, bar 70 MB: reached',
    'memory of an idle connection: 12.50 KB, bar 12 KB: missed',
    'update, from push to answer: 20.00 ms, bar 20 ms: reached',
    'update, longest pause: 8.00 ms, bar 10 ms: reached',
  ])
})
