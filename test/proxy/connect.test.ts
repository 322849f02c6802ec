// Opaque TCP as CONNECT on links, between our own proxies.
import assert from 'node:assert/strict'
import net from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { FakeClock } from '../../src/clock.ts'
import { Authority, Caller, Client, eventually, Instance, listen, shopId, still } from './hops.ts'
import type { Calls, InstanceOptions } from './hops.ts'
import { behind } from './relay.ts'
import type { Relay } from './relay.ts'

const authority = new Authority()
/** A PING frame in a TLS record. */
const pingBytes = 17 + 22

interface App {
  readonly server: net.Server
  /** Its connections, and how many of them broke off. */
  readonly sockets: net.Socket[]
  broken: number
}

/** Says back what it hears, and ends when its caller does. */
function echo(): App {
  const app: App = {
    sockets: [],
    broken: 0,
    server: net.createServer({ allowHalfOpen: true }, (socket) => {
      app.sockets.push(socket)
      socket.on('error', () => app.broken++)
      socket.pipe(socket)
    }),
  }
  return app
}

interface Way {
  readonly app: App
  readonly instance: Instance
  readonly caller: Caller
  readonly relay: Relay
  readonly calls: Calls
}

async function way(
  t: TestContext,
  options: { calls?: Partial<Calls>; instance?: Partial<InstanceOptions>; clock?: FakeClock } = {},
): Promise<Way> {
  const app = echo()
  const instance = await new Instance(t, await listen(t, app.server), {
    protocol: 'tcp',
    ...options.instance,
  }).start(authority)
  const { relay, endpoint } = await behind(t, instance)
  const calls: Calls = {
    protocol: 'tcp',
    subsets: [{ name: '', weight: 1, endpoints: [endpoint] }],
    ...options.calls,
  }
  const caller = await new Caller(t, options.clock).start(authority, calls)
  return { app, instance, caller, relay, calls }
}

/** A connection through which something has come back. */
async function talk(t: TestContext, caller: Caller): Promise<Client> {
  return new Client(t, caller.port).send('hello').untilText('hello')
}

function resets(client: Client): { isReset: boolean } {
  const seen = { isReset: false }
  client.socket.on('error', (error: NodeJS.ErrnoException) => (seen.isReset = error.code === 'ECONNRESET'))
  return seen
}

test('many opaque connections share one link', async (t) => {
  const { caller, relay, instance } = await way(t)
  await talk(t, caller)
  const clients = await Promise.all(Array.from({ length: 50 }, () => talk(t, caller)))
  assert.equal(relay.made, 1)
  for (const client of clients) client.socket.end()
  await Promise.all(clients.map((client) => client.untilClosed()))
  await eventually(() => instance.lines.length === 50 && caller.lines.length === 50, 'the lines')
  assert.ok(instance.lines.every(({ source, flags }) => source === shopId && flags === '-'))
})

test('a link that dies resets all its connections, at both ends', async (t) => {
  const { app, caller, instance, relay } = await way(t)
  const clients = await Promise.all([talk(t, caller), talk(t, caller), talk(t, caller)])
  const seen = clients.map(resets)
  relay.cut()
  await Promise.all(clients.map((client) => client.until(({ isClosed }) => isClosed, 'the end')))
  assert.deepEqual(
    seen.map(({ isReset }) => isReset),
    [true, true, true],
  )
  await eventually(() => app.broken === 3, 'the application to see resets')
  await eventually(() => caller.lines.length === 3 && instance.lines.length === 3, 'the lines')
  assert.deepEqual([caller.lines[0]?.flags, instance.lines[0]?.flags], ['UC', 'DC'])
  assert.equal(caller.engine.endpoints()[0]?.active, 0)
  // The next one makes a new link.
  await talk(t, caller)
})

