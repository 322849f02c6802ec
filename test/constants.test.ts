import assert from 'node:assert/strict'
import { test } from 'node:test'
import { withConstants } from '../scripts/constants.ts'

function of(code: string): string {
  return withConstants('bundle.js', code)
}

test('what is never assigned again becomes a constant', () => {
  assert.equal(of('var a = 1;\nvar B = class {\n};'), 'const a = 1;\nconst B = class {\n};')
  // A member that changes is no other variable.
  assert.equal(of('var a = [];\na[0] = 1;\na.b.c++;'), 'const a = [];\na[0] = 1;\na.b.c++;')
})

test('what is assigned anywhere stays a variable', () => {
  for (const change of [
    'a = 2',
    'a += 2',
    'a ??= 2',
    'a++',
    '--a',
    '[a] = [2]',
    '[b, ...a] = [2]',
    '({ a } = {})',
    '({ b: a } = {})',
    '({ b: [a = 2] } = {})',
    'for (a of []);',
    'for (a in {});',
    'for ([a] of []);',
    'function f() { a = 2 }',
    'const f = () => (a = 2)',
    // Another variable of that name: not worth telling apart.
    'function f(a) { a = 2 }',
  ]) {
    const code = `var a = 1;\nlet b;\n${change};`
    assert.equal(of(code), code)
  }
})

test('what a constant cannot say stays a variable', () => {
  for (const code of [
    'var a;',
    'var a = 1, b = 2;',
    'var a = 1;\nvar a = 2;',
    'var { a } = b;',
    'let a = 1;',
    'function f() { var a = 1; }',
  ]) {
    assert.equal(of(code), code)
  }
})

test('a bundle that is no program is refused', () => {
  assert.throws(() => of('var a = ;'), /bundle\.js/)
})
