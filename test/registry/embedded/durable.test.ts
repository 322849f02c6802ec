import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { FakeClock, systemClock } from '../../../src/clock.ts'
import { connectRegistry } from '../../../src/registry/client.ts'
import type { Registry } from '../../../src/registry/registry.ts'
import { watch } from '../../../src/registry/watch.ts'
import { configFor, embedded, eventually, managementToken } from '../place.ts'

function folderFor(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'registry-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

function client(t: TestContext, port: number): Registry {
  const registry = connectRegistry(configFor(`http://127.0.0.1:${port}`, { token: managementToken }))
  t.after(() => registry.close())
  return registry
}

async function startProcess(t: TestContext, dbPath: string): Promise<{ port: number; child: ChildProcess }> {
  const child = spawn(
    process.execPath,
    [
      '--disable-warning=ExperimentalWarning',
      fileURLToPath(import.meta.resolve('./store.ts')),
      dbPath,
      managementToken,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  t.after(() => child.kill('SIGKILL'))
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  return { port: Number(line.toString()), child }
}

test('whatever was answered is there after kill -9', async (t) => {
  const dbPath = join(folderFor(t), 'registry.db')
  const first = await startProcess(t, dbPath)
  const writer = client(t, first.port)
  await writer.register(
    {
      node: 'vm1',
      address: '10.0.0.1',
      id: 'web-1',
      service: 'web',
      port: 80,
      tags: ['v1'],
      meta: { a: 'b' },
    },
    { status: 'passing', output: 'ok' },
  )
  const answered = new Map<string, string>()
  let going = true
  const ended = Promise.all(
    Array.from({ length: 8 }, async (_, worker) => {
      for (let at = 0; going; at++) {
        const key = `k/${worker}/${at % 20}`
        try {
          await writer.put(key, String(at))
          answered.set(key, String(at))
        } catch {
          return
        }
      }
    }),
  )
  await eventually(() => answered.size === 160, 'all keys were written')
  const index = (await writer.list('k/')).index
  first.child.kill('SIGKILL')
  await once(first.child, 'exit')
  going = false
  await ended

  const second = await startProcess(t, dbPath)
  const reader = client(t, second.port)
  const after = await reader.list('k/')
  const found = new Map(after.value.map(({ key, value }) => [key, value]))
  for (const [key, value] of answered) {
    // A write that was under way may have been made, one that was answered must have been.
    assert.ok(Number(found.get(key)) >= Number(value), `${key}: ${found.get(key)} after ${value}`)
  }
  assert.ok(BigInt(after.index) >= BigInt(index), 'the index never goes back')
  const [instance] = (await reader.instances('web')).value
  assert.equal(instance?.passing, true)
  assert.deepEqual(instance.meta, { a: 'b' })
  await reader.put('k/new', 'x')
  assert.ok(BigInt((await reader.get('k/new')).index) > BigInt(after.index))
  assert.equal(statSync(dbPath).mode & 0o777, 0o600)
})

test('a watcher goes on over a restart of the registry, without being told the same again', async (t) => {
  const dbPath = join(folderFor(t), 'registry.db')
  let server = await embedded({ dbPath })
  t.after(() => server.close())
  const { port } = server
  const registry = client(t, port)
  await registry.put('w/a', '1')
  const abort = new AbortController()
  t.after(() => abort.abort())
  const told: string[] = []
  let failures = 0
  const ended = watch({
    poll: (query) => registry.list('w/', query),
    changed: (entries) => told.push(entries.map(({ value }) => value).join()),
    failed: () => failures++,
    clock: systemClock,
    signal: abort.signal,
  })
  await eventually(() => told.length === 1 && server.waiting() === 1, 'it waits')
  await server.close()
  await eventually(() => failures > 0, 'it noticed')
  server = await embedded({ dbPath, port })
  await eventually(() => server.waiting() === 1, 'it waits again')
  assert.deepEqual(told, ['1'])
  await registry.put('w/a', '2')
  await eventually(() => told.at(-1) === '2', 'it sees what is new')
  abort.abort()
  await ended
})

test('sessions and TTL checks live on over a restart with their whole time before them', async (t) => {
  const dbPath = join(folderFor(t), 'registry.db')
  const before = await embedded({ dbPath })
  const first = client(t, before.port)
  const session = await first.createSession({ name: 'lock', ttlSeconds: 10 })
  assert.equal(await first.acquire('lock', 'held', session), true)
  await first.agentRegister(
    { address: '10.0.0.1', id: 'web-1', service: 'web', port: 80, tags: [], meta: {} },
    10,
  )
  await first.agentPass('service:web-1', 'passing', 'fine')
  await before.close()

  const clock = new FakeClock()
  const after = await embedded({ dbPath, clock })
  t.after(() => after.close())
  const second = client(t, after.port)
  const state = async () => (await second.instances('web')).value[0]?.passing
  assert.equal(await state(), true)
  clock.advance(9000)
  assert.equal(await state(), true)
  clock.advance(1000)
  await eventually(async () => (await state()) === false, 'the check ran out')
  assert.equal(await second.renewSession(session), true)
  clock.advance(19_000)
  assert.equal(await second.renewSession(session), true)
  clock.advance(20_000)
  await eventually(async () => !(await second.renewSession(session)), 'the session ran out')

  // The lock delay: 15 s in which nobody else gets it.
  const next = await second.createSession({ name: 'next', ttlSeconds: 60 })
  clock.advance(14_000)
  assert.equal(await second.acquire('lock', 'next', next), false)
  clock.advance(1000)
  assert.equal(await second.acquire('lock', 'next', next), true)
})

test('the index of a prefix does not go back when its deleted keys are forgotten', async (t) => {
  const clock = new FakeClock()
  const server = await embedded({ clock })
  t.after(() => server.close())
  const registry = client(t, server.port)
  await registry.put('p/a', '1')
  await registry.put('p/b', '2')
  await registry.delete('p/b')
  const deleted = await registry.list('p/')
  clock.advance(16 * 60_000)
  // The next deletion anywhere sweeps.
  await registry.put('q', 'x')
  await registry.delete('q')
  assert.ok(BigInt((await registry.list('p/')).index) >= BigInt(deleted.index))
})

test('keys of a session that deletes go with it', async (t) => {
  const server = await embedded()
  t.after(() => server.close())
  const url = `http://127.0.0.1:${server.port}/v1`
  const headers = { 'x-consul-token': managementToken }
  const body = JSON.stringify({ Behavior: 'delete', LockDelay: '0s', TTL: '10s' })
  const made = (await (await fetch(`${url}/session/create`, { method: 'PUT', headers, body })).json()) as {
    ID: string
  }
  const registry = client(t, server.port)
  assert.equal(await registry.acquire('held', 'x', made.ID), true)
  await registry.destroySession(made.ID)
  assert.equal((await registry.get('held')).value, null)
})