test('a reset of either side is a reset at the other, and only there', async (t) => {
  const { app, caller, relay } = await way(t)
  const [one, two] = await Promise.all([talk(t, caller), talk(t, caller)])
  const seen = resets(two)
  one.socket.resetAndDestroy()
  await eventually(() => app.broken === 1, 'the application to see it')
  await two.send(' still').untilText('hello still')
  for (const socket of app.sockets) if (!socket.destroyed) socket.resetAndDestroy()
  await two.until(({ isClosed }) => isClosed, 'the end')
  assert.ok(seen.isReset)
  await talk(t, caller)
  assert.equal(relay.made, 1)
})

test('who reads slowly stalls nobody else on the link', async (t) => {
  const { caller, relay } = await way(t)
  const deaf = await talk(t, caller)
  deaf.socket.pause()
  const chunk = Buffer.alloc(65_536, 'x')
  let sent = 0
  const pour = (): void => {
    while (sent < 100_000_000) {
      sent += chunk.length
      if (!deaf.socket.write(chunk)) return
    }
  }
  deaf.socket.on('drain', pour)
  pour()
  await still(() => sent, 'the fast writer to be held back')
  assert.ok(sent < 60_000_000, `${sent}`)
  const bulk = Buffer.alloc(3_000_000, 'abc')
  const quick = await talk(t, caller)
  quick.send(bulk)
  await quick.until(({ received }) => received.length === bulk.length + 5, 'all of it to come back')
  assert.equal(relay.made, 1)
  deaf.socket.destroy()
})

test('an instance whose application refuses is left for another, then left alone', async (t) => {
  const { instance, caller, calls } = await way(t)
  const gone = net.createServer()
  const appPort = await listen(t, gone)
  await new Promise((resolve) => gone.close(resolve))
  const dead = await new Instance(t, appPort, { protocol: 'tcp' }).start(authority)
  caller.apply({
    ...calls,
    subsets: [{ name: '', weight: 1, endpoints: [dead.endpoint(), instance.endpoint()] }],
    cluster: { balancer: 'round-robin' },
  })
  for (let i = 0; i < 4; i++) await talk(t, caller)
  await eventually(() => dead.lines.length === 1, 'the line')
  assert.deepEqual([dead.lines[0]?.flags, dead.lines[0]?.reason], ['UF', 'upstream_connect_failure'])
  assert.deepEqual(
    caller.engine.endpoints().map(({ ejected, active }) => [ejected, active]),
    [
      [true, 0],
      [false, 4],
    ],
  )
})

test('more connections than allowed are refused, and the endpoint is not blamed', async (t) => {
  const { caller } = await way(t, { calls: { cluster: { maxConnections: 2 } } })
  const one = await talk(t, caller)
  await talk(t, caller)
  await new Client(t, caller.port).send('hello').untilClosed()
  await eventually(() => caller.lines.length === 1, 'the line')
  assert.deepEqual([caller.lines[0]?.flags, caller.lines[0]?.reason], ['UO', 'upstream_overflow'])
  assert.equal(caller.engine.endpoints()[0]?.ejected, false)
  one.socket.end()
  await one.untilClosed()
  await talk(t, caller)
})

test('a renewed certificate moves new connections over and cuts none; the old link ends with its last', async (t) => {
  const { caller, relay } = await way(t)
  const old = await talk(t, caller)
  caller.engine.setSecrets(authority.secrets(shopId))
  const young = await talk(t, caller)
  assert.equal(relay.made, 2)
  await old.send(' still').untilText('hello still')
  old.socket.end()
  await old.untilClosed()
  await eventually(() => relay.open === 1, 'the old link to end')
  await young.send(' there').untilText('hello there')
})

