// All exchanges of the process share one hidden class, whatever filters and ways they go through: a field added on the
// way would make every access to every exchange slower.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { systemClock } from '../../src/clock.ts'
import { Deadline, Wheel } from '../../src/net/wheel.ts'
import { Exchange } from '../../src/proxy/chain/exchange.ts'
import { compileChain } from '../../src/proxy/chain/filter.ts'
import { blame, causes } from '../../src/proxy/chain/reply.ts'
import type { Core } from '../../src/proxy/core.ts'
import { identity, requestId } from '../../src/proxy/filter/header.ts'
import { timeout } from '../../src/proxy/filter/timeout.ts'
import type { Live, Scope, Target } from '../../src/proxy/live.ts'

setFlagsFromString('--allow-natives-syntax')
// oxlint-disable-next-line typescript/no-implied-eval -- the syntax is V8's own; no parser of ours knows it.
const haveSameMap = new Function('a', 'b', 'return %HaveSameMap(a, b)') as (a: object, b: object) => boolean
setFlagsFromString('--no-allow-natives-syntax')

test('exchanges keep one shape through every filter, try and failure', (t) => {
  const wheel = new Wheel(systemClock)
  t.after(() => wheel.close())
  const core = { clock: systemClock, wheel } as Core
  const target = { fallback: compileChain([]) } as unknown as Target
  const scope = { adds: ['x-forwarded-client-cert', 'a'] as readonly string[] } as Scope
  const make = (): Exchange => new Exchange(core, {} as Live, {} as Exchange['downstream'], scope, target)

  const plain = make()
  const busy = make()
  for (const filter of [requestId, identity, timeout(1000)]) filter?.onRequest?.(busy)
  busy.armTry(1000)
  busy.armRetry(1000)
  assert.ok(busy.routeDeadline instanceof Deadline)
  busy.route = {} as Exchange['route']
  busy.tried = []
  busy.kept = Buffer.alloc(1)
  busy.requestTrailers = ['a', 'b']
  busy.requestDrops = ['a']
  busy.bytesIn = 2 ** 40
  busy.duration = 0.5
  blame(busy, causes.timeout, 'late')
  busy.disarm()
  assert.ok(haveSameMap(plain, busy))
  assert.equal(haveSameMap(plain, Object.assign(busy, { late: 1 })), false)
})
