import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { FakeClock, systemClock } from '../../src/clock.ts'
import { makeLog } from '../../src/log.ts'
import { AccessLog, rotate } from '../../src/proxy/accesslog.ts'

const log = makeLog('test', 'silent')

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'accesslog-'))
  t.after(() => rmSync(path, { recursive: true }))
  return path
}

function put(access: AccessLog, line: string): void {
  access.write(Buffer.from(`${line}\n`), 1)
}

test('lines are gathered for 50 ms and written in order, readable by owner and group only', async (t) => {
  const path = join(folder(t), 'access.log')
  const clock = new FakeClock()
  const access = new AccessLog({ path, clock, log })
  put(access, '{"a":1}')
  put(access, '{"b":"é"}')
  clock.advance(49)
  assert.equal(existsSync(path), false)
  clock.advance(1)
  await access.close()
  assert.equal(readFileSync(path, 'utf8'), '{"a":1}\n{"b":"é"}\n')
  assert.equal(statSync(path).mode & 0o777 & ~0o640, 0)
})

test('close writes what has come while a write was under way', async (t) => {
  const path = join(folder(t), 'access.log')
  const clock = new FakeClock()
  const access = new AccessLog({ path, clock, log })
  put(access, '1')
  clock.advance(50)
  put(access, '2')
  await access.close()
  assert.equal(readFileSync(path, 'utf8'), '1\n2\n')
})

test('rotation keeps two old files and writers go on in the new one', async (t) => {
  const path = join(folder(t), 'access.log')
  const writers = [1, 2].map(() => new AccessLog({ path, clock: systemClock, log }))
  for (let round = 1; round <= 4; round++) {
    for (const [i, writer] of writers.entries()) {
      put(writer, `round ${round} writer ${i}`)
      await writer.close()
    }
    assert.equal(await rotate(path, 1000), false)
    assert.equal(await rotate(path, 10), true)
    for (const writer of writers) writer.reopen()
  }
  assert.equal(existsSync(path), false)
  assert.equal(readFileSync(`${path}.1`, 'utf8'), 'round 4 writer 0\nround 4 writer 1\n')
  assert.equal(readFileSync(`${path}.2`, 'utf8'), 'round 3 writer 0\nround 3 writer 1\n')
  assert.equal(existsSync(`${path}.3`), false)
})

test('a log that cannot be written drops lines and never throws', async (t) => {
  const dir = folder(t)
  writeFileSync(join(dir, 'file'), '')
  const access = new AccessLog({ path: join(dir, 'file', 'access.log'), clock: systemClock, log })
  put(access, '1')
  put(access, '2')
  await access.close()
  assert.equal(access.dropped, 2)
})

test('lines that wait for a slow disk are bounded', (t) => {
  const access = new AccessLog({ path: join(folder(t), 'access.log'), clock: new FakeClock(), log })
  const line = Buffer.alloc(1024 * 1024 + 1, 'x')
  for (let i = 0; i < 10; i++) access.write(line, 1)
  assert.equal(access.dropped, 6)
})
