import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { changedUnits, hasUnwanted } from '../../../src/cli/join/install.ts'
import { hostUnits } from '../../../src/cli/join/unitfiles.ts'
import { FakeHost } from '../../../src/host/fake.ts'
import { pathsUnder } from '../../../src/paths.ts'

test('units that are there but not wanted, and wanted but not there, are both told', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'meshctl-units-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const { systemd } = pathsUnder()
  // The commands of a host, run for real over another folder of units.
  const host = new FakeHost('vm1', (command) => {
    const text = command.replaceAll(systemd, folder)
    const { status, stdout, stderr } = spawnSync('sh', ['-c', text], { encoding: 'utf8' })
    return { status: status ?? -1, stdout: stdout.replaceAll(folder, systemd), stderr }
  })
  const hasTimers = async (): Promise<boolean> => await hasUnwanted(host, { timers: false, dns: true })
  const wanted = async (timers: boolean) =>
    (await hostUnits('.', { ipv6: true, timers, dns: true, workers: 0 })).filter(({ path }) =>
      path.startsWith(systemd),
    )
  const install = async (timers: boolean): Promise<void> => {
    for (const { path, text, mode } of await wanted(timers))
      writeFileSync(path.replace(systemd, folder), text, { mode })
  }
  const changed = async (timers: boolean): Promise<string[]> =>
    (await changedUnits(host, await wanted(timers))).map(({ path }) => path.slice(systemd.length + 1))

  await install(false)
  assert.deepEqual([await changed(false), await hasTimers()], [[], false])
  const timers = ['meshctl-renew.timer', 'meshctl-verify.timer', 'meshctl-report.timer']
  assert.deepEqual(await changed(true), timers)

  await install(true)
  assert.deepEqual(await changed(true), [])
  // Nothing that is wanted differs; the timers alone tell that there is something to do.
  assert.deepEqual([await changed(false), await hasTimers()], [[], true])
  // One that was left by half is told too.
  for (const name of timers.slice(0, 2)) rmSync(join(folder, name))
  assert.equal(await hasTimers(), true)
  // So is the socket of an agent that is to answer no names any more; with all of them wanted there is none too many.
  const isTooMany = async (dns: boolean): Promise<boolean> => await hasUnwanted(host, { timers: true, dns })
  assert.deepEqual([await isTooMany(true), await isTooMany(false)], [false, true])
})
