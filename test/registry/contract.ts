// What every registry must do: run against the embedded one and against a real Consul.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { RegistryConfig } from '../../src/model/host.ts'
import { connectRegistry } from '../../src/registry/client.ts'
import type { Registry } from '../../src/registry/registry.ts'
import { catalogue, localAgent, registration } from './instances.ts'
import { code, fresh } from './place.ts'
import { stores } from './stores.ts'

export interface Target {
  readonly config: RegistryConfig
  close(): Promise<void>
}

export function contract(name: string, start: () => Promise<Target>): void {
  describe(`registry contract: ${name}`, () => {
    let target: Target
    let registry: Registry
    before(async () => {
      target = await start()
      registry = connectRegistry(target.config)
    })
    after(async () => {
      registry.close()
      await target.close()
    })
    const given = (): Registry => registry
    keyValue(given)
    blocking(given)
    transactions(given)
    sessions(given)
    catalogue(given)
    localAgent(given)
    stores(given)
    failures(given, () => target.config)
  })
}

function keyValue(given: () => Registry): void {
  test('a key is absent, set, read, listed and deleted', async () => {
    const r = given()
    const prefix = `${fresh('kv')}/`
    assert.equal((await r.get(`${prefix}a`)).value, null)
    assert.deepEqual((await r.list(prefix)).value, [])
    await r.put(`${prefix}b`, 'second')
    await r.put(`${prefix}a`, 'first')
    const one = await r.get(`${prefix}a`)
    assert.equal(one.value?.value, 'first')
    assert.equal(one.value.key, `${prefix}a`)
    assert.equal(one.value.modifyIndex, one.index)
    const all = await r.list(prefix)
    assert.deepEqual(
      all.value.map(({ key, value }) => [key, value]),
      [
        [`${prefix}a`, 'first'],
        [`${prefix}b`, 'second'],
      ],
    )
    assert.equal(await r.delete(`${prefix}a`), true)
    assert.equal(await r.delete(`${prefix}a`), true, 'deleting what is not there is no failure')
    assert.equal((await r.get(`${prefix}a`)).value, null)
    assert.equal(await r.delete(prefix, { recurse: true }), true)
    assert.deepEqual((await r.list(prefix)).value, [])
  })

  test('keys and values of any characters survive', async () => {
    const r = given()
    const prefix = `${fresh('odd')}/`
    const values = {
      'space and %25': 'a%b',
      'frage?und#raute': 'x&y=z+1',
      'snø/日本': 'héllo wörld ✓',
      empty: '',
      long: 'x'.repeat(100_000),
      json: '{"a":[1,null,"\\u0000"]}',
      'colon:semi;comma,': '\n\ttabs',
    }
    for (const [key, value] of Object.entries(values)) await r.put(prefix + key, value)
    for (const [key, value] of Object.entries(values)) {
      assert.equal((await r.get(prefix + key)).value?.value, value, key)
    }
    const listed = (await r.list(prefix)).value.map(({ key, value }) => [key.slice(prefix.length), value])
    assert.deepEqual(Object.fromEntries(listed), values)
  })

  test('check-and-set: created once, changed only by who saw the last state', async () => {
    const r = given()
    const key = fresh('cas')
    const racers = await Promise.all(Array.from({ length: 8 }, (_, at) => r.cas(key, `racer ${at}`, '0')))
    assert.equal(racers.filter(Boolean).length, 1, 'one of eight creates it')
    const seen = (await r.get(key)).value
    assert.ok(seen)
    assert.equal(await r.cas(key, 'later', '0'), false)
    assert.equal(await r.cas(key, 'later', seen.modifyIndex), true)
    assert.equal(await r.cas(key, 'stale', seen.modifyIndex), false)
    assert.equal((await r.get(key)).value?.value, 'later')
    assert.equal(await r.delete(key, { cas: seen.modifyIndex }), false)
    const now = (await r.get(key)).value
    assert.ok(now)
    assert.equal(await r.delete(key, { cas: now.modifyIndex }), true)
    assert.equal((await r.get(key)).value, null)
  })

  test('an equal value is no change', async () => {
    const r = given()
    const key = fresh('same')
    await r.put(key, 'a')
    const before = await r.get(key)
    await r.put(key, 'a')
    assert.equal((await r.get(key)).value?.modifyIndex, before.value?.modifyIndex)
  })
}

