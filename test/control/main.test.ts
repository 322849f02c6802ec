// The process itself: started as systemd starts it, stopped by SIGTERM.
import assert from 'node:assert/strict'
import type { ChildProcessByStdio } from 'node:child_process'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import { connectSigner } from '../../src/api/client.ts'
import { Plane } from './plane.ts'

const main = resolve(import.meta.dirname, '../../src/control/main.ts')
const flags = ['--disable-warning=ExperimentalWarning', main]
const running = new Set<ChildProcessByStdio<null, null, Readable>>()
let plane: Plane

before(() => {
  plane = new Plane()
})
after(async () => {
  for (const child of running) child.kill('SIGKILL')
  await plane.remove()
})

interface Line {
  level: string
  event?: string
  signerPort?: number
  msg: string
}

/** Starts control and waits for its first `ready` line; `lines` goes on growing. */
async function start(dir: string) {
  const child = spawn(process.execPath, [...flags, '--dir', dir], { stdio: ['ignore', 'ignore', 'pipe'] })
  running.add(child)
  child.once('exit', () => running.delete(child))
  const lines: Line[] = []
  const port = await new Promise<number>((ready, reject) => {
    child.once('exit', (code) => reject(new Error(`control ended with ${code}: ${JSON.stringify(lines)}`)))
    createInterface({ input: child.stderr }).on('line', (text) => {
      const line = JSON.parse(text) as Line
      lines.push(line)
      if (line.event === 'ready') ready(line.signerPort ?? 0)
    })
  })
  return { child, lines, port }
}

test('it serves until SIGTERM and ends with 0; its log is JSON lines with an audit of what it issued', async () => {
  const { child, lines, port } = await start(plane.dir)
  const { chain, key } = plane.authority.operator('ann')
  const signer = connectSigner({
    urls: [`https://localhost:${port}`],
    roots: plane.authority.roots,
    trustDomain: 'demo.mesh',
    cert: chain,
    key,
  })
  assert.equal((await signer.status()).mesh, 'demo')
  child.kill('SIGTERM')
  assert.deepEqual(await once(child, 'exit'), [0, null])
  assert.ok(lines.some(({ event }) => event === 'issued'))
  assert.ok(lines.some(({ event }) => event === 'stopped'))
  await assert.rejects(signer.status())
})

test('a taken port is an error with a code, not a stack', async () => {
  const { child, port } = await start(plane.dir)
  const other = new Plane({ signerPort: port })
  try {
    const ended = spawnSync(process.execPath, [...flags, '--dir', other.dir], { encoding: 'utf8' })
    assert.equal(ended.status, 65)
    assert.match(ended.stderr, /meshctl control: .*EADDRINUSE.* \(MSH0415\)/)
    assert.doesNotMatch(ended.stderr, /\n\s+at /)
  } finally {
    await other.remove()
    child.kill('SIGTERM')
    await once(child, 'exit')
  }
})

test('--check reads and checks, and starts nothing', () => {
  const run = (...args: string[]) => spawnSync(process.execPath, [...flags, ...args], { encoding: 'utf8' })
  const good = run('--dir', plane.dir, '--check')
  assert.equal(good.status, 0)
  assert.match(
    good.stdout,
    /ok; mesh demo, trust domain demo\.mesh, embedded registry, issuing CA until \d{4}-/,
  )
  const bad = new Plane()
  writeFileSync(join(bad.dir, 'control.json'), '{"schema":1}')
  const refused = run('--dir', bad.dir, '--check')
  assert.equal(refused.status, 65)
  assert.match(refused.stderr, /^meshctl control: control cannot start from .*\(MSH0415\)\n/)
  assert.match(refused.stderr, /mesh: must be/)
  assert.equal(run('--nonsense').status, 64)
  assert.match(run('--help').stdout, /--dir FOLDER/)
  return bad.remove()
})
