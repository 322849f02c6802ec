// The folder of the proxy's state belongs to the proxy's user: whatever lies there may be a trap for root.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { linkSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { ProxyLink } from '../../src/agent/push.ts'
import { FakeClock, systemClock } from '../../src/clock.ts'
import { makeLog } from '../../src/log.ts'
import type { PushReply, Snapshot } from '../../src/snapshot/types.ts'
import { makePlace } from './place.ts'
import { until } from './running.ts'

const place = makePlace()
after(() => place.remove())

const secret = 'root:$6$a-line-of-etc-shadow'
const snapshot = { schema: 1, hash: 'abc' } as unknown as Snapshot

/** One turn of the agent with a proxy that rejects every snapshot. Gives what lies in snapshot.json after it. */
async function rejected(): Promise<string> {
  const { proxyState, proxySocket } = place.paths
  const link = new ProxyLink({
    paths: { proxyState, proxySocket },
    clock: systemClock,
    log: makeLog('test', 'silent'),
    alive: () => undefined,
    changed: () => undefined,
    connect: () => ({
      send: (push): Promise<PushReply> =>
        Promise.resolve(
          push.type === 'snapshot'
            ? { type: 'rejected', hash: 'abc', reason: 'no' }
            : { type: 'pong', hash: 'old', workers: 1, version: '' },
        ),
      close: () => undefined,
    }),
  })
  link.setSnapshot(snapshot)
  await link.once()
  return readFileSync(join(proxyState, 'snapshot.json'), 'utf8')
}

test("a file of root's does not end in the proxy's folder by way of a link", async (t) => {
  const { proxyState } = place.paths
  const trap = join(proxyState, 'snapshot.json')
  const target = join(place.paths.state, 'shadow')
  writeFileSync(target, secret, { mode: 0o600 })
  t.after(() => rmSync(trap, { force: true }))
  for (const lay of [
    () => symlinkSync(target, trap),
    () => linkSync(target, trap),
    () => execFileSync('mkfifo', [trap]),
  ]) {
    rmSync(trap, { force: true })
    lay()
    assert.deepEqual(JSON.parse(await rejected()), snapshot)
  }
  rmSync(trap)
  writeFileSync(trap, '{"hash":"good"}')
  assert.equal(await rejected(), '{"hash":"good"}', 'the last good one is put back')
})

test('a rejected snapshot is tried once more after ten seconds, and no third time', async (t) => {
  const clock = new FakeClock()
  let tries = 0
  let pings = 0
  const link = new ProxyLink({
    paths: place.paths,
    clock,
    log: makeLog('test', 'silent'),
    alive: () => undefined,
    changed: () => undefined,
    connect: () => ({
      send: (push): Promise<PushReply> => {
        if (push.type === 'snapshot') tries++
        else if (push.type === 'ping') pings++
        return Promise.resolve(
          push.type === 'snapshot'
            ? { type: 'rejected', hash: 'abc', reason: 'the worker ended' }
            : { type: 'pong', hash: 'old', workers: 1, version: '' },
        )
      },
      close: () => undefined,
    }),
  })
  t.after(() => link.stop())
  link.setSnapshot(snapshot)
  await until('rejected', () => link.state === 'rejected')
  const seen: number[] = []
  for (let second = 1; second <= 30; second++) {
    clock.advance(1000)
    await until('the turn of this second', () => pings === second + 1)
    await nextTurn()
    seen.push(tries)
  }
  assert.deepEqual(new Set(seen.slice(0, 9)), new Set([1]))
  assert.deepEqual(new Set(seen.slice(11)), new Set([2]))
  assert.equal(link.rejection, 'snapshot rejected: the worker ended')
})
