// Join and leave on real hosts: idempotent, exactly reversible, undone when broken off anywhere, SSH never lost.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { after, before, test } from 'node:test'
import { joinPhases } from '../../src/cli/join/types.ts'
import { Lab } from './lab.ts'
import { Mesh } from './mesh.ts'
import { differences, portrait, type Portrait } from './portrait.ts'
import { addUser, startWeb } from './service.ts'
import { sleep, until } from './shell.ts'

const web = 'web,port=8080,protocol=http,version=v1,unit=web.service,check=http:/healthz'
let lab: Lab
let mesh: Mesh
const portraits = new Map<string, Portrait>()

before(async () => {
  lab = await Lab.up({
    name: `join-${process.pid}`,
    hosts: ['control', 'vm1', { name: 'vm2', resolver: 'plain' }],
  })
  mesh = new Mesh(lab)
  await Promise.all([startWeb(lab, 'vm1'), startWeb(lab, 'vm2'), addUser(lab, 'vm1', 'shop')])
  await mesh.init('control')
  // As few sessions on a connection as administrators leave who tighten sshd.
  await lab.do('vm2', "echo 'MaxSessions 2' > /etc/ssh/sshd_config.d/20-few.conf && systemctl reload ssh")
  for (const host of ['vm1', 'vm2']) portraits.set(host, await portrait(lab, host))
})
after(async () => await lab.destroy())

async function assertAsBefore(host: string, when: string): Promise<void> {
  const first = portraits.get(host)
  assert.ok(first)
  assert.deepEqual(differences(first, await portrait(lab, host)), [], when)
  assert.equal((await lab.exec(host, 'echo in')).stdout, 'in\n', `SSH ${when}`)
}

for (const host of ['vm1', 'vm2']) {
  test(`${host}: join works, a second join changes nothing, leave puts everything back, a second leave is fine`, async () => {
    await mesh.mustJoin(host, [web])
    const joined = await portrait(lab, host)
    const first = portraits.get(host)
    assert.ok(first && differences(first, joined).length > 10, 'join changed the host')

    const again = await mesh.join(host, [web])
    assert.equal(again.status, 0, again.stderr)
    assert.match(again.stderr, /unchanged/)
    assert.deepEqual(differences(joined, await portrait(lab, host)), [])

    const left = await mesh.leave(host)
    assert.equal(left.status, 0, left.stderr)
    await assertAsBefore(host, 'after leave')

    const twice = await mesh.leave(host)
    assert.equal(twice.status, 0, twice.stderr)
    await assertAsBefore(host, 'after a second leave')
  })
}

