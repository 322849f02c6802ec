import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { FakeHost } from '../../src/host/fake.ts'
import { PrintingHost } from '../../src/host/printing.ts'
import { defaultCgroup, dropInPath, dropInText, unitName, unitStates } from '../../src/host/units.ts'

describe('units with an identity', () => {
  it('have a cgroup, also while they are stopped', async () => {
    assert.equal(unitName('web'), 'web.service')
    assert.equal(defaultCgroup('web.service'), 'system.slice/web.service')
    assert.equal(defaultCgroup('apps-eu.slice'), 'apps.slice/apps-eu.slice')
    assert.equal(defaultCgroup('web.service', 'apps-eu.slice'), 'apps.slice/apps-eu.slice/web.service')
    const host = new FakeHost('vm1', (command) => ({
      status: 0,
      stderr: '',
      stdout: command.includes('systemctl show')
        ? '@@web@1.service\nControlGroup=/system.slice/system-web.slice/web@1.service\nSlice=system-web.slice\n@@db.service\nControlGroup=\nSlice=data.slice\n'
        : 'yes\nno\n',
    }))
    assert.deepEqual(await unitStates(host, ['web@1.service', 'db']), [
      { unit: 'web@1.service', cgroup: 'system.slice/system-web.slice/web@1.service', present: true },
      { unit: 'db.service', cgroup: 'data.slice/db.service', present: false },
    ])
    await assert.rejects(unitStates(host, ["x'; rm -rf /"]), /bad unit name/)
  })

  it('have a drop-in that can never keep them from starting', () => {
    assert.equal(dropInPath('web'), '/etc/systemd/system/web.service.d/50-meshctl.conf')
    assert.equal(dropInPath('apps.slice'), null)
    const text = dropInText('web')
    assert.match(
      text,
      /^ExecStartPre=-\+\/bin\/sh -c '.*\/usr\/sbin\/iptables-restore -w 5 --noflush "\/run\/meshctl\/capture\/web\.service\.v4"'$/m,
    )
    assert.match(text, /ip6tables-restore .*web\.service\.v6/)
  })
})

describe('--print-command', () => {
  it('prints what could be typed and never a secret', async () => {
    const lines: string[] = []
    const host = new PrintingHost(new FakeHost(), {
      ssh: 'ssh root@vm1',
      sudo: false,
      print: (line) => lines.push(line),
    })
    await host.run('enroll', { root: true, input: 'grant-abc', secret: true })
    await host.put('/etc/meshctl/host.json', 'token-abc', { mode: 0o600 })
    await host.run("echo 'hi'")
    await host.run('sh -s', { input: 'echo script' })
    const text = lines.join('\n')
    assert.doesNotMatch(text, /abc/)
    assert.match(text, /^ssh root@vm1 'echo '\\''hi'\\'''$/m)
    assert.match(text, /<<'MESHCTL'\necho script\nMESHCTL$/m)
  })
})
