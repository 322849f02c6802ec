// The agent and the proxy's state: what goes over the socket as a patch, and what lies on disk at any moment.
import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { LastGood } from '../../src/agent/lastgood.ts'
import { ProxyLink } from '../../src/agent/push.ts'
import { FakeClock, systemClock } from '../../src/clock.ts'
import { makeLog } from '../../src/log.ts'
import { patch } from '../../src/snapshot/change.ts'
import { snapshotHash } from '../../src/snapshot/hash.ts'
import type { Push, PushReply, Snapshot } from '../../src/snapshot/types.ts'
import { emptySnapshot } from '../proxy/snapshots.ts'
import { makePlace } from './place.ts'
import { until } from './running.ts'

const place = makePlace()
after(() => place.remove())
const { proxyState, proxySocket } = place.paths
const path = join(proxyState, 'snapshot.json')

const stored = (): Snapshot => JSON.parse(readFileSync(path, 'utf8')) as Snapshot

/** A proxy at the other end of the connection, which can be told to be difficult. */
class Proxy {
  readonly heard: string[] = []
  readonly link: ProxyLink
  now: Snapshot | null = null
  /** What the next push is answered with; 'gone': the connection ends. */
  difficulty: PushReply | 'gone' | null = null

  constructor() {
    this.link = new ProxyLink({
      paths: { proxyState, proxySocket },
      clock: systemClock,
      log: makeLog('test', 'silent'),
      alive: () => undefined,
      changed: () => undefined,
      connect: () => ({ send: (push) => this.#answer(push), close: () => undefined }),
    })
  }

  async put(host: string): Promise<Snapshot> {
    const next = emptySnapshot(host)
    this.link.setSnapshot(next)
    await until(`${host} to be in force`, () => this.link.inForce === next.hash)
    return next
  }

  #answer(push: Push): Promise<PushReply> {
    const { difficulty } = this
    if (push.type === 'ping')
      return Promise.resolve({ type: 'pong', hash: this.now?.hash ?? '', workers: 1, version: '' })
    if (push.type !== 'snapshot' && push.type !== 'patch') throw new Error(push.type)
    const next =
      push.type === 'snapshot' ? push.snapshot : this.now === null ? null : patch(this.now, push.change)
    this.heard.push(`${push.type} ${next?.host}`)
    this.difficulty = null
    if (difficulty === 'gone') return Promise.reject(new Error('gone'))
    if (difficulty !== null) return Promise.resolve(difficulty)
    assert.equal(push.type === 'patch' ? push.base : this.now?.hash, this.now?.hash)
    this.now = next
    assert.equal(next?.hash, snapshotHash(next!))
    return Promise.resolve({ type: 'applied', hash: next.hash })
  }
}

test('first the whole, then what has changed; a proxy that cannot take that gets the whole', async (t) => {
  const proxy = new Proxy()
  t.after(() => proxy.link.stop())
  proxy.link.start()
  await proxy.put('one')
  assert.equal(stored().host, 'one')
  await proxy.put('two')
  await proxy.put('three')
  // An older release, and one that has something else than we know of.
  proxy.difficulty = { type: 'error', reason: 'the message type "patch" is unknown' }
  await proxy.put('four')
  proxy.difficulty = { type: 'mismatch', hash: 'other' }
  await proxy.put('five')
  // One that was started anew.
  proxy.difficulty = 'gone'
  const last = await proxy.put('six')
  assert.deepEqual(proxy.heard, [
    'snapshot one',
    'patch two',
    'patch three',
    'patch four',
    'snapshot four',
    'patch five',
    'snapshot five',
    'patch six',
    'snapshot six',
  ])
  assert.deepEqual(stored(), last)
})

test('what was rejected is neither sent again nor found on disk; what was applied is, soon', async (t) => {
  const proxy = new Proxy()
  t.after(() => proxy.link.stop())
  proxy.link.start()
  await proxy.put('one')
  proxy.difficulty = { type: 'rejected', hash: '', reason: 'no' }
  proxy.link.setSnapshot(emptySnapshot('bad'))
  await until('it to be said', () => proxy.link.state === 'rejected')
  proxy.link.setSnapshot(emptySnapshot('bad'))
  assert.equal(stored().host, 'one')
  const two = await proxy.put('two')
  assert.deepEqual(proxy.heard, ['snapshot one', 'patch bad', 'patch two'])
  await until('it to be on disk', () => stored().hash === two.hash)
  assert.equal(statSync(path).mode & 0o777, 0o600)
})

test('many changes are few files, and none is forgotten at the end', async () => {
  const proxy = new Proxy()
  proxy.link.start()
  await proxy.put('first')
  const inodes = new Set<number>()
  for (let i = 0; i < 100; i++) {
    await proxy.put(`number-${i}`)
    inodes.add(statSync(path).ino)
  }
  await proxy.link.stop()
  assert.equal(stored().host, 'number-99')
  assert.ok(inodes.size < 20, String(inodes.size))
})

test('what the proxy runs is what ends up on disk, whatever came between', async () => {
  const clock = new FakeClock()
  const disk = new LastGood({ folder: proxyState, clock, log: makeLog('test', 'silent') })
  const [one, two, three] = [emptySnapshot('one'), emptySnapshot('two'), emptySnapshot('three')]
  await disk.put(one)
  disk.accepted(one)
  // Back again while the other is being written.
  disk.accepted(two)
  disk.accepted(one)
  clock.advance(2000)
  await disk.flush()
  assert.equal(stored().host, 'one')
  // The proxy went away with a change that was still to be saved: what it is to find is newer.
  disk.accepted(two)
  await disk.flush()
  disk.accepted(one)
  await disk.put(three)
  clock.advance(2000)
  await disk.flush()
  assert.equal(stored().host, 'three')
  // It does not take it after all.
  await disk.rejected(three)
  assert.equal(stored().host, 'one')
})

test('a disk that takes nothing is tried again', async () => {
  const clock = new FakeClock()
  const folder = join(proxyState, 'gone')
  const disk = new LastGood({ folder, clock, log: makeLog('test', 'silent') })
  disk.accepted(emptySnapshot('one'))
  await disk.flush()
  mkdirSync(folder)
  clock.advance(20_000)
  await disk.flush()
  assert.equal((JSON.parse(readFileSync(join(folder, 'snapshot.json'), 'utf8')) as Snapshot).host, 'one')
  rmSync(folder, { recursive: true })
})

test('killed at any moment: what lies on disk is a whole snapshot, and what was half written goes', async () => {
  const seen = new Set<string>()
  for (let round = 0; round < 8; round++) {
    const child = fork(join(import.meta.dirname, 'lastgoodwriter.ts'), [proxyState, String(round)], {
      execArgv: ['--disable-warning=ExperimentalWarning'],
    })
    await once(child, 'message')
    await new Promise((done) => void setTimeout(done, 5 + round * 11))
    child.kill('SIGKILL')
    await once(child, 'exit')
    const found = stored()
    assert.equal(snapshotHash(found), found.hash)
    assert.match(found.host, new RegExp(`^round-${round}-`))
    seen.add(found.hash)
  }
  assert.ok(seen.size === 8)
  writeFileSync(join(proxyState, '.snapshot.json.0123456789ab'), '{"schema":1,"ha')
  const proxy = new Proxy()
  proxy.link.start()
  await proxy.put('after')
  await proxy.link.stop()
  assert.deepEqual(readdirSync(proxyState), ['snapshot.json'])
})
