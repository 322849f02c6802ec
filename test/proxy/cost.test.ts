// What one request costs two hops, in figures that are the same on a busy machine and a quiet one: bytes allocated on the
// heap, and system calls that read or write. Not time, and not instructions: counting those needs hardware counters,
// which virtual machines seldom have. The bounds lie
// a tenth above what was measured; whoever lowers the cost lowers them.
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import net from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { Authority, Caller, Instance, listen } from './hops.ts'

// The compiler works in turn with the program, not beside it: on a busy machine it would be late, and code that is not
// optimized allocates more.
setFlagsFromString('--no-concurrent-recompilation')

/** Per request, both hops together. */
interface Cost {
  readonly bytes: number
  readonly calls: number
}

const request = Buffer.from(
  'GET /things/1?page=2 HTTP/1.1\r\nhost: web.default.mesh:8080\r\nuser-agent: cost\r\naccept: */*\r\n\r\n',
)
const body = 'x'.repeat(1024)
const answer = Buffer.from(
  `HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
)
const headEnd = Buffer.from('\r\n\r\n')
const warm = 4000
/** The cheapest of so many batches counts: in the others the compiler was still at work. Of so many requests, since the
 * heap counts what it gives out in pages. */
const batches = 3
const batch = 4000

/** An application that answers whatever comes as one piece. */
function application(t: TestContext): Promise<number> {
  return listen(
    t,
    net.createServer({ noDelay: true }, (socket) => {
      socket.on('data', (chunk: Buffer) => {
        if (chunk.includes(headEnd)) socket.write(answer)
      })
    }),
  )
}

/** So many requests over some connections at once; resolves when all are answered. */
async function ask(t: TestContext, port: number, connections: number, requests: number): Promise<void> {
  let left = requests
  const one = (): Promise<void> => {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const socket = net.connect({ port, host: '127.0.0.1', noDelay: true })
    t.after(() => socket.destroy())
    let bytes = 0
    let size = 0
    const next = (): void => {
      if (left-- > 0) socket.write(request)
      else {
        socket.destroy()
        resolve()
      }
    }
    socket.on('error', reject)
    socket.on('connect', next)
    socket.on('data', (chunk: Buffer) => {
      if (size === 0) {
        const end = chunk.indexOf(headEnd)
        assert.ok(end > 0 && chunk.latin1Slice(0, 12) === 'HTTP/1.1 200', chunk.latin1Slice(0, 200))
        size = end + headEnd.length + body.length
      }
      bytes += chunk.length
      if (bytes < size) return
      bytes = size = 0
      next()
    })
    return promise
  }
  await Promise.all(Array.from({ length: connections }, one))
}

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
  { connections: 1, bound: { bytes: 6500, calls: 8.1 } },
  { connections: 32, bound: { bytes: 4800, calls: 5.2 } },
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
