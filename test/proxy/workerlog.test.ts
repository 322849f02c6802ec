// What a worker has for the log goes to the supervisor, no more of it than the supervisor takes.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { workerLog } from '../../src/proxy/workerlog.ts'
import type { Line } from '../../src/proxy/workerlog.ts'

test('lines of the wanted level and above are sent, with or without fields', () => {
  const lines: Line[] = []
  const log = workerLog('warn', (line, sent) => {
    lines.push(line)
    sent()
  })
  log.info({ a: 1 }, 'not wanted')
  log.warn({ a: 1 }, 'wanted')
  log.error('without fields')
  assert.deepEqual(lines, [
    { type: 'line', level: 'warn', fields: { a: 1 }, message: 'wanted' },
    { type: 'line', level: 'error', fields: {}, message: 'without fields' },
  ])
})

test('trace sends everything, silent and words that are no level nothing', () => {
  for (const [wanted, count] of [
    ['trace', 1],
    ['debug', 1],
    ['info', 0],
    ['silent', 0],
    ['loud', 0],
  ] as const) {
    let seen = 0
    workerLog(wanted, () => seen++).debug('a line')
    assert.equal(seen, count, wanted)
  }
})

test('a supervisor that takes nothing costs bounded memory; what comes after it took some is sent', () => {
  const waiting: (() => void)[] = []
  const log = workerLog('info', (_line, sent) => waiting.push(sent))
  for (let i = 0; i < 5_000; i++) log.warn('flood')
  assert.equal(waiting.length, 1_000)
  waiting[0]!()
  log.warn('again')
  assert.equal(waiting.length, 1_001)
})
