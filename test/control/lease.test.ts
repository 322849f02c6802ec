// The reaper against the real embedded registry; time is held still and moved by hand.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { FakeClock } from '../../src/clock.ts'
import { pollMs, Reaper } from '../../src/control/lease.ts'
import { ReaperLock } from '../../src/control/lock.ts'
import { Store } from '../../src/control/store.ts'
import { makeLog } from '../../src/log.ts'
import { connectRegistry } from '../../src/registry/client.ts'
import { startEmbedded } from '../../src/registry/embedded/server.ts'
import type { Embedded } from '../../src/registry/embedded/server.ts'
import { keys, leaseCheckId, leaseExpiryMs } from '../../src/registry/registry.ts'
import type { Registry } from '../../src/registry/registry.ts'

const log = makeLog('control', 'silent')
const mesh = 'demo'
let dir = ''
let clock: FakeClock
let embedded: Embedded
let registry: Registry
let store: Store
/** How often leases were asked for; `down` makes the registry unreachable. */
let down = false

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'meshctl-lease-'))
  clock = new FakeClock(Date.now())
  down = false
  const managementToken = 'management-token-of-the-tests'
  // Sessions follow the machine's clock here: what is tested is the reaper's.
  embedded = await startEmbedded({
    dbPath: ':memory:',
    host: '127.0.0.1',
    port: 0,
    managementToken,
    entitlementOf: () => null,
    log,
    clock,
  })
  const config = {
    url: `http://127.0.0.1:${embedded.port}`,
    token: managementToken,
    ca: null,
    spiffe: null,
    localAgent: null,
  }
  registry = connectRegistry(config)
  store = new Store(join(dir, 'control.db'))
})

afterEach(async () => {
  registry.close()
  const closing = embedded.close()
  clock.advance(200)
  await closing
  store.close()
  rmSync(dir, { recursive: true })
})

function makeReaper(ownStore: Store = store): Reaper {
  const lock = new ReaperLock({ registry, store: ownStore, mesh, clock })
  const reached = {
    list: (prefix: string) => (down ? Promise.reject(new Error('unreachable')) : registry.list(prefix)),
    nodes: () => registry.nodes(),
    nodeChecks: (node: string) => registry.nodeChecks(node),
    setCheck: (...check: Parameters<Registry['setCheck']>) => registry.setCheck(...check),
  }
  return new Reaper({ registry: reached, lock, mesh, clock, log })
}

async function addHost(host: string): Promise<void> {
  const service = {
    node: host,
    address: '10.0.0.11',
    id: `web-${host}`,
    service: 'web',
    port: 8080,
    tags: [],
    meta: {},
  }
  await registry.register(service, { status: 'passing', output: '' })
  await renew(host)
}

let beat = 0
const renew = (host: string): Promise<void> => registry.put(`${keys.leases(mesh)}${host}`, String(++beat))

async function passing(): Promise<string[]> {
  const { value } = await registry.instances('web')
  return value
    .filter((instance) => instance.passing)
    .map(({ node }) => node)
    .toSorted()
}

/** Polls once a second for `ms`, renewing the leases of `alive` as their agents would. */
async function run(reaper: Reaper, ms: number, alive: readonly string[] = []): Promise<void> {
  for (let elapsed = 0; elapsed < ms; elapsed += pollMs) {
    clock.advance(pollMs)
    if (elapsed % 3000 === 0) for (const host of alive) await renew(host)
    await reaper.poll()
  }
}

