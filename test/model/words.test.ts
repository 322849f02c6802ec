import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ageText, formatDuration, parseDuration } from '../../src/model/duration.ts'
import { isLabelValue, isName, nameFault, serviceOf } from '../../src/model/name.ts'
import { nearest } from '../../src/model/near.ts'
import { parseText, printPath } from '../../src/model/text.ts'

test('durations', () => {
  const table: [string, number | null][] = [
    ['2s', 2000],
    ['500ms', 500],
    ['1h30m', 5_400_000],
    ['1.5s', 1500],
    ['0s', 0],
    ['0', 0],
    ['', null],
    ['5', null],
    ['s', null],
    ['-1s', null],
    ['2 s', null],
    ['2d', null],
    ['1s2', null],
  ]
  for (const [text, ms] of table) assert.equal(parseDuration(text), ms, text)
  assert.deepEqual([0, 1, 1500, 5_400_000].map(formatDuration), ['0s', '1ms', '1s500ms', '1h30m'])
  assert.deepEqual([9000, 600_000, 5 * 3_600_000, 28 * 3_600_000, 30 * 86_400_000].map(ageText), [
    '9s',
    '10m',
    '5h',
    '1d4h',
    '30d',
  ])
})

test('names', () => {
  assert.ok(['a', 'web', 'web-1', '0', 'a'.repeat(63)].every(isName))
  assert.ok(!['', '-a', 'a-', 'A', 'a.b', 'a_b', 'ä', 'a'.repeat(64)].some(isName))
  assert.match(nameFault('x'.repeat(64)) ?? '', /64 characters/)
  assert.ok(['v1', '1.2_3-b', ''].every(isLabelValue))
  assert.ok(!['-', 'a b', 'a/'].some(isLabelValue))
})

test('a host of a resource names a service of the mesh or nothing', () => {
  const table: [string, string | null][] = [
    ['web', 'web.shop'],
    ['web.other', 'web.other'],
    ['web.other.mesh', 'web.other'],
    ['Web.Other.mesh.', 'web.other'],
    ['web.service.consul', 'web.shop'],
    ['www.example.com', null],
    ['a.b.c.mesh', null],
    ['*', null],
    ['', null],
  ]
  for (const [host, expected] of table) {
    const found = serviceOf(host, 'shop')
    assert.equal(found === null ? null : `${found.service}.${found.namespace}`, expected, host)
  }
})

test('did you mean', () => {
  assert.equal(nearest('prot', ['port', 'protocol']), 'port')
  assert.equal(nearest('stauts', ['start', 'status']), 'status')
  assert.equal(nearest('xyz', ['port', 'status']), null)
})

test('text keeps lines and bounds aliases', () => {
  const { documents } = parseText('a:\n  - b: 1\n  - c: 2\n---\nd: 3\n', 'f')
  assert.equal(documents.length, 2)
  assert.equal(documents[0]?.line(['a', 1, 'c']), 3)
  assert.equal(documents[0].line(['a', 1, 'missing']), 3)
  assert.equal(documents[1]?.line(['d']), 5)
  assert.equal(printPath(['spec', 'http', 0, 'headers', 'x.y']), 'spec.http[0].headers["x.y"]')
  const bomb = `a: &a [x,x,x,x,x,x,x,x,x]
b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]
c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]
d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]
e: [*d,*d,*d,*d,*d,*d,*d,*d,*d]
`
  assert.equal(parseText(bomb, 'f').documents.length, 0)
  assert.match(parseText(bomb, 'f').problems[0]?.message ?? '', /alias/)
  assert.match(parseText('a: 1\na: 2\n', 'f').problems[0]?.message ?? '', /unique/)
})
