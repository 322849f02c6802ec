// The supervisor with real worker processes that misbehave on demand (standin.ts).
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { once } from 'node:events'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { systemClock } from '../../src/clock.ts'
import { makeLog } from '../../src/log.ts'
import { bindSocket } from '../../src/proxy/sockets.ts'
import { Supervisor } from '../../src/proxy/supervisor.ts'
import type { SupervisorOptions } from '../../src/proxy/supervisor.ts'
import { diff } from '../../src/snapshot/change.ts'
import type { Push, Snapshot } from '../../src/snapshot/types.ts'
import { emptySnapshot } from './snapshots.ts'

const standin = join(import.meta.dirname, 'standin.ts')

function start(
  t: TestContext,
  workers: number,
  snapshot: Snapshot | null = null,
  more: Partial<SupervisorOptions> = {},
): { supervisor: Supervisor; port: number } {
  const dir = mkdtempSync(join(tmpdir(), 'supervisor-'))
  const socket = bindSocket('link', '127.0.0.1', 0)
  const supervisor = new Supervisor({
    clock: systemClock,
    log: makeLog('test', 'silent'),
    workers,
    sockets: [socket],
    command: [standin],
    accessLog: join(dir, 'access.log'),
    applyTimeoutMs: 1000,
    awakeWithinMs: 1000,
    ...more,
  })
  t.after(() => {
    supervisor.close()
    socket.close()
    rmSync(dir, { recursive: true })
  })
  supervisor.start({ roots: '', leafs: [] }, snapshot)
  return { supervisor, port: socket.port }
}

