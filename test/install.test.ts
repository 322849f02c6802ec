// install.sh on an unpacked release: lays, upgrades, refuses, removes. (From a checkout, onto a bare Debian: test/lab/install.test.ts.)
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { test, type TestContext } from 'node:test'
import { atomicLibrary } from '../scripts/runtime.ts'

interface Ran {
  status: number | null
  stdout: string
  stderr: string
}

function sh(file: string, args: readonly string[]): Ran {
  return spawnSync('sh', [file, ...args], { encoding: 'utf8' })
}

function folder(t: TestContext): string {
  const made = mkdtempSync(join(tmpdir(), 'meshctl-install-'))
  t.after(() => rmSync(made, { recursive: true, force: true }))
  return made
}

/** An unpacked release whose command prints its version. */
function release(at: string, version: string): string {
  mkdirSync(join(at, 'templates'), { recursive: true })
  copyFileSync(resolve(import.meta.dirname, '../install.sh'), join(at, 'install.sh'))
  writeFileSync(join(at, 'cli.js'), `console.log('${version}', process.argv.slice(2).join(' '))\n`)
  for (const name of ['agent', 'proxy', 'worker', 'control']) writeFileSync(join(at, `${name}.js`), '')
  writeFileSync(join(at, 'version'), `${version}\n`)
  symlinkSync(process.execPath, join(at, 'node'))
  copyFileSync(atomicLibrary(), join(at, 'libatomic.so.1'))
  return join(at, 'install.sh')
}

test('installs, runs, upgrades by one link, removes everything', (t) => {
  const at = folder(t)
  const prefix = join(at, 'usr')
  const command = join(prefix, 'bin/meshctl')
  const one = release(join(at, 'one'), '1.0.0')
  const two = release(join(at, 'two'), '2.0.0')

  const first = sh(one, ['--prefix', prefix])
  assert.equal(first.status, 0, first.stderr)
  assert.match(first.stdout, /installed meshctl 1\.0\.0/)
  assert.equal(sh(command, ['hello', 'a b']).stdout, '1.0.0 hello a b\n')

  assert.match(sh(one, ['--prefix', prefix]).stdout, /up to date/)
  assert.equal(readdirSync(join(prefix, 'lib/meshctl/releases')).length, 1)

  const before = readlinkSync(join(prefix, 'lib/meshctl/current'))
  assert.match(sh(two, [`--prefix=${prefix}`]).stdout, /upgraded meshctl to 2\.0\.0/)
  assert.notEqual(readlinkSync(join(prefix, 'lib/meshctl/current')), before)
  assert.equal(sh(command, ['x']).stdout, '2.0.0 x\n')
  assert.ok(existsSync(join(prefix, 'lib/meshctl', before)), 'commands that still run keep their release')

  const gone = sh(two, ['--prefix', prefix, '--uninstall'])
  assert.equal(gone.status, 0, gone.stderr)
  assert.deepEqual(existsSync(prefix) ? readdirSync(prefix, { recursive: true }) : [], [])
  assert.match(sh(two, ['--prefix', prefix, '--uninstall']).stdout, /nothing of meshctl/)
})

test('a release that does not start changes nothing', (t) => {
  const at = folder(t)
  const prefix = join(at, 'usr')
  sh(release(join(at, 'one'), '1.0.0'), ['--prefix', prefix])
  const broken = release(join(at, 'broken'), '3.0.0')
  writeFileSync(join(at, 'broken/cli.js'), 'process.exit(3)\n')
  const done = sh(broken, ['--prefix', prefix])
  assert.equal(done.status, 1)
  assert.match(done.stderr, /does not start; nothing was changed/)
  assert.equal(sh(join(prefix, 'bin/meshctl'), ['x']).stdout, '1.0.0 x\n')
})

test('leaves the command of somebody else alone', (t) => {
  const at = folder(t)
  const prefix = join(at, 'usr')
  mkdirSync(join(prefix, 'bin'), { recursive: true })
  writeFileSync(join(prefix, 'bin/meshctl'), '#!/bin/sh\necho other\n')
  const script = release(join(at, 'one'), '1.0.0')
  for (const args of [
    ['--prefix', prefix],
    ['--prefix', prefix, '--uninstall'],
  ]) {
    const done = sh(script, args)
    assert.equal(done.status, 1)
    assert.match(done.stderr, /not ours/)
  }
  assert.equal(readFileSync(join(prefix, 'bin/meshctl'), 'utf8'), '#!/bin/sh\necho other\n')
})

test('a release that is not whole is refused by name', (t) => {
  const at = folder(t)
  const script = release(join(at, 'one'), '1.0.0')
  rmSync(join(at, 'one/proxy.js'))
  const done = sh(script, ['--prefix', join(at, 'usr')])
  assert.equal(done.status, 1)
  assert.match(done.stderr, /proxy\.js is missing/)
})

test('unknown flags and architectures are usage errors', (t) => {
  const at = folder(t)
  const script = release(join(at, 'one'), '1.0.0')
  assert.equal(sh(script, ['--nope']).status, 64)
  assert.equal(sh(script, ['--arch', 'mips', '--prefix', join(at, 'usr')]).status, 1)
  assert.equal(sh(script, ['--help']).status, 0)
})
