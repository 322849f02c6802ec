import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { prepareRelease, releaseFolder } from '../../src/host/release.ts'
import { pack } from '../../src/host/tar.ts'

describe('a release to send', () => {
  let folder: string
  let cache: string

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'meshctl-release-'))
    cache = join(folder, 'cache')
    mkdirSync(join(folder, 'dist/templates'), { recursive: true })
    for (const name of ['cli', 'agent', 'proxy', 'worker', 'control'])
      writeFileSync(join(folder, `dist/${name}.js`), `// ${name}\n`)
    writeFileSync(join(folder, 'dist/templates/undo.sh'), '#!/bin/sh\n')
    writeFileSync(join(folder, 'dist/version'), '1.2.3\n')
    mkdirSync(join(folder, 'dist/runtime/linux-other'), { recursive: true })
    writeFileSync(join(folder, 'dist/runtime/linux-other/node'), 'not really node')
  })

  after(() => rmSync(folder, { recursive: true }))

  it('is named by its content and packed once', async () => {
    const first = await prepareRelease(join(folder, 'dist'), 'other', cache)
    assert.equal(first.version, '1.2.3')
    const made = statSync(first.release.file).mtimeMs
    const again = await prepareRelease(join(folder, 'dist'), 'other', cache)
    assert.deepEqual(again, first)
    assert.equal(statSync(again.release.file).mtimeMs, made)
    writeFileSync(join(folder, 'dist/agent.js'), '// changed\n')
    const changed = await prepareRelease(join(folder, 'dist'), 'other', cache)
    assert.notEqual(changed.release.hash, first.release.hash)
    assert.equal(changed.runtime.hash, first.runtime.hash)
  })

  it('unpacks with tar and gzip to what was packed', async () => {
    const { release, runtime } = await prepareRelease(join(folder, 'dist'), 'other', cache)
    const out = join(folder, 'out')
    mkdirSync(out)
    execFileSync('tar', ['-C', out, '-xzf', release.file])
    assert.equal(readFileSync(join(out, 'cli.js'), 'utf8'), '// cli\n')
    assert.equal(statSync(join(out, 'templates/undo.sh')).mode & 0o777, 0o755)
    assert.equal(String(execFileSync('gzip', ['-dc', runtime.file])), 'not really node')
  })

  it('says what is missing', async () => {
    assert.throws(() => releaseFolder(join(folder, 'nowhere')), { code: 'MSH0510' })
    await assert.rejects(prepareRelease(join(folder, 'dist'), 'riscv64', cache), {
      code: 'MSH0510',
      message: /riscv64/,
    })
  })

  it('makes tar files that tar lists', () => {
    const file = join(folder, 'a.tar')
    writeFileSync(file, pack([{ name: 'x/y', mode: 0o640, content: Buffer.alloc(600, 'z') }]))
    const listed = String(execFileSync('tar', ['-tvf', file]))
    assert.match(listed, /^-rw-r----- root\/root\s+600 1970-01-01 .* x\/y$/m)
  })
})
