// Needs no lab: processes that want the same name.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { test, type TestContext } from 'node:test'
import { claim, release } from './claim.ts'

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'meshctl-claim-'))
  t.after(() => rmSync(folder, { recursive: true }))
  return folder
}

/** A process that claims the name, says what came of it, and stays. */
async function rival(t: TestContext, folder: string): Promise<{ child: ChildProcess; said: string }> {
  const script = `import { claim } from ${JSON.stringify(resolve(import.meta.dirname, 'claim.ts'))}
    try { claim(${JSON.stringify(folder)}, 'demo'); console.log('mine') } catch (error) { console.log(error.message) }
    setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exit = once(child, 'exit')
  t.after(async () => {
    child.kill('SIGKILL')
    await exit
  })
  const [said] = (await once(child.stdout, 'data')) as [Buffer]
  return { child, said: said.toString().trim() }
}

test('a name belongs to one process until it ends or gives it up', async (t) => {
  const folder = folderOf(t)
  const { child, said } = await rival(t, folder)
  assert.equal(said, 'mine')
  const inUse = new RegExp(`the lab demo is in use by the running process ${child.pid}:`)
  assert.throws(() => claim(folder, 'demo'), inUse)
  release(folder, 'demo')
  assert.throws(() => claim(folder, 'demo'), inUse, 'it was not ours to give up')
  claim(folder, 'other')

  child.kill('SIGKILL')
  await once(child, 'exit')
  claim(folder, 'demo')
  claim(folder, 'demo')
  assert.match((await rival(t, folder)).said, new RegExp(`running process ${process.pid}:`))
  release(folder, 'demo')
  assert.equal(existsSync(join(folder, 'demo.lock')), false)
})

test('of several that find a stale claim one gets it', async (t) => {
  const folder = folderOf(t)
  // Our pid, but of a process that started at another time.
  writeFileSync(join(folder, 'demo.lock'), `${process.pid} 1\n`)
  const rivals = await Promise.all([1, 2, 3, 4].map(() => rival(t, folder)))
  assert.equal(
    rivals.filter(({ said }) => said === 'mine').length,
    1,
    JSON.stringify(rivals.map((r) => r.said)),
  )
})

const root = process.getuid?.() === 0
test('a second demo refuses, and so does --clean', { skip: root ? false : 'needs root' }, async (t) => {
  const folder = folderOf(t)
  const { child } = await rival(t, folder)
  for (const flags of [[], ['--clean']]) {
    const { status, stderr } = spawnSync(process.execPath, [resolve('scripts/demo.ts'), ...flags], {
      encoding: 'utf8',
      env: { ...process.env, MESHCTL_LAB_HOME: folder },
      timeout: 30_000,
    })
    assert.equal(status, 1, stderr)
    assert.match(stderr, new RegExp(`^another demo is running: the lab demo is in use .* ${child.pid}:`, 'm'))
  }
})
