// Many routes: the index finds what asking them all in their order finds.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Exchange } from '../../src/proxy/chain/exchange.ts'
import type { LiveRoute } from '../../src/proxy/live.ts'
import { compileMatches } from '../../src/proxy/route/match.ts'
import { RouteTable } from '../../src/proxy/route/table.ts'
import type { RouteMatch } from '../../src/snapshot/types.ts'
import { Head } from '../../src/wire/head.ts'

const anything: RouteMatch = {
  path: null,
  method: null,
  authority: null,
  headers: [],
  withoutHeaders: [],
  queryParams: [],
  ignoreUriCase: false,
}
const head = new Head()

function table(matches: readonly (readonly RouteMatch[])[]): RouteTable {
  const routes = matches.map(
    (any, place) => ({ name: String(place), matches: compileMatches(any) }) as unknown as LiveRoute,
  )
  return new RouteTable(routes, matches)
}

function find(of: RouteTable, path: string, method: string): string | null {
  return of.find({ path, method, authority: 'web' } as Exchange, head)?.name ?? null
}

function askAll(of: RouteTable, path: string, method: string): string | null {
  const x = { path, method, authority: 'web' } as Exchange
  return of.routes.find(({ matches }) => matches === null || matches(x, head))?.name ?? null
}

const paths = fc.stringMatching(/^\/[ab]{0,2}(\/[ab]{0,2}){0,2}$/)
const path = fc.record({ kind: fc.constantFrom('exact', 'prefix', 'regex' as const), value: paths })
const match = fc.record({
  path: fc.option(path, { nil: null }),
  method: fc.option(fc.constant({ kind: 'exact' as const, value: 'POST' }), { nil: null }),
  ignoreUriCase: fc.boolean(),
})
const matches = fc.array(fc.array(match, { maxLength: 2 }), { minLength: 9, maxLength: 40 })

test('the first route that matches is found, however many there are', () => {
  fc.assert(
    fc.property(matches, fc.array(paths, { minLength: 1, maxLength: 20 }), (some, asked) => {
      // Routes that match always would hide all behind them: they only come last.
      const rules = some.map((any) => any.map((one) => ({ ...anything, ...one })))
      const of = table(rules.filter((any) => compileMatches(any) !== null))
      for (const one of asked) {
        for (const method of ['GET', 'POST']) {
          assert.equal(find(of, `${one}?q=1`, method), askAll(of, `${one}?q=1`, method))
        }
      }
    }),
    { numRuns: 300 },
  )
})

test('one of a thousand routes, the one that takes the rest, and none', () => {
  const rules = Array.from({ length: 1000 }, (_, i) => [
    { ...anything, path: { kind: i % 2 === 0 ? 'exact' : 'prefix', value: `/s/${1000 + i}` } } as RouteMatch,
  ])
  const of = table(rules)
  assert.equal(find(of, '/s/1998', 'GET'), '998')
  assert.equal(find(of, '/s/1999/x', 'GET'), '999')
  assert.equal(find(of, '/s/1004/x', 'GET'), null)
  assert.equal(find(table([...rules, [anything]]), '/s/1004/x', 'GET'), '1000')
})
