// Attacks on joining, leaving and living on a host: other programs, other users, other operators, bad machines.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { Lab } from './lab.ts'
import { Mesh } from './mesh.ts'
import { differences, portrait, type Portrait } from './portrait.ts'
import { addUser, startWeb } from './service.ts'
import { type Ran, until } from './shell.ts'

const web = 'web,port=8080,protocol=http,version=v1,unit=web.service,check=http:/healthz'
const shop = 'shop,port=9000,user=shop'
let lab: Lab
let mesh: Mesh
const portraits = new Map<string, Portrait>()

before(async () => {
  lab = await Lab.up({
    name: `attack-${process.pid}`,
    hosts: ['control', { name: 'vm1', resolver: 'plain' }],
  })
  mesh = new Mesh(lab)
  await Promise.all([startWeb(lab, 'control'), startWeb(lab, 'vm1'), addUser(lab, 'vm1', 'shop')])
  await addUser(lab, 'vm1', 'mallory')
  await lab.do(
    'vm1',
    `useradd -m -G sudo ops && echo 'ops:Correct-Horse' | chpasswd && cp -r /root/.ssh /home/ops/ && touch /home/ops/.sudo_as_admin_successful && chown -R ops: /home/ops
     echo 'PasswordAuthentication yes' > /etc/ssh/sshd_config.d/20-ops.conf; systemctl reload ssh`,
  )
  await mesh.init('control')
  for (const host of ['control', 'vm1']) portraits.set(host, await portrait(lab, host))
})
after(async () => await lab.destroy())

async function changes(host: string): Promise<string[]> {
  const first = portraits.get(host)
  assert.ok(first)
  return differences(first, await portrait(lab, host))
}

/** As the operator types it, without the lab's own flags; `ssh` are those of SSH. */
async function dryRun(ssh: readonly string[], more: readonly string[] = []): Promise<Ran> {
  return await mesh.meshctl(['join', ...ssh, '--dry-run', '--service', web, ...more], {
    env: { SSH_AUTH_SOCK: '' },
  })
}

