// The lab itself: what the other lab tests stand on.
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { Lab } from './lab.ts'
import { differences, portrait } from './portrait.ts'
import { startWeb } from './service.ts'
import { until } from './shell.ts'

let lab: Lab
before(async () => {
  lab = await Lab.up({ name: `machine-${process.pid}`, hosts: ['a', { name: 'b', resolver: 'plain' }] })
})
after(async () => await lab.destroy())

test('hosts have their own PID 1, name, address, network and users', async () => {
  const done = await lab.exec('a', 'cat /proc/1/comm; hostname; id -un; systemctl is-system-running')
  assert.deepEqual(done.stdout.trim().split('\n'), ['systemd', 'a', 'root', 'running'])
  assert.equal((await lab.exec('b', 'sudo -n id -un', { user: 'deploy' })).stdout.trim(), 'root')
  assert.equal((await lab.enter('a', 'systemctl is-active systemd-resolved')).stdout.trim(), 'active')
  assert.equal((await lab.enter('b', 'systemctl is-active systemd-resolved')).stdout.trim(), 'inactive')
  for (const address of [lab.host('a').address, lab.host('a').address6]) {
    // The switch may still be learning where the host is.
    await until(
      `a to answer at ${address}`,
      async () => (await lab.enter('b', `ping -c1 -W1 ${address}`)).status === 0,
    )
  }
})

test('a cut host is unreachable and heals; a reboot keeps the disk', async () => {
  await lab.cut('b')
  assert.equal((await lab.enter('a', `ping -c1 -W1 ${lab.host('b').address}`)).status, 1)
  await lab.heal('b')
  await until(
    'b to answer',
    async () => (await lab.enter('a', `ping -c1 -W1 ${lab.host('b').address}`)).status === 0,
  )
  await lab.do('b', 'echo kept > /root/file')
  const boot = await lab.do('b', 'cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1')
  await lab.reboot('b')
  assert.notEqual(await lab.do('b', 'cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1'), boot)
  assert.equal(await lab.do('b', 'cat /root/file'), 'kept\n')
})

test('a pulled plug ends every process at once; the host boots again', async () => {
  await startWeb(lab, 'a', { version: 'v7' })
  await lab.plug('a')
  assert.equal(lab.host('a').running, false)
  assert.notEqual((await lab.exec('a', 'true')).status, 0)
  await lab.boot('a')
  const answer = await until('web after the boot', async () => {
    const done = await lab.enter('b', `curl -sf -m 2 http://${lab.host('a').address}:8080/`)
    return done.status === 0 ? done.stdout : null
  })
  assert.match(answer, /^web v7 a/)
})

test('a portrait shows every kind of change and is steady without one', async () => {
  const one = await portrait(lab, 'b')
  assert.deepEqual(differences(one, await portrait(lab, 'b')), [])
  await lab.do(
    'b',
    `echo x > /etc/meshctl.conf; chmod 700 /srv; useradd -r stranger; iptables -t nat -N ODD; ip6tables -N ODD6
     ipset create odd hash:ip; echo 'nameserver 10.0.0.1' >> /etc/resolv.conf; mkdir -p /var/log/meshctl
     printf '[Service]\\nExecStart=/bin/sleep 1000\\n' > /etc/systemd/system/odd.service
     systemctl daemon-reload; systemctl start odd.service; ip route add 203.0.113.0/24 via ${lab.network.address}`,
  )
  const found = differences(one, await portrait(lab, 'b')).join('\n')
  for (const wanted of [
    'new: file /etc/meshctl.conf',
    'changed: path /srv',
    'stranger',
    'iptables :ODD',
    'ip6tables :ODD6',
    'ipset create odd',
    'nameserver 10.0.0.1',
    'new: ours /var/log/meshctl',
    'active odd.service',
    'route 203.0.113.0/24',
  ]) {
    assert.ok(found.includes(wanted), `${wanted} in:\n${found}`)
  }
})

test('two labs stand side by side; a destroyed one leaves nothing', async () => {
  const other = await Lab.up({ name: `machine2-${process.pid}`, hosts: ['a'] })
  assert.notEqual(other.network.number, lab.network.number)
  assert.equal((await other.exec('a', 'hostname')).stdout, 'a\n')
  const { bridge, number } = other.network
  await other.destroy()
  assert.equal(existsSync(`/sys/class/net/${bridge}`), false)
  assert.equal(existsSync(other.dir), false)
  assert.equal(readFileSync('/proc/self/mounts', 'utf8').includes(other.dir), false)
  const commands = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      } catch {
        return ''
      }
    })
  assert.equal(commands.filter((line) => line.includes(`--machine=m${number}-`)).length, 0)
  assert.equal((await lab.exec('b', 'hostname')).stdout, 'b\n', 'the other lab goes on')
})