async function until(what: () => boolean): Promise<void> {
  const deadline = performance.now() + 20_000
  while (!what()) {
    assert.ok(performance.now() < deadline, `never: ${what.toString()}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** pid, hash and number of leafs of the worker that took the connection. */
function call(port: number, word = 'who'): Promise<string[]> {
  return new Promise((resolve, reject) => {
    let answer = ''
    const socket = connect(port, '127.0.0.1', () => socket.write(word))
    socket.on('data', (bytes) => (answer += bytes.toString()))
    socket.on('error', reject)
    socket.on('close', () => resolve(answer.split(' ')))
  })
}

test('a snapshot is applied by all workers, a refused one by none', async (t) => {
  const { supervisor, port } = start(t, 2)
  const good = emptySnapshot('good')
  assert.deepEqual(await supervisor.handle({ type: 'snapshot', snapshot: good }), {
    type: 'applied',
    hash: good.hash,
  })
  await until(() => supervisor.live === 2)
  assert.equal(supervisor.isReady, true)
  const bad = emptySnapshot('refuse')
  assert.deepEqual(await supervisor.handle({ type: 'snapshot', snapshot: bad }), {
    type: 'rejected',
    hash: bad.hash,
    reason: 'the stand-in refuses',
  })
  assert.equal((await call(port))[1], good.hash)
  assert.deepEqual(await supervisor.handle({ type: 'ping' }), {
    type: 'pong',
    hash: good.hash,
    workers: 2,
    version: '0.1.0',
  })
})

test('a snapshot that only some workers take is taken back from those', async (t) => {
  const { supervisor, port } = start(t, 3)
  const good = emptySnapshot('good')
  await supervisor.handle({ type: 'snapshot', snapshot: good })
  await until(() => supervisor.live === 3)
  const dir = mkdtempSync(join(tmpdir(), 'first-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const reply = await supervisor.handle({
    type: 'snapshot',
    snapshot: emptySnapshot('first-only', { mesh: join(dir, 'first') }),
  })
  assert.equal(reply.type, 'rejected')
  for (let i = 0; i < 30; i++) assert.equal((await call(port))[1], good.hash)
  assert.equal(supervisor.live, 3)
})

/** What makes `next` of `base`, as the agent sends it. */
function patching(base: Snapshot, next: Snapshot): Push {
  return { type: 'patch', base: base.hash, hash: next.hash, change: diff(base, next)! }
}

test('a patch is applied by all workers, and those that start later get the whole', async (t) => {
  const { supervisor, port } = start(t, 2)
  const [one, two] = [emptySnapshot('one'), emptySnapshot('two')]
  await supervisor.handle({ type: 'snapshot', snapshot: one })
  await until(() => supervisor.live === 2)
  assert.deepEqual(await supervisor.handle(patching(one, two)), { type: 'applied', hash: two.hash })
  assert.deepEqual(supervisor.snapshot, two)
  await call(port, 'crash')
  await until(() => supervisor.live === 1)
  // A patch while a worker is missing: its successor begins with all that came meanwhile.
  const three = emptySnapshot('three')
  assert.equal((await supervisor.handle(patching(two, three))).type, 'applied')
  await until(() => supervisor.live === 2)
  for (let i = 0; i < 20; i++) assert.equal((await call(port))[1], three.hash)
})

test('a patch for another snapshot, or that gives another, asks for the whole and changes nothing', async (t) => {
  const { supervisor, port } = start(t, 1)
  const [one, two, three] = [emptySnapshot('one'), emptySnapshot('two'), emptySnapshot('three')]
  assert.deepEqual(await supervisor.handle(patching(one, two)), { type: 'mismatch', hash: '' })
  await supervisor.handle({ type: 'snapshot', snapshot: one })
  for (const push of [
    patching(two, three),
    { ...patching(one, two), hash: three.hash },
    { type: 'patch', base: one.hash, hash: two.hash, change: { lists: { host: [] } } },
  ] as Push[]) {
    assert.deepEqual(await supervisor.handle(push), { type: 'mismatch', hash: one.hash })
    assert.equal((await call(port))[1], one.hash)
  }
  assert.equal((await supervisor.handle(patching(one, two))).type, 'applied')
})

test('a patch that a worker refuses, crashes over or takes alone leaves all with what was before', async (t) => {
  const { supervisor, port } = start(t, 3)
  const dir = mkdtempSync(join(tmpdir(), 'first-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const good = emptySnapshot('good')
  await supervisor.handle({ type: 'snapshot', snapshot: good })
  for (const bad of [
    emptySnapshot('refuse'),
    emptySnapshot('first-only', { mesh: join(dir, 'first') }),
    emptySnapshot('crash'),
  ]) {
    await until(() => supervisor.live === 3)
    assert.equal((await supervisor.handle(patching(good, bad))).type, 'rejected')
    assert.deepEqual(supervisor.snapshot, good)
    await until(() => supervisor.live === 3)
    for (let i = 0; i < 10; i++) assert.equal((await call(port))[1], good.hash)
  }
  const next = emptySnapshot('next')
  assert.equal((await supervisor.handle(patching(good, next))).type, 'applied')
  for (let i = 0; i < 10; i++) assert.equal((await call(port))[1], next.hash)
})

test('content that does not match its hash, and other schemas, reach no worker', async (t) => {
  const { supervisor } = start(t, 1)
  const snapshot = { ...emptySnapshot('good'), mesh: 'other' }
  const reply = await supervisor.handle({ type: 'snapshot', snapshot })
  assert.equal(reply.type, 'rejected')
  const next = { ...emptySnapshot('good'), schema: 2 } as unknown as Snapshot
  assert.match(JSON.stringify(await supervisor.handle({ type: 'snapshot', snapshot: next })), /schema 2/)
  assert.equal(supervisor.isReady, false)
})

test('a worker that crashes over a snapshot rejects it and comes back with the one before', async (t) => {
  const { supervisor, port } = start(t, 2)
  const good = emptySnapshot('good')
  await supervisor.handle({ type: 'snapshot', snapshot: good })
  await until(() => supervisor.live === 2)
  const reply = await supervisor.handle({ type: 'snapshot', snapshot: emptySnapshot('crash') })
  assert.equal(reply.type, 'rejected')
  assert.equal(supervisor.hash, good.hash)
  await until(() => supervisor.live === 2)
  assert.equal((await call(port))[1], good.hash)
})

test('a worker that hangs over a snapshot rejects it and is replaced', async (t) => {
  const { supervisor, port } = start(t, 2)
  const good = emptySnapshot('good')
  await supervisor.handle({ type: 'snapshot', snapshot: good })
  await until(() => supervisor.live === 2)
  const reply = await supervisor.handle({ type: 'snapshot', snapshot: emptySnapshot('hang') })
  assert.match(JSON.stringify(reply), /rejected.*did not answer/)
  await until(() => supervisor.live === 1)
  await until(() => supervisor.live === 2)
  for (let i = 0; i < 10; i++) assert.equal((await call(port))[1], good.hash)
})

test('a worker that crashes under traffic is replaced with the same config, and the others serve on', async (t) => {
  const { supervisor, port } = start(t, 2)
  const good = emptySnapshot('good')
  await supervisor.handle({ type: 'snapshot', snapshot: good })
  await until(() => supervisor.live === 2)
  await call(port, 'crash').catch(() => undefined)
  // Both before and after the replacement somebody answers.
  for (let i = 0; i < 20; i++) assert.equal((await call(port))[1], good.hash)
  await until(() => supervisor.live === 2)
  const { text } = await supervisor.stats()
  assert.match(text, /meshctl_proxy_worker_restarts_total 1\n/)
})

test('a worker that hangs under traffic is ended and replaced, and the others serve on', async (t) => {
  const good = emptySnapshot('good')
  const { supervisor, port } = start(t, 2, good, { lookEveryMs: 500 })
  await until(() => supervisor.live === 2)
  const stuck = connect(port, '127.0.0.1', () => stuck.write('hang'))
  const cut = once(stuck, 'close')
  stuck.on('error', () => undefined)
  await cut
  await until(() => supervisor.live === 2)
  for (let i = 0; i < 10; i++) assert.equal((await call(port))[1], good.hash)
  assert.match((await supervisor.stats()).text, /meshctl_proxy_worker_restarts_total 1\n/)
})

test('a worker that crashes again and again waits longer each time', async (t) => {
  const { supervisor, port } = start(t, 1, emptySnapshot('good'))
  const took: number[] = []
  for (let i = 0; i < 4; i++) {
    await until(() => supervisor.live === 1)
    await call(port, 'crash').catch(() => undefined)
    const began = performance.now()
    await until(() => supervisor.live === 0)
    await until(() => supervisor.live === 1)
    took.push(performance.now() - began)
  }
  // Waits are 0, 100–200, 200–400, 400–800 ms.
  assert.ok(took[3]! >= 400, took.join())
})

test('what a killed worker counted is kept though nobody had asked for it', async (t) => {
  const { supervisor, port } = start(t, 1, emptySnapshot('good'), { lookEveryMs: 500 })
  await until(() => supervisor.live === 1)
  const counted = (): boolean => JSON.stringify(supervisor.tally.dump()).includes('standin_applied_total')
  await until(counted)
  process.kill(Number((await call(port))[0]), 'SIGKILL')
  await until(() => supervisor.live === 0)
  assert.ok(counted())
})

test('when every worker is stuck the pong says that nothing is served, so that capture lapses', async (t) => {
  const { supervisor, port } = start(t, 1)
  const snapshot = emptySnapshot('good')
  await supervisor.handle({ type: 'snapshot', snapshot })
  const stuck = connect(port, '127.0.0.1', () => stuck.write('hang'))
  stuck.on('error', () => undefined)
  t.after(() => stuck.destroy())
  let pong = await supervisor.handle({ type: 'ping' })
  assert.ok(pong.type === 'pong' && pong.hash === snapshot.hash)
  const deadline = performance.now() + 20_000
  while (pong.type === 'pong' && pong.hash !== '') {
    assert.ok(performance.now() < deadline)
    pong = await supervisor.handle({ type: 'ping' })
  }
  assert.deepEqual(pong, { type: 'pong', hash: '', workers: 0, version: '0.1.0' })
})

test('metrics of all workers are added up, those of crashed ones stay', async (t) => {
  const { supervisor, port } = start(t, 2)
  await supervisor.handle({ type: 'snapshot', snapshot: emptySnapshot('good') })
  await until(() => supervisor.live === 2)
  const first = await supervisor.handle({ type: 'stats' })
  assert.ok(first.type === 'stats')
  assert.match(first.text, /standin_applied_total 2\n/)
  assert.match(first.text, /meshctl_proxy_workers 2\n/)
  assert.deepEqual(first.endpoints, [{ cluster: 'c', endpoint: 'e', ejected: false, active: 2 }])
  await call(port, 'crash').catch(() => undefined)
  await until(() => supervisor.live === 1)
  await until(() => supervisor.live === 2)
  assert.match((await supervisor.stats()).text, /standin_applied_total 3\n/)
})

test('config from before the start is in force without the agent; secrets come with it', async (t) => {
  const good = emptySnapshot('good')
  const { supervisor, port } = start(t, 1, good)
  await until(() => supervisor.isReady)
  assert.deepEqual((await call(port)).slice(1), [good.hash, '0'])
  const leaf = { spiffe: 'spiffe://mesh.test/host/good', chain: '', key: '', notAfter: 0 }
  const reply = await supervisor.handle({ type: 'secrets', secrets: { roots: '', leafs: [leaf] } })
  assert.deepEqual(reply, { type: 'applied', hash: good.hash })
  assert.equal((await call(port))[2], '1')
})

test('a snapshot on disk that is refused, or that no worker survives, is dropped and a push mends it', async (t) => {
  for (const host of ['refuse', 'crash']) {
    const { supervisor } = start(t, 1, emptySnapshot(host))
    await until(() => supervisor.live === 1)
    assert.equal(supervisor.isReady, false)
    const good = emptySnapshot('good')
    assert.deepEqual(await supervisor.handle({ type: 'snapshot', snapshot: good }), {
      type: 'applied',
      hash: good.hash,
    })
  }
})

test('drain ends the workers, tells what was cut off, and nothing comes back', async (t) => {
  const { supervisor, port } = start(t, 2)
  await supervisor.handle({ type: 'snapshot', snapshot: emptySnapshot('good') })
  await until(() => supervisor.live === 2)
  assert.deepEqual(await supervisor.handle({ type: 'drain', timeout: 1000 }), { type: 'drained', open: 2 })
  await until(() => supervisor.live === 0)
  assert.equal(supervisor.isReady, false)
  assert.ok(port > 0)
})
