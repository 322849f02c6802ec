import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compileExpression } from '../../src/net/expression.ts'

const table: [source: string, yes: string[], no: string[]][] = [
  [
    '/api/v\\d+/[a-z]{1,63}',
    ['/api/v1/users', `/api/v10/${'a'.repeat(63)}`],
    [`/api/v1/${'a'.repeat(64)}`, '/api/v1/'],
  ],
  ['[0-9a-f]{32}', ['0'.repeat(32)], ['0'.repeat(31), '0'.repeat(33)]],
  ['(a{10}){3}', ['a'.repeat(30)], ['a'.repeat(29), 'a'.repeat(31)]],
  [
    '(?<id>\\d{2}|x{20,}|[}\\]{2}]{2})?y',
    ['y', '12y', `${'x'.repeat(25)}y`, '}2y', '{]y'],
    [`${'x'.repeat(19)}y`, '1y'],
  ],
  ['a{0}b{0,2}?c', ['c', 'bc', 'bbc'], ['ac', 'bbbc']],
  ['a|b|', ['a', 'b', ''], ['ab']],
  ['\\(\\[\\{.\\}', ['([{x}', '([{\n}'], ['([{}']],
  ['\\x41\\u0042', ['AB'], ['x41u0042']],
]

test('what RE2 takes is taken, counts included, and matches the same as a whole', () => {
  for (const [source, yes, no] of table) {
    const matches = compileExpression(source)
    const same = new RegExp(`^(?:${source})$`, 'su')
    for (const text of [...yes, ...no]) assert.equal(matches(text), same.test(text), `${source} on ${text}`)
    assert.ok(yes.every(matches) && !no.some(matches), source)
  }
})

test('what has no linear answer, is broken or too large is refused', () => {
  const refused = [
    '(a)\\1',
    '(?=a)a',
    '(?<!a)b',
    '(?<n>a)\\k<n>',
    'a)|(?:.*',
    '(a',
    '[',
    '\\z',
    '[[:alpha:]]',
    '\\p{L}',
    '\\u{41}',
    'a{1001}',
    '((a{1,100}){1,100}){1,100}',
    '(?i:a)',
    'a'.repeat(1025),
  ]
  for (const source of refused) assert.throws(() => compileExpression(source), Error, source)
})

test('no expression and no text take long', () => {
  for (const source of [
    '(a+)+b',
    '(a|a)*b',
    '(.*.*.*.*.*.*.*.*)x',
    '([a-z]{1,63}\\.)*x',
    '(?:.*a{0,200})x',
  ]) {
    const matches = compileExpression(source)
    for (const length of [8192, 65_536]) {
      const before = process.threadCpuUsage()
      assert.equal(matches('a'.repeat(length)), false)
      const took = process.threadCpuUsage(before).user / 1000
      assert.ok(took < 1500, `${source} took ${took} ms on ${length} bytes`)
    }
  }
})