test('a host that runs control joins and leaves; control stays, its own traffic and data too', async () => {
  const joined = await mesh.join('control', [web])
  assert.equal(joined.status, 0, joined.stderr)
  assert.doesNotMatch(joined.stderr, /remains of an unfinished join/)
  const left = await mesh.leave('control')
  assert.equal(left.status, 0, left.stderr)
  assert.match(left.stderr, /as it was before the join/)
  assert.equal(await lab.do('control', 'systemctl is-active meshctl-control'), 'active\n')
  assert.deepEqual(
    (await changes('control')).filter((line) => !/\/var\/lib\/meshctl-control\//.test(line)),
    [],
  )
  await mesh.do(['status'])
})

test('nobody on the host gets at keys or sockets, or speaks as a service that is not his', async () => {
  await mesh.mustJoin('vm1', [web, shop])
  const files =
    '/etc/meshctl/host.json /var/lib/meshctl/identity/host.key /var/lib/meshctl/journal/before.json'
  for (const user of ['meshctl-proxy', 'mallory']) {
    for (const file of files.split(' '))
      assert.notEqual((await lab.enter('vm1', `cat ${file}`, { user })).status, 0, `${user} reads ${file}`)
  }
  const reach =
    'for s in /run/meshctl/agent.sock /run/meshctl/proxy/proxy.sock; do nc -z -U $s && echo $s; done; true'
  assert.equal(await lab.do('vm1', reach, { user: 'mallory' }), '')
  assert.equal(
    (await lab.enter('vm1', 'nc -z -U /run/meshctl/agent.sock', { user: 'meshctl-proxy' })).status,
    1,
  )
  // Capture ports are open to every local user; without a redirection by the kernel they serve nobody.
  const dial = (at: string): string =>
    `printf 'GET / HTTP/1.1\\r\\nHost: web.default.mesh:8080\\r\\n\\r\\n' | nc -w 2 ${at} 2>/dev/null || true`
  for (const at of ['127.0.0.1 15101', '127.0.0.1 15102', '127.0.0.1 15001', '::1 15101', '127.0.0.1 15006'])
    assert.equal(await lab.do('vm1', dial(at), { user: 'mallory' }), '', at)
  for (const port of [15001, 15101, 15132])
    assert.notEqual((await lab.enter('control', `nc -z -w 2 ${lab.host('vm1').address} ${port}`)).status, 0)
  // Who calls is the kernel's word: no header, no name of a process, no cgroup of one's own.
  const call = (path: string): string =>
    `curl -s -m 5 -H 'x-forwarded-client-cert: URI=spiffe://lab.mesh/ns/default/sa/web' http://web.default.mesh:8080/${path}`
  await lab.do(
    'vm1',
    `bash -c "exec -a web.service ${call('mallory')}"; mkdir /sys/fs/cgroup/system.slice/web.service/x 2>/dev/null; true`,
    {
      user: 'mallory',
    },
  )
  await lab.do('vm1', call('shop'), { user: 'shop' })
  const callers = await until('the access log', async () => {
    const log = await lab.do('vm1', 'grep \'"reporter":"destination"\' /var/log/meshctl/access.log || true')
    // Workers write their lines when they come to it: in no order.
    const found = [...log.matchAll(/"path":"([^"]*)".*"source":"([^"]*)"/g)].map(([, ...seen]) => seen)
    return found.length >= 2 ? (Object.fromEntries(found) as Record<string, string>) : null
  })
  assert.deepEqual(callers, {
    '/mallory': 'spiffe://lab.mesh/host/vm1',
    '/shop': 'spiffe://lab.mesh/ns/default/sa/shop',
  })
  assert.match(
    await lab.do('vm1', 'ss -Hltn'),
    /\[::1\]:15101 /,
    'what is redirected over IPv6 is served too',
  )
  for (const unit of ['agent', 'proxy']) {
    const said = await lab.do('vm1', `systemd-analyze security --no-pager meshctl-${unit}.service | tail -1`)
    const exposure = Number(/: ([\d.]+) /.exec(said)?.[1])
    assert.ok(exposure <= (unit === 'agent' ? 6 : 3.5), said)
  }
})

test('one host is not joined under two names, nor two hosts under one', async () => {
  const other = await mesh.meshctl(['join', mesh.at('vm1'), '--name', 'vm7', ...mesh.ssh, '--service', web])
  assert.notEqual(other.status, 0)
  assert.match(other.stderr, /joined as "vm1"/)
  const taken = await mesh.meshctl([
    'join',
    mesh.at('control'),
    '--name',
    'vm1',
    ...mesh.ssh,
    '--service',
    web,
  ])
  assert.notEqual(taken.status, 0)
  assert.match(taken.stderr, /vm1/)
  assert.deepEqual(
    (await changes('control')).filter((line) => !/\/var\/lib\/meshctl-control\//.test(line)),
    [],
  )
  assert.match(await mesh.do(['status']), /vm1/)
  assert.equal(await lab.do('vm1', 'systemctl is-active meshctl-agent'), 'active\n', 'the first one goes on')
})

test('resolv.conf rewritten as dhclient does: ours comes back, and leave restores what they wrote', async () => {
  const lease = `search office\\nnameserver ${lab.network.address}\\nnameserver 10.231.255.1\\n`
  await lab.do(
    'vm1',
    `printf '${lease}' > /etc/resolv.conf.dhclient && mv /etc/resolv.conf.dhclient /etc/resolv.conf`,
  )
  await until('the mesh to be asked first', async () =>
    (await lab.do('vm1', 'cat /etc/resolv.conf')).includes('nameserver 127.0.0.153\nsearch office'),
  )
  await until('names', async () => (await lab.enter('vm1', 'getent ahostsv4 web.default.mesh')).status === 0)
  assert.match(await lab.do('vm1', 'cat /var/lib/meshctl/state/resolvers.json'), /10\.231\.255\.1/)
  const left = await mesh.leave('vm1')
  assert.equal(left.status, 0, left.stderr)
  assert.match(left.stderr, /resolv\.conf was rewritten by others/)
  assert.equal(await lab.do('vm1', 'cat /etc/resolv.conf'), lease.replaceAll('\\n', '\n'))
  await lab.do('vm1', `printf 'nameserver ${lab.network.address}\\n' > /etc/resolv.conf`)
  assert.deepEqual(await changes('vm1'), [])
})

test('sudo with a password, jump hosts, wrong logins; a join and leave with IPv6 switched off', async () => {
  try {
    const { address } = lab.host('vm1')
    const known = ['--known-hosts', lab.knownHosts]
    const password = join(lab.dir, 'work/password')
    writeFileSync(password, 'Correct-Horse\n', { mode: 0o600 })
    const asOps = [`ops@${address}`, '--name', 'vm1', ...known, '--password-file', password]
    const shown = await dryRun([...asOps, '--print-command'])
    assert.equal(shown.status, 0, shown.stderr)
    assert.match(shown.stderr, /ssh .*ops@.*sudo sh -c/)
    assert.doesNotMatch(shown.stderr + shown.stdout, /Correct-Horse/)
    const jump = await dryRun([...asOps, '-i', lab.key, '-J', `root@${lab.host('control').address}`])
    assert.equal(jump.status, 0, jump.stderr)

    const noSudo = await dryRun([`ops@${address}`, '--name', 'vm1', ...known, '-i', lab.key])
    assert.match(noSudo.stderr, /root|sudo/)
    assert.notEqual(noSudo.status, 0)
    writeFileSync(password, 'wrong\n')
    const wrong = await dryRun(asOps)
    assert.match(wrong.stderr, /MSH0503/, wrong.stderr)
    writeFileSync(password, 'Correct-Horse\n')

    const strangers = join(lab.dir, 'work/strangers')
    writeFileSync(strangers, '')
    const unknown = await dryRun([mesh.at('vm1'), '--known-hosts', strangers, '-i', lab.key])
    assert.match(unknown.stderr, /is not known[^]*MSH0502/)
    writeFileSync(strangers, `${address} ${lab.host('control').hostKey}\n`)
    for (const check of ['strict', 'accept-new']) {
      const changed = await dryRun([
        mesh.at('vm1'),
        '--known-hosts',
        strangers,
        '-i',
        lab.key,
        '--host-key-check',
        check,
      ])
      assert.match(changed.stderr, /has changed[^]*MSH0502/)
    }
    await lab.do('vm1', 'sysctl -qw net.ipv6.conf.all.disable_ipv6=1')
    const joined = await mesh.meshctl(['join', ...asOps, '--service', web])
    assert.equal(joined.status, 0, joined.stderr)
    assert.match(await lab.do('vm1', 'curl -s -m 5 http://web.default.mesh:8080/'), /^web v1/)
    const left = await mesh.meshctl(['leave', ...asOps, '--yes'])
    assert.equal(left.status, 0, left.stderr)
  } finally {
    await lab.do('vm1', 'sysctl -qw net.ipv6.conf.all.disable_ipv6=0; systemctl restart systemd-networkd')
  }
})

test('machines that are not fit are refused in words, with the way out', async () => {
  const cases: [string, string, RegExp][] = [
    ['mount -t tmpfs -o size=20m tmpfs /opt', 'umount /opt', /MB free on \/opt/],
    [
      'mount --bind /usr/local /usr/local && mount -o remount,bind,ro /usr/local',
      'umount /usr/local',
      /\/usr\/local\/bin is read-only/,
    ],
    ['mv /usr/sbin/ipset /root/ipset', 'mv /root/ipset /usr/sbin/ipset', /ipset.*apt-get install -y ipset/s],
    ['systemd-run -q --unit=taken nc -lk 15008', 'systemctl stop taken', /15008/],
    ['mv /usr/sbin/ip6tables-save /root/', 'mv /root/ip6tables-save /usr/sbin/', /ip6tables/],
  ]
  for (const [breaking, mending, wanted] of cases) {
    await lab.do('vm1', breaking)
    try {
      const done = await dryRun([mesh.at('vm1'), '--name', 'vm1', ...mesh.ssh])
      assert.match(done.stderr, wanted, breaking)
      assert.match(done.stderr, /MSH0504/, breaking)
    } finally {
      await lab.do('vm1', mending)
    }
  }
  assert.deepEqual(await changes('vm1'), [])
})

test('the power plug is pulled in the middle of a join: after the boot the host is as it was', async () => {
  const args = ['join', mesh.at('vm1'), '--name', 'vm1', ...mesh.ssh, '--service', web]
  const child = spawn(process.execPath, [mesh.program, ...args], {
    env: { ...process.env, MESHCTL_CONFIG: mesh.config, NO_COLOR: '1' },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const ended = new Promise((done) => child.once('exit', done))
  await new Promise<void>((reached) => {
    let text = ''
    child.stderr.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      if (/: capture\b/.test(text)) reached()
    })
  })
  await lab.plug('vm1')
  child.kill('SIGKILL')
  await ended
  await lab.boot('vm1')
  const timer = 'test -e /etc/systemd/system/meshctl-undo.timer -o -e /etc/meshctl -o -e /opt/meshctl'
  await until('the dead-man timer', async () => (await lab.enter('vm1', timer)).status !== 0, {
    timeoutMs: 60_000,
  })
  assert.deepEqual(await changes('vm1'), [])
  await mesh.mustJoin('vm1', [web])
})

test('a leave that lost its operator is taken up again; a host out of reach is forgotten by force', async () => {
  const args = ['leave', mesh.at('vm1'), '--name', 'vm1', ...mesh.ssh, '--yes']
  const child = spawn(process.execPath, [mesh.program, ...args], {
    env: { ...process.env, MESHCTL_CONFIG: mesh.config, NO_COLOR: '1' },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  child.stderr.on('data', (chunk: Buffer) => {
    if (/: (drain|revoke)\b/.test(chunk.toString())) child.kill('SIGKILL')
  })
  await new Promise((done) => child.once('exit', done))
  await lab.cut('vm1')
  const forced = await mesh.leave('vm1', ['--force'])
  assert.equal(forced.status, 0, forced.stderr)
  assert.match(forced.stderr, /out of the mesh/)
  await lab.heal('vm1')
  // The lock of the operator that died runs out by itself.
  const again = await until(
    'the lock to run out',
    async () => {
      const done = await mesh.leave('vm1')
      return /MSH0508/.test(done.stderr) ? null : done
    },
    { timeoutMs: 90_000, everyMs: 3000 },
  )
  assert.equal(again.status, 0, again.stderr)
  assert.deepEqual(await changes('vm1'), [])
})
