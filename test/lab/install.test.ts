// install.sh from a checkout, and what it lays running on a Debian that has no Node, no compiler and no libatomic.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { after, before, test } from 'node:test'
import { Lab } from './lab.ts'
import { must, run } from './shell.ts'

const root = resolve(import.meta.dirname, '../..')
const prefix = mkdtempSync(join(tmpdir(), 'meshctl-prefix-'))
let lab: Lab

before(async () => {
  lab = await Lab.up({ name: `install-${process.pid}`, hosts: ['bare'] })
})
after(async () => {
  await lab.destroy()
  rmSync(prefix, { recursive: true, force: true })
})

test('a checkout installs, upgrades to itself and its command runs on a bare Debian', async () => {
  const script = join(root, 'install.sh')
  assert.match(await must('sh', [script, '--prefix', prefix], { timeoutMs: 300_000 }), /installed meshctl/)
  assert.match(await must('sh', [script, '--prefix', prefix], { timeoutMs: 300_000 }), /up to date/)
  assert.match((await run(join(prefix, 'bin/meshctl'), ['version'])).stdout, /\d+\.\d+\.\d+/)

  // The same release folder as an unpacked release on the bare host: nothing is built or fetched there.
  const release = await must('readlink', ['-f', join(prefix, 'lib/meshctl/current')])
  await must('sh', [
    '-c',
    `cp -R ${release.trim()} ${lab.host('bare').disk}/root/release && cp ${script} ${lab.host('bare').disk}/root/release/`,
  ])
  assert.notEqual((await lab.enter('bare', 'command -v node npm gcc')).status, 0)
  assert.match(
    await lab.do('bare', 'sh /root/release/install.sh'),
    /installed meshctl .* at \/usr\/local\/bin\/meshctl/,
  )
  assert.match(await lab.do('bare', 'meshctl version'), /\d+\.\d+\.\d+/)
  assert.match(await lab.do('bare', 'meshctl --help'), /join/)

  await lab.do('bare', 'sh /root/release/install.sh --uninstall')
  assert.notEqual((await lab.enter('bare', 'command -v meshctl || ls /usr/local/lib/meshctl')).status, 0)
})
