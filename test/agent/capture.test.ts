// Real rules in a network namespace: applied, kept, put back, and in force only while the proxy answers.
import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { Capture, planOf, sshPortsOf } from '../../src/agent/capture.ts'
import { FakeClock } from '../../src/clock.ts'
import { FakeHost } from '../../src/host/fake.ts'
import type { Host } from '../../src/host/host.ts'
import { users } from '../../src/paths.ts'
import { declared, hostConfig } from '../compile/mesh.ts'
import { canUseNamespaces, Namespace } from '../host/netns.ts'
import { silent } from './place.ts'
import { until } from './running.ts'

const config = hostConfig({
  services: [
    declared('web', { unit: null, user: 'nobody', onFailure: 'closed' }),
    declared('web', { id: 'web2', port: 8081, unit: null, user: null }),
  ],
})

describe('the plan', () => {
  test('ports of those that listen, callers with a unit or user, the proxy and the agent left out', () => {
    const shop = declared('shop', { port: 0, servicePort: 0, unit: null, user: 'games' })
    const plan = planOf({ ...config, services: [...config.services, shop] }, [22, 2222])
    assert.deepEqual(plan.inbound, [
      { port: 8080, onFailure: 'closed' },
      { port: 8081, onFailure: 'open' },
    ])
    assert.deepEqual(plan.identities, [
      { capturePort: 15101, unit: null, user: 'nobody' },
      { capturePort: 15103, unit: null, user: 'games' },
    ])
    assert.deepEqual(
      [plan.proxyUser, plan.exemptUnits, plan.sshPorts],
      ['meshctl-proxy', ['meshctl-agent.service'], [22, 2222]],
    )
    const none = planOf({ ...config, capture: { ...config.capture, inbound: false } }, [])
    assert.deepEqual(none.inbound, [])
  })

  test('the ports of sshd come from sshd itself', async () => {
    const host = new FakeHost('x', (command) =>
      command === 'sh -s' ? { status: 0, stdout: '2222\n22\n2222\n\n', stderr: '' } : null,
    )
    assert.deepEqual(await sshPortsOf(host), [22, 2222])
  })
})

test('capture that is off touches nothing', async () => {
  const host = new FakeHost()
  const off = { ...config, capture: { ...config.capture, outbound: 'off' as const, inbound: false } }
  const capture = new Capture({
    config: off,
    host,
    clock: new FakeClock(),
    log: silent,
    changed: () => undefined,
  })
  await capture.start()
  capture.alive()
  capture.setInstances(['10.0.0.1,80'])
  await capture.release()
  assert.deepEqual([host.actions, capture.state], [[], 'off'])
})

test('a kernel that refuses is reported once and tried again', async () => {
  const clock = new FakeClock()
  let broken = true
  const host = new FakeHost('x', (command) => {
    if (command.startsWith('id -u')) return { status: 0, stdout: '1\n2\n', stderr: '' }
    return command.startsWith('ipset restore') && broken
      ? { status: 1, stdout: '', stderr: 'no such module' }
      : null
  })
  const capture = new Capture({ config, host, clock, log: silent, changed: () => undefined })
  await capture.start()
  assert.deepEqual([capture.state, capture.problem], ['failed', 'ipset: no such module'])
  broken = false
  clock.advance(5000)
  await until('applied', () => capture.state === 'ok')
  await capture.stop()
})

describe('in a real kernel', { skip: canUseNamespaces ? false : 'needs root' }, () => {
  let vm: Namespace
  let host: Host
  const clock = new FakeClock()

  before(() => {
    vm = new Namespace(`msha${process.pid}`)
    // The proxy's user exists on joined hosts only.
    const real = vm.host
    host = new Proxy<Host>(real, {
      get: (target, name: keyof Host) =>
        name === 'run'
          ? (command: string, options = {}) =>
              real.run(command.replaceAll(`id -u -- ${users.proxy}`, 'id -u -- daemon'), options)
          : (target[name] as unknown as () => void).bind(target),
    })
  })
  after(() => {
    vm.close()
    rmSync('/run/meshctl/capture', { recursive: true, force: true })
  })

  const members = (set: string): string[] =>
    vm
      .sh(`ipset list ${set} | sed '1,/Members/d'`)
      .trim()
      .split('\n')
      .filter((line) => line !== '')
  const rules = (): string => vm.sh('iptables-save -t nat; ip6tables-save -t nat')

  test('applied at the start, beating only while the proxy answers, put back when flushed, kept at the stop', async () => {
    const capture = new Capture({ config, host, clock, log: silent, changed: () => undefined })
    capture.setInstances(['10.0.0.2,8080', 'fd00::2,8080', '10.0.0.2,8080'])
    await capture.start()
    assert.equal(capture.state, 'ok')
    assert.match(rules(), /MESHCTL_OUTPUT/)
    assert.deepEqual(await capture.drift(), [])
    assert.deepEqual(members('meshctl_alive'), [], 'nothing is redirected before the proxy answers')
    assert.match(members('meshctl_inst').join(), /10\.0\.0\.2,tcp:8080/)

    capture.alive()
    await until('the heartbeat', () => members('meshctl_alive').length > 0)

    vm.sh('iptables -t nat -F; iptables -t nat -X')
    assert.ok((await capture.drift()).length > 0)
    clock.advance(5000)
    await until(
      'the rules are back',
      () => rules().includes('-A OUTPUT') && rules().includes('MESHCTL_INPUT'),
    )
    await until('all of them', async () => (await capture.drift()).length === 0 && capture.state === 'ok')

    vm.sh('ipset flush meshctl_alive')
    clock.advance(6000)
    await capture.drift()
    assert.deepEqual(members('meshctl_alive'), [], 'a proxy that is silent gets no heartbeat')

    await capture.stop()
    assert.match(rules(), /-A OUTPUT .*MESHCTL_OUTPUT/)
    assert.deepEqual(await capture.drift(), [])
  })
})