test('a host whose lease stands still leaves the healthy set within 15 s, and comes back when it moves', async () => {
  const reaper = makeReaper()
  await addHost('vm1')
  await addHost('vm2')
  await run(reaper, 6000, ['vm1', 'vm2'])
  assert.deepEqual(await passing(), ['vm1', 'vm2'])
  // vm1 renews once more and dies at this moment.
  await renew('vm1')
  let dead = 0
  while ((await passing()).includes('vm1')) {
    await run(reaper, pollMs, dead % 3000 === 0 ? ['vm2'] : [])
    dead += pollMs
    assert.ok(dead <= 15_000, 'still healthy after 15 s')
  }
  assert.ok(dead >= leaseExpiryMs, `marked after ${dead} ms already`)
  assert.ok(dead <= 12_000, `marked only after ${dead} ms`)
  assert.deepEqual(await passing(), ['vm2'])
  const check = (await registry.nodeChecks('vm1')).find(({ id }) => id === leaseCheckId)
  assert.match(check?.output ?? '', /no sign of life from vm1/)
  await run(reaper, 30_000, ['vm2'])
  assert.deepEqual(await passing(), ['vm2'])
  await run(reaper, 2000, ['vm1', 'vm2'])
  assert.deepEqual(await passing(), ['vm1', 'vm2'])
  await reaper.close()
})

test('hosts without a lease are never touched', async () => {
  const reaper = makeReaper()
  await addHost('vm1')
  const own = {
    node: 'consul-node',
    address: '10.0.0.9',
    id: 'web-c',
    service: 'web',
    port: 1,
    tags: [],
    meta: {},
  }
  await registry.register(own, { status: 'passing', output: '' })
  await run(reaper, 30_000)
  assert.deepEqual(await passing(), ['consul-node'])
  assert.equal(
    (await registry.nodeChecks('consul-node')).some(({ id }) => id === leaseCheckId),
    false,
  )
  await reaper.close()
})

test('a restart of control gives every host a full period, and clears what it marked before', async () => {
  const first = makeReaper()
  await addHost('vm1')
  await addHost('vm2')
  await run(first, 20_000, ['vm2'])
  assert.deepEqual(await passing(), ['vm2'])
  await first.close()
  clock.advance(60_000)
  const second = makeReaper()
  await run(second, 9000)
  assert.deepEqual(await passing(), ['vm2'], 'vm2 had no full period')
  await run(second, 4000, ['vm1'])
  assert.deepEqual(await passing(), ['vm1'], 'vm1 moved, vm2 had its period')
  await second.close()
})

test('a registry that was down makes nobody unhealthy: every host gets a full period after it', async () => {
  const reaper = makeReaper()
  await addHost('vm1')
  await run(reaper, 5000, ['vm1'])
  down = true
  await run(reaper, 60_000)
  down = false
  await run(reaper, 9000)
  assert.deepEqual(await passing(), ['vm1'])
  await run(reaper, 4000)
  assert.deepEqual(await passing(), [])
  await reaper.close()
})

test('a control that stood still judges nobody by it', async () => {
  const reaper = makeReaper()
  await addHost('vm1')
  await run(reaper, 5000, ['vm1'])
  clock.advance(9000)
  await run(reaper, 5000)
  assert.deepEqual(await passing(), ['vm1'])
  await reaper.close()
})

test('a host that left is not brought back by its lease', async () => {
  const reaper = makeReaper()
  await addHost('vm1')
  await run(reaper, 5000, ['vm1'])
  await registry.deregisterNode('vm1')
  await run(reaper, 20_000)
  assert.ok(!(await registry.nodes()).value.some(({ name }) => name === 'vm1'))
  await registry.delete(`${keys.leases(mesh)}vm1`)
  await addHost('vm1')
  await run(reaper, 5000, ['vm1'])
  assert.deepEqual(await passing(), ['vm1'])
  await reaper.close()
})

test('of two controls one judges; the other takes over when it stops, or is killed and comes back', async () => {
  const otherStore = new Store(join(dir, 'other.db'))
  const first = makeReaper()
  const second = makeReaper(otherStore)
  await addHost('vm1')
  await first.poll()
  await run(second, 20_000)
  assert.deepEqual(await passing(), ['vm1'], 'the second has no lock')
  await first.close()
  await run(second, 16_000)
  assert.deepEqual(await passing(), [], 'the second took over')
  // The second is killed: a new process with its state takes the lock back at once.
  const again = makeReaper(otherStore)
  await run(again, 2000, ['vm1'])
  await run(again, 2000, ['vm1'])
  assert.deepEqual(await passing(), ['vm1'])
  await again.close()
  otherStore.close()
})