test('a connection outlives the certificate that it was opened with', async (t) => {
  const clock = new FakeClock(Date.now())
  const { caller, relay } = await way(t, {
    instance: { clock, settings: { idleTimeout: 2000 } },
  })
  const brief = { ...authority.leaf(shopId, { lifeSeconds: 30 }), spiffe: shopId, notAfter: 0 }
  caller.engine.setSecrets({ roots: authority.roots, leafs: [brief] })
  const client = await talk(t, caller)
  caller.engine.setSecrets(authority.secrets(shopId))
  for (let second = 0; second < 60; second++) {
    const before = client.received.length
    clock.advance(1000)
    client.send('.')
    await client.until(({ received }) => received.length > before, 'an echo')
  }
  assert.equal(relay.made, 1)
  client.socket.end()
  await client.untilClosed()
  await eventually(() => relay.open === 0, 'the link to end')
})

test('a drain lets connections end by themselves, at either side', async (t) => {
  const { caller, instance, relay } = await way(t)
  const client = await talk(t, caller)
  const drained = Promise.all([instance.engine.drain(20_000), caller.engine.drain(20_000)])
  await client.send(' again').untilText('hello again')
  client.socket.end()
  await client.untilClosed()
  assert.deepEqual(await drained, [0, 0])
  await eventually(() => relay.open === 0, 'the link to end')
})

test('a link closes when it has been idle for 90 s, not before', async (t) => {
  const clock = new FakeClock(Date.now())
  const { caller, relay } = await way(t, { clock, instance: { settings: { idleTimeout: 600_000 } } })
  const client = await talk(t, caller)
  client.socket.end()
  await client.untilClosed()
  const isOver = (): boolean => caller.engine.endpoints()[0]?.active === 0
  await eventually(isOver, 'the end of the tunnel')
  clock.advance(80_000)
  await talk(t, caller).then(({ socket }) => socket.end())
  await eventually(isOver, 'the end of the tunnel')
  assert.equal(relay.made, 1)
  clock.advance(100_000)
  await eventually(() => relay.open === 0, 'the link to end')
})

for (const side of ['caller', 'instance'] as const) {
  test(`the ${side} gives a silent peer up after ten seconds; a quiet tunnel stays`, async (t) => {
    const clock = new FakeClock(Date.now())
    const { app, caller, relay } = await way(t, side === 'caller' ? { clock } : { instance: { clock } })
    const client = await talk(t, caller)
    const seen = resets(client)
    // Quiet, but answered: its link is asked now and then whether it lives.
    for (let i = 0; i < 5; i++) {
      const { bytes } = relay
      clock.advance(5000)
      await eventually(() => relay.bytes >= bytes + 2 * pingBytes, 'a ping and its answer')
      const before = client.received.length
      await client.send('.').until(({ received }) => received.length > before, 'an echo')
    }
    relay.silence()
    clock.advance(9000)
    assert.equal(caller.engine.endpoints()[0]?.active, 1)
    clock.advance(6000)
    if (side === 'instance') await eventually(() => app.broken === 1, 'the application to see a reset')
    else {
      await client.until(({ isClosed }) => isClosed, 'the end')
      assert.ok(seen.isReset)
    }
  })
}

test('where connections carry much, each gets one of its own, until they carry little again', async (t) => {
  const { caller, relay } = await way(t)
  const bulk = Buffer.alloc(20_000_000, 'x')
  /** Sends it, has it back, and says how many connections that made. */
  const carry = async (bytes: Buffer): Promise<number> => {
    const { made } = relay
    const client = new Client(t, caller.port)
    let back = 0
    client.socket.removeAllListeners('data').on('data', (chunk: Buffer) => (back += chunk.length))
    client.socket.end(bytes)
    await client.untilClosed()
    assert.equal(back, bytes.length)
    await eventually(() => caller.engine.endpoints()[0]?.active === 0, 'its end')
    return relay.made - made
  }
  const made: number[] = []
  for (const bytes of [bulk, bulk, bulk, bulk.subarray(0, 9), bulk.subarray(0, 9), bulk.subarray(0, 9)]) {
    made.push(await carry(bytes))
  }
  // The first makes the link; 40 MB there and back weigh half at first.
  assert.deepEqual(made, [1, 1, 1, 1, 1, 0])
})