function blocking(given: () => Registry): void {
  test('a blocking query returns when its key changes, not when another does', async () => {
    const r = given()
    const prefix = fresh('block')
    await r.put(`${prefix}/a`, '1')
    const seen = await r.get(`${prefix}/a`)
    let returned = false
    const waiting = r.get(`${prefix}/a`, { index: seen.index, waitMs: 20_000 }).then((answer) => {
      returned = true
      return answer
    })
    await r.put(`${prefix}/b`, 'other')
    assert.equal((await r.get(`${prefix}/b`)).value?.value, 'other')
    assert.equal(returned, false)
    await r.put(`${prefix}/a`, '2')
    const later = await waiting
    assert.equal(later.value?.value, '2')
    assert.ok(BigInt(later.index) > BigInt(seen.index))
  })

  test('a blocking list sees children come, change and go', async () => {
    const r = given()
    const prefix = `${fresh('tree')}/`
    const empty = await r.list(prefix)
    const first = r.list(prefix, { index: empty.index, waitMs: 20_000 })
    await r.put(`${prefix}a/b`, '1')
    const one = await untilMoved(r, prefix, await first)
    assert.deepEqual(
      one.value.map(({ value }) => value),
      ['1'],
    )
    const second = r.list(prefix, { index: one.index, waitMs: 20_000 })
    await r.delete(`${prefix}a/b`)
    const gone = await second
    assert.deepEqual(gone.value, [])
    assert.ok(BigInt(gone.index) > BigInt(one.index))
  })

  test('a blocking query ends after its wait with what there is', async () => {
    const r = given()
    const key = fresh('quiet')
    await r.put(key, 'still')
    const seen = await r.get(key)
    const began = performance.now()
    const later = await r.get(key, { index: seen.index, waitMs: 300 })
    const took = performance.now() - began
    assert.equal(later.value?.value, 'still')
    assert.equal(later.index, seen.index)
    assert.ok(took >= 290 && took < 5000, `took ${took} ms`)
  })

  test('a blocking query is given up by its signal at once', async () => {
    const r = given()
    const key = fresh('abort')
    await r.put(key, 'x')
    const seen = await r.get(key)
    const abort = new AbortController()
    const waiting = r.get(key, { index: seen.index, waitMs: 60_000, signal: abort.signal })
    abort.abort(new Error('enough'))
    await assert.rejects(waiting, /enough/)
    await assert.rejects(r.get(key, { signal: abort.signal }), /enough/)
  })
}

/** Consul may wake a list of an empty prefix for any key; ask on until there is something. */
async function untilMoved(
  r: Registry,
  prefix: string,
  first: Awaited<ReturnType<Registry['list']>>,
): Promise<Awaited<ReturnType<Registry['list']>>> {
  let answer = first
  while (answer.value.length === 0) answer = await r.list(prefix, { index: answer.index, waitMs: 20_000 })
  return answer
}

function transactions(given: () => Registry): void {
  test('a transaction is all or nothing', async () => {
    const r = given()
    const prefix = fresh('txn')
    await r.put(`${prefix}/old`, 'x')
    const old = (await r.get(`${prefix}/old`)).value
    assert.ok(old)
    assert.equal(
      await r.transact([
        { verb: 'set', key: `${prefix}/a`, value: 'ä' },
        { verb: 'cas', key: `${prefix}/b`, value: 'b', index: '0' },
        { verb: 'check-index', key: `${prefix}/old`, index: old.modifyIndex },
        { verb: 'check-index', key: `${prefix}/none`, index: '0' },
        { verb: 'delete-cas', key: `${prefix}/old`, index: old.modifyIndex },
      ]),
      true,
    )
    const names = (await r.list(prefix)).value.map(({ key, value }) => [key, value])
    assert.deepEqual(names, [
      [`${prefix}/a`, 'ä'],
      [`${prefix}/b`, 'b'],
    ])
    for (const last of [
      { verb: 'cas', key: `${prefix}/a`, value: 'no', index: '0' },
      { verb: 'check-index', key: `${prefix}/a`, index: '1' },
      { verb: 'check-index', key: `${prefix}/a`, index: '0' },
      { verb: 'delete-cas', key: `${prefix}/a`, index: '1' },
    ] as const) {
      assert.equal(
        await r.transact([
          { verb: 'set', key: `${prefix}/c`, value: 'c' },
          { verb: 'delete', key: `${prefix}/b` },
          last,
        ]),
        false,
        last.verb,
      )
    }
    assert.deepEqual(
      (await r.list(prefix)).value.map(({ key, value }) => [key, value]),
      names,
      'nothing of a refused one stays',
    )
  })

  test('a transaction takes 64 operations and no more', async () => {
    const r = given()
    const prefix = fresh('many')
    const sets = (number: number) =>
      Array.from(
        { length: number },
        (_, at) => ({ verb: 'set', key: `${prefix}/${at}`, value: 'x' }) as const,
      )
    assert.equal(await r.transact(sets(64)), true)
    assert.equal((await r.list(prefix)).value.length, 64)
    await assert.rejects(r.transact(sets(65)), code('MSH0303'))
    assert.equal(await r.transact([]), true)
  })
}