test('sessions that are open stay open, new ones open at any moment of join and leave', async () => {
  const held = spawn('ssh', [...lab.sshArgs('vm1'), 'while echo tick; do sleep 0.2; done'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  let ticks = 0
  let longest = 0
  let last = performance.now()
  held.stdout.on('data', () => {
    ticks += 1
    longest = Math.max(longest, performance.now() - last)
    last = performance.now()
  })
  const state = { isOver: false }
  const fresh = (async () => {
    const failed: string[] = []
    while (!state.isOver) {
      const done = await lab.exec('vm1', 'true')
      if (done.status !== 0) failed.push(done.stderr)
      await sleep(300)
    }
    return failed
  })()
  await mesh.mustJoin('vm1', [web])
  const left = await mesh.leave('vm1')
  state.isOver = true
  const failed = await fresh
  assert.equal(held.exitCode, null, 'the session of before the join is still open')
  held.kill()
  assert.equal(left.status, 0, left.stderr)
  assert.deepEqual(failed, [])
  assert.ok(ticks > 10)
  assert.ok(longest < 5000, `the open session was silent for ${Math.round(longest)} ms`)
})

/** Starts a join and breaks it off by a signal when it reports the phase; resolves with its status when it has ended. */
async function breakAt(
  phase: string,
  signal: NodeJS.Signals,
  host: string = 'vm1',
): Promise<{ status: number | null; stderr: string; reached: boolean }> {
  const args = ['join', mesh.at(host), '--name', host, ...mesh.ssh, '--service', web, '--yes']
  const child = spawn(process.execPath, [mesh.program, ...args], {
    env: { ...process.env, MESHCTL_CONFIG: mesh.config, NO_COLOR: '1' },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let stderr = ''
  let reached = false
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString()
    if (!reached && new RegExp(`: ${phase}\\b`).test(stderr)) {
      reached = true
      child.kill(signal)
    }
  })
  const status = await new Promise<number | null>((ended) => child.once('exit', ended))
  return { status, stderr, reached }
}

for (const phase of joinPhases.slice(joinPhases.indexOf('dead-man'), joinPhases.indexOf('finish'))) {
  test(`a join interrupted in phase ${phase} is undone`, async () => {
    const { status, stderr, reached } = await breakAt(phase, 'SIGTERM')
    assert.ok(reached, `the phase was not reported: ${stderr}`)
    assert.notEqual(status, 0)
    await assertAsBefore('vm1', `after a join interrupted in ${phase}`)
  })
}

async function dies(phase: string, host: string): Promise<void> {
  const { reached, stderr } = await breakAt(phase, 'SIGKILL', host)
  assert.ok(reached, stderr)
  const left = 'test -e /etc/systemd/system/meshctl-undo.timer -o -e /etc/meshctl -o -e /opt/meshctl'
  await until('the dead-man timer to undo the join', async () => (await lab.enter(host, left)).status !== 0, {
    timeoutMs: 120_000,
    everyMs: 1000,
  })
  await assertAsBefore(host, `after the operator died in ${phase}`)
}

test(`the operator's machine dies in phase units, and in phase capture: the hosts undo the joins by themselves`, async () => {
  await Promise.all([dies('units', 'vm1'), dies('capture', 'vm2')])
})

test('the host loses its network in the middle of a join: undone, and a later join works', async () => {
  const { reached } = await breakAt('start', 'SIGKILL')
  assert.ok(reached)
  await lab.cut('vm1')
  await until(
    'the dead-man timer to undo the join',
    async () =>
      (await lab.enter('vm1', 'test -e /etc/systemd/system/meshctl-undo.timer -o -e /opt/meshctl')).status !==
      0,
    { timeoutMs: 120_000, everyMs: 1000 },
  )
  await lab.heal('vm1')
  await until('SSH', async () => (await lab.exec('vm1', 'true')).status === 0)
  await assertAsBefore('vm1', 'after the cable was back')
  await mesh.mustJoin('vm1', [web])
  assert.equal((await mesh.leave('vm1')).status, 0)
  await assertAsBefore('vm1', 'after leave')
})

test('workers that are left without their supervisor do not keep the host from being as it was', async () => {
  await mesh.mustJoin('vm1', [web])
  // Stopped, so that they are surely still there; killed first, the supervisor cannot end them.
  await lab.do(
    'vm1',
    'pid=$(systemctl show -p MainPID --value meshctl-proxy.service); kill -STOP $(pgrep -P "$pid"); ' +
      'systemctl -q mask --runtime meshctl-proxy.service; kill -KILL "$pid"; ' +
      'sh /var/lib/meshctl/journal/undo.sh all; systemctl -q unmask --runtime meshctl-proxy.service',
  )
  const left = await mesh.leave('vm1')
  assert.equal(left.status, 0, left.stderr)
  await assertAsBefore('vm1', 'after undo.sh')
})

test('joined again without timers: none is left, and the lines for crontab do their work', async () => {
  await mesh.mustJoin('vm1', [web])
  const timers = async (): Promise<number> =>
    (await lab.do('vm1', 'systemctl list-timers --all --no-legend')).match(/meshctl-\w+\.timer/g)?.length ?? 0
  assert.equal(await timers(), 3)
  const joined = await mesh.join('vm1', [web], ['--no-timers'])
  assert.equal(joined.status, 0, joined.stderr)
  assert.equal(await timers(), 0)
  const lines = joined.stdout.trim().split('\n')
  const commands = lines.map((line) => line.split(' ').slice(5).join(' '))
  assert.deepEqual(
    commands,
    ['renew', 'verify', 'report'].map((verb) => `/usr/local/bin/meshctl agent ${verb}`),
  )
  // Cron itself takes them, and would run them with as little around them: quiet when all is well.
  await lab.do('vm1', 'crontab -', { input: joined.stdout })
  assert.equal(await lab.do('vm1', 'crontab -l'), joined.stdout)
  for (const command of commands) {
    await until(command, async () => {
      const done = await lab.enter('vm1', `env -i HOME=/root PATH=/usr/bin:/bin sh -c '${command}'`)
      return done.status === 0 && done.stdout + done.stderr === ''
    })
  }
  await lab.do('vm1', 'crontab -r')
  assert.match((await mesh.join('vm1', [web], ['--no-timers'])).stderr, /unchanged/)
  assert.equal((await mesh.leave('vm1')).status, 0)
  await assertAsBefore('vm1', 'after leave')
})

test('the port that the resolver asks is held by another program: told, and no unit of ours stays behind', async () => {
  const taken = async (what: () => Promise<void>): Promise<void> => {
    await lab.do('vm2', 'systemd-run -q --unit=taken nc -lk 127.0.0.153 53')
    await until('the port to be taken', async () => {
      return (await lab.do('vm2', 'ss -Hltn src 127.0.0.153')) !== ''
    })
    try {
      await what()
    } finally {
      await lab.do('vm2', 'systemctl stop taken')
    }
  }
  await taken(async () =>
    assert.match((await mesh.join('vm2', [web])).stderr, /nc listens on 127.0.0.153:53/),
  )
  await assertAsBefore('vm2', 'after a refused join')
  await mesh.mustJoin('vm2', [web], ['--dns', 'off'])
  await taken(async () => assert.match((await mesh.join('vm2', [web])).stderr, /cannot have port 53/))
  assert.equal((await lab.enter('vm2', 'systemctl is-active meshctl-agent.socket')).stdout, 'inactive\n')
  assert.doesNotMatch(await lab.do('vm2', 'systemctl --failed --all --no-legend'), /agent/)
  await mesh.mustJoin('vm2', [web])
  await lab.do('vm2', 'systemctl stop meshctl-agent.socket')
  assert.match((await mesh.join('vm2', [web])).stderr, /updated/, 'systemd holds the port again')
  assert.match((await mesh.join('vm2', [web])).stderr, /unchanged/)
  assert.equal((await mesh.leave('vm2')).status, 0)
  await assertAsBefore('vm2', 'after leave')
})

test('a user with sudo joins and leaves as well as root', async () => {
  const at = mesh.at('vm2', 'deploy')
  const joined = await mesh.meshctl(['join', at, '--name', 'vm2', ...mesh.ssh, '--service', web, '--yes'])
  assert.equal(joined.status, 0, joined.stderr)
  const left = await mesh.meshctl(['leave', at, '--name', 'vm2', ...mesh.ssh, '--yes'])
  assert.equal(left.status, 0, left.stderr)
  await assertAsBefore('vm2', 'after leave')
})

test('a host that is not fit is refused before anything is touched', async () => {
  await lab.do('vm1', 'systemd-run -q --unit=taken nc -lk 15008')
  try {
    const done = await mesh.join('vm1', [web])
    assert.notEqual(done.status, 0)
    assert.match(done.stderr, /15008/)
  } finally {
    await lab.do('vm1', 'systemctl stop taken')
  }
  await assertAsBefore('vm1', 'after a refused join')
})
