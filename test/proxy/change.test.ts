// Everything that changes while traffic runs: secrets, snapshots, drains.
import assert from 'node:assert/strict'
import http from 'node:http'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { MeshError } from '../../src/errors.ts'
import {
  Authority,
  callerSnapshot,
  Caller,
  Client,
  eventually,
  Instance,
  listen,
  shopId,
  webId,
} from './hops.ts'
import type { Calls } from './hops.ts'
import { Load } from './load.ts'

const authority = new Authority()

async function start(t: TestContext, text = 'hello'): Promise<Instance> {
  const app = http.createServer((request, response) => {
    request.resume()
    request.on('end', () => response.end(text))
  })
  return new Instance(t, await listen(t, app), { version: text }).start(authority)
}

const to = (...instances: Instance[]): Calls => ({
  subsets: [{ name: '', weight: 1, endpoints: instances.map((instance) => instance.endpoint()) }],
})

test('certificates are swapped under load without a failed request, and the new ones are used', async (t) => {
  const instance = await start(t)
  const caller = await new Caller(t).start(authority, to(instance))
  const load = new Load(t, caller.port)
  await load.more(50)
  for (let i = 0; i < 5; i++) {
    caller.engine.setSecrets(authority.secrets(shopId))
    await load.more(30)
    instance.engine.setSecrets(authority.secrets(webId))
    await load.more(30)
  }
  await load.stop()
  assert.deepEqual([...load.statuses.keys()], [200])
})

test('roots can be exchanged: old trust ends for new connections only', async (t) => {
  const instance = await start(t)
  const caller = await new Caller(t).start(authority, to(instance))
  const client = new Client(t, caller.port).send('GET / HTTP/1.1\r\nHost: w\r\n\r\n')
  await client.untilText('hello')
  const next = new Authority()
  instance.engine.setSecrets(next.secrets(webId))
  client.received = Buffer.alloc(0)
  client.send('GET / HTTP/1.1\r\nHost: w\r\n\r\n')
  await client.untilText('hello')
  caller.engine.setSecrets(next.secrets(shopId))
  client.received = Buffer.alloc(0)
  client.send('GET / HTTP/1.1\r\nHost: w\r\n\r\n')
  await client.untilText('hello')
})

test('bad secrets are rejected and the old ones stay', async (t) => {
  const instance = await start(t)
  const caller = await new Caller(t).start(authority, to(instance))
  const one = authority.leaf(shopId)
  const other = authority.leaf(shopId)
  assert.throws(
    () =>
      caller.engine.setSecrets({
        roots: authority.roots,
        leafs: [{ spiffe: shopId, chain: one.chain, key: other.key, notAfter: 0 }],
      }),
    (error: unknown) =>
      error instanceof MeshError && error.code === 'MSH0704' && !error.message.includes('PRIVATE'),
  )
  const client = new Client(t, caller.port).send('GET / HTTP/1.1\r\nHost: w\r\n\r\n')
  await client.untilText('hello')
})

test('snapshots are swapped under load: instances come and go, no request fails', async (t) => {
  const one = await start(t, 'one')
  const two = await start(t, 'two')
  const caller = await new Caller(t).start(authority, to(one))
  const load = new Load(t, caller.port)
  await load.more(50)
  for (let i = 0; i < 10; i++) {
    caller.apply(i % 3 === 0 ? to(one, two) : i % 3 === 1 ? to(two) : to(one))
    await load.more(20)
  }
  await load.stop()
  assert.deepEqual([...load.statuses.keys()], [200])
})

test('a snapshot that cannot be linked changes nothing and says why', async (t) => {
  const instance = await start(t)
  const caller = await new Caller(t).start(authority, to(instance))
  const good = callerSnapshot(to(instance))
  const bad = [
    { ...good, hash: 'a', identities: [] },
    { ...good, hash: 'b', clusters: [] },
    {
      ...callerSnapshot({
        ...to(instance),
        route: {
          matches: [
            {
              path: { kind: 'regex' as const, value: '(' },
              method: null,
              authority: null,
              headers: [],
              withoutHeaders: [],
              queryParams: [],
              ignoreUriCase: false,
            },
          ],
        },
      }),
    },
  ]
  for (const snapshot of bad) {
    assert.throws(
      () => caller.engine.apply(snapshot),
      (error: unknown) => error instanceof MeshError && error.code === 'MSH0701' && error.message.length > 10,
    )
  }
  const client = new Client(t, caller.port).send('GET / HTTP/1.1\r\nHost: w\r\n\r\n')
  await client.untilText('hello')
})

test('a service port that is gone answers in words on standing connections', async (t) => {
  const instance = await start(t)
  const caller = await new Caller(t).start(authority, to(instance))
  const client = new Client(t, caller.port).send('GET / HTTP/1.1\r\nHost: w\r\n\r\n')
  await client.untilText('hello')
  caller.engine.apply({ ...callerSnapshot(to(instance)), outbound: [], clusters: [] })
  client.send('GET / HTTP/1.1\r\nHost: w\r\n\r\n')
  await client.untilText('x-meshctl-reason: no_route')
})

test('drain: what runs is finished, connections end with their response, new ones are refused', async (t) => {
  let release: (() => void) | null = null
  const app = http.createServer((_request, response) => {
    release = () => response.end('late')
  })
  const instance = await new Instance(t, await listen(t, app), {}).start(authority)
  const caller = await new Caller(t).start(authority, to(instance))
  const client = new Client(t, caller.port).send('GET / HTTP/1.1\r\nHost: w\r\n\r\n')
  await eventually(() => release !== null, 'the request')
  const drained = [caller.engine.drain(5000), instance.engine.drain(5000)]
  const refused = await new Client(t, caller.port).untilClosed()
  assert.equal(refused.text, '')
  ;(release as (() => void) | null)?.()
  await client.untilText('late')
  assert.match(client.text, /connection: close\r\n/)
  await client.untilClosed()
  client.socket.end()
  assert.deepEqual(await Promise.all(drained), [0, 0])
})

test('drain of one instance under load costs no request', async (t) => {
  const one = await start(t, 'one')
  const two = await start(t, 'two')
  const caller = await new Caller(t).start(authority, to(one, two))
  const load = new Load(t, caller.port)
  await load.more(100)
  const open = await one.engine.drain(3000)
  await load.more(100)
  await load.stop()
  assert.equal(open, 0)
  assert.deepEqual([...load.statuses.keys()], [200])
})

test('drain gives up at its deadline and says how many were open', async (t) => {
  const app = http.createServer(() => {})
  const instance = await new Instance(t, await listen(t, app), {}).start(authority)
  const caller = await new Caller(t).start(authority, to(instance))
  new Client(t, caller.port).send('GET / HTTP/1.1\r\nHost: w\r\n\r\n')
  await eventually(() => instance.engine.endpoints()[0]?.active === 1, 'the request')
  assert.equal(await caller.engine.drain(100), 1)
})
