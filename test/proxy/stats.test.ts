import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Stats } from '../../src/proxy/stats.ts'

test('the same name and labels give the same instrument, in any order of labels', () => {
  const stats = new Stats()
  const first = stats.counter('requests_total', 'Requests.', { a: '1', b: '2' })
  assert.equal(stats.counter('requests_total', 'Requests.', { b: '2', a: '1' }), first)
  first.add(2)
  assert.notEqual(stats.counter('requests_total', 'Requests.', { a: '2', b: '1' }), first)
  assert.throws(() => stats.gauge('requests_total', 'Requests.'), /is a counter/)
})

test('Prometheus text: counters, gauges, histograms, escaped labels', () => {
  const stats = new Stats()
  stats.counter('b_total', 'Back\\slash.', { path: 'a"b\\c\nd' }).add(3)
  stats.gauge('a', 'A gauge.').set(1.5)
  const histogram = stats.histogram('c_ms', 'Time.', { x: 'y' }, [1, 10])
  for (const value of [0.5, 1, 5, 100]) histogram.observe(value)
  assert.equal(
    Stats.text(stats.dump()),
    `# HELP a A gauge.
# TYPE a gauge
a 1.5
# HELP b_total Back\\\\slash.
# TYPE b_total counter
b_total{path="a\\"b\\\\c\\nd"} 3
# HELP c_ms Time.
# TYPE c_ms histogram
c_ms_bucket{x="y",le="1"} 2
c_ms_bucket{x="y",le="10"} 3
c_ms_bucket{x="y",le="+Inf"} 4
c_ms_sum{x="y"} 106.5
c_ms_count{x="y"} 4
`,
  )
})

test('dumps of several processes add up after a trip through JSON', () => {
  const dumps = [1, 2].map((n) => {
    const stats = new Stats()
    stats.counter('a_total', 'A.', { worker: 'any' }).add(n)
    stats.counter('a_total', 'A.', { only: `${n}` }).add(1)
    stats.histogram('b', 'B.', {}, [1]).observe(n)
    return JSON.parse(JSON.stringify(stats.dump())) as ReturnType<Stats['dump']>
  })
  const text = Stats.text(Stats.merge(dumps))
  assert.match(text, /a_total\{worker="any"\} 3\n/)
  assert.match(text, /a_total\{only="1"\} 1\n/)
  assert.match(text, /a_total\{only="2"\} 1\n/)
  assert.match(text, /b_bucket\{le="1"\} 1\nb_bucket\{le="\+Inf"\} 2\nb_sum 3\nb_count 2\n/)
})

test('labels that peers choose cannot grow the table without bound', () => {
  const stats = new Stats()
  for (let i = 0; i < 5000; i++) stats.counter('c_total', 'C.', { peer: `${i}` }).add(1)
  const series = stats.dump()[0]!.series
  assert.equal(series.length, 2001)
  assert.deepEqual(series.at(-1), { labels: { overflow: 'true' }, values: [3000] })
})
