// What one request costs two hops, in figures that are the same on a busy machine and a quiet one: bytes allocated on the
// heap, and system calls that read or write; instructions.test.ts has a third. Not time. The bounds lie a tenth above what
// was measured; whoever lowers the cost lowers them.
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { Authority, Caller, Instance } from './hops.ts'
import { application, ask } from './repeat.ts'

// The compiler works in turn with the program, not beside it: on a busy machine it would be late, and code that is not
// optimized allocates more.
setFlagsFromString('--no-concurrent-recompilation')

/** Per request, both hops together. */
interface Cost {
  readonly bytes: number
  readonly calls: number
}

const warm = 4000
/** The cheapest of so many batches counts: in the others the compiler was still at work. Of so many requests, since the
 * heap counts what it gives out in pages. */
const batches = 3
const batch = 4000

async function costOf(t: TestContext, port: number, connections: number): Promise<Cost> {
  await ask(t, port, connections, warm)
  let best: Cost = { bytes: Infinity, calls: Infinity }
  for (let count = 0; count < batches; count++) {
    const [bytes, calls] = [allocated(), systemCalls()]
    await ask(t, port, connections, batch)
    best = {
      bytes: Math.min(best.bytes, (allocated() - bytes) / batch),
      calls: Math.min(best.calls, (systemCalls() - calls) / batch),
    }
  }
  return best
}

/** Since the process began; grows whatever is collected. */
function allocated(): number {
  return (getHeapStatistics() as unknown as { total_allocated_bytes: number }).total_allocated_bytes
}

/** System calls of this process that read or write, all threads. */
function systemCalls(): number {
  const text = readFileSync('/proc/self/io', 'utf8')
  return Number(/^syscr: (\d+)/m.exec(text)?.[1]) + Number(/^syscw: (\d+)/m.exec(text)?.[1])
}

const isCountable = existsSync('/proc/self/io') && 'total_allocated_bytes' in getHeapStatistics()

for (const { connections, bound } of [
  // A read and a write on each of four sockets: one request at a time leaves nothing to gather.
  { connections: 1, bound: { bytes: 5300, calls: 8.1 } },
  { connections: 32, bound: { bytes: 4500, calls: 5.2 } },
]) {
  test(
    `a request on ${connections} connections stays below its bounds`,
    { skip: !isCountable },
    async (t) => {
      const authority = new Authority()
      const app = await application(t)
      const instance = await new Instance(t, app, {}).start(authority)
      const caller = await new Caller(t).start(authority, {
        subsets: [{ name: '', weight: 100, endpoints: [instance.endpoint()] }],
        settings: { accessLog: false },
      })
      // Client and application run in this process too: what they cost without us is taken off.
      const direct = await costOf(t, app, connections)
      const whole = await costOf(t, caller.port, connections)
      const cost = { bytes: whole.bytes - direct.bytes, calls: whole.calls - direct.calls }
      t.diagnostic(
        `${cost.bytes.toFixed(0)} bytes and ${cost.calls.toFixed(2)} calls per request; direct ${direct.bytes.toFixed(0)} and ${direct.calls.toFixed(2)}`,
      )
      assert.ok(cost.bytes > 0 && cost.bytes < bound.bytes, `${cost.bytes} bytes, bound ${bound.bytes}`)
      assert.ok(
        cost.calls > 0 && cost.calls < bound.calls,
        `${cost.calls} system calls, bound ${bound.calls}`,
      )
    },
  )
}