function sessions(given: () => Registry): void {
  test('a lock has one holder; releasing hands it on', async () => {
    const r = given()
    const key = fresh('lock')
    const [one, two] = [
      await r.createSession({ name: 'one', ttlSeconds: 10 }),
      await r.createSession({ name: 'two', ttlSeconds: 10 }),
    ]
    assert.equal(await r.acquire(key, 'one', one), true)
    assert.equal(await r.acquire(key, 'two', two), false)
    assert.equal(await r.acquire(key, 'one again', one), true)
    assert.equal((await r.get(key)).value?.value, 'one again')
    assert.equal(await r.release(key, two), false)
    assert.equal(await r.release(key, one), true)
    assert.equal((await r.get(key)).value?.value, 'one again', 'releasing keeps the value')
    assert.equal(await r.acquire(key, 'two', two), true)
    assert.equal(await r.renewSession(one), true)
    await r.destroySession(one)
    await r.destroySession(one)
    assert.equal(await r.renewSession(one), false)
    assert.equal(await r.acquire(key, 'one', one), false, 'a session that is gone holds nothing')
    await r.destroySession(two)
  })

  test('a session that is not renewed ends and lets go of its lock', async () => {
    const r = given()
    const key = fresh('expire')
    const session = await r.createSession({ name: 'short', ttlSeconds: 1 })
    assert.equal(await r.acquire(key, 'held', session), true)
    const held = await r.get(key)
    // The release is the change that a waiter sees.
    const released = await r.get(key, { index: held.index, waitMs: 20_000 })
    assert.ok(BigInt(released.index) > BigInt(held.index))
    assert.equal(released.value?.value, 'held')
    assert.equal(await r.renewSession(session), false)
    const next = await r.createSession({ name: 'next', ttlSeconds: 10 })
    assert.equal(await r.acquire(key, 'next', next), false, 'the lock delay keeps it closed for a while')
    await r.destroySession(next)
  })

  test('a node without an agent has sessions of its own, and they end with it', async () => {
    const r = given()
    const node = fresh('vm')
    await r.register(registration(node, 'app'), { status: 'passing', output: '' })
    const session = await r.createSession({ name: 'mine', ttlSeconds: 10, node })
    assert.equal(await r.renewSession(session), true)
    await r.deregisterNode(node)
    assert.equal(await r.renewSession(session), false)
  })
}

function failures(given: () => Registry, config: () => RegistryConfig): void {
  test('there is a leader', async () => {
    assert.match(await given().leader(), /:\d+$/)
  })

  test('what the registry refuses says why', async () => {
    const r = given()
    await assert.rejects(r.put(fresh('big'), 'x'.repeat(600_000)), code('MSH0303'))
    await assert.rejects(
      r.setCheck(fresh('vm'), '10.0.0.1', 'no-such-service', 'c', 'passing', ''),
      (error: unknown) => code('MSH0303')(error) && /Missing service registration/.test(String(error)),
    )
    await assert.rejects(
      r.createSession({ name: 'x', ttlSeconds: 10, node: fresh('no-node') }),
      code('MSH0303'),
    )
  })

  test('a client that was closed, and a registry that is not there, are unreachable', async () => {
    const closed = connectRegistry(config())
    closed.close()
    await assert.rejects(closed.get('x'), code('MSH0301'))
    const nobody = connectRegistry({ ...config(), url: 'http://127.0.0.1:1' })
    await assert.rejects(nobody.get('x'), code('MSH0301'))
    nobody.close()
  })
}
