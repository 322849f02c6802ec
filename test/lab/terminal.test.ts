// A person at a terminal and real hosts: the wizard to its end, passphrases and passwords, ssh-agent, logs that are followed.
// The host that joins has legacy iptables.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { ctrlC, down, enter, Pty } from '../cli/pty.ts'
import { Lab } from './lab.ts'
import { Mesh } from './mesh.ts'
import { differences, portrait, type Portrait } from './portrait.ts'
import { addUser, startWeb } from './service.ts'
import { must, until } from './shell.ts'

const web = 'web,port=8080,protocol=http,version=v1,unit=web.service,check=http:/healthz'
const phrase = 'Correct-Horse'
let lab: Lab
let mesh: Mesh
let first: Portrait

before(async () => {
  lab = await Lab.up({ name: `terminal-${process.pid}`, hosts: ['control', 'vm1'] })
  mesh = new Mesh(lab)
  await Promise.all([startWeb(lab, 'vm1'), addUser(lab, 'vm1', 'shop')])
  await lab.do(
    'vm1',
    `for name in iptables ip6tables; do update-alternatives --quiet --set $name /usr/sbin/$name-legacy; done
     useradd -m -G sudo ops && echo 'ops:${phrase}' | chpasswd && touch /home/ops/.sudo_as_admin_successful && chown ops: /home/ops/.sudo*
     echo 'PasswordAuthentication yes' > /etc/ssh/sshd_config.d/20-ops.conf; systemctl reload ssh`,
  )
  first = await portrait(lab, 'vm1')
})
after(async () => await lab.destroy())

/** `meshctl …` as typed; nothing of the tester's own SSH is used. */
function meshctl(args: readonly string[], env: Readonly<Record<string, string>> = {}): Pty {
  return new Pty([process.execPath, '--disable-warning=ExperimentalWarning', mesh.program, ...args], {
    MESHCTL_CONFIG: mesh.config,
    ...env,
  })
}

const known = (): string[] => ['--known-hosts', lab.knownHosts]
const rootKey = (): string => readFileSync(join(mesh.config, 'lab/root.key'), 'utf8')

test('init without a flag about the mesh: the wizard leads to a mesh that works, its root key encrypted', async () => {
  using pty = meshctl(['init', ...mesh.ssh])
  await pty.answer(/name of the mesh/, 'lab', enter)
  await pty.answer(/where shall control run\?[^]*on another machine/, down, enter)
  await pty.answer(/which machine/, mesh.at('control'), enter)
  await pty.answer(/address at which hosts reach control/, enter)
  await pty.answer(/where shall services be registered\?/, enter)
  await pty.answer(/make this mesh\?/, 'y', enter)
  await pty.answer(/passphrase for the root key/, phrase, enter)
  await pty.answer(/once more/, phrase, enter)
  await pty.see(/mesh lab is ready/, 90_000)
  assert.equal(await pty.end(), 0, pty.shown)
  assert.match(pty.shown, /context lab is current; the root key lies in .*root\.key: keep a copy elsewhere/)
  assert.doesNotMatch(pty.shown, /Horse/)
  assert.match(rootKey(), /^-----BEGIN ENCRYPTED PRIVATE KEY-----/)
  assert.match(await mesh.do(['status']), /lab/)
})

test('the root passphrase: not needed to bring control up to date, needed to sign, a wrong one is told', async () => {
  const again = ['init', 'lab', ...mesh.ssh, '--yes']
  const plain = await mesh.meshctl(again)
  assert.equal(plain.status, 0, plain.stderr)

  // Control's machine was lost: a new one needs a new issuing CA below the root.
  await lab.do(
    'control',
    'systemctl disable --quiet --now meshctl-control; mv /var/lib/meshctl-control /root/lost',
  )
  const unasked = await mesh.meshctl(again)
  assert.equal(unasked.status, 64)
  assert.match(unasked.stderr, /--passphrase-file is needed/)
  {
    using pty = meshctl(again)
    await pty.answer(/passphrase of the root key/, 'Wrong-Horse', enter)
    assert.equal(await pty.end(), 65, pty.shown)
    assert.match(pty.shown, /wrong passphrase for the root key .*root\.key\n[^]*MSH0416/)
  }
  assert.notEqual((await lab.enter('control', 'systemctl is-active meshctl-control')).status, 0)
  {
    using pty = meshctl(again)
    await pty.answer(/passphrase of the root key/, phrase, enter)
    await pty.see(/mesh lab is ready/, 90_000)
    assert.equal(await pty.end(), 0, pty.shown)
  }
  await mesh.do(['status'])
})

test('a key file with a passphrase: asked for once for all hosts, below it the progress goes on', async () => {
  const locked = join(lab.dir, 'work/locked')
  await must('cp', [lab.key, locked])
  await must('ssh-keygen', ['-q', '-p', '-N', phrase, '-f', locked])
  const hosts = [mesh.at('vm1'), mesh.at('control')]
  {
    using pty = meshctl(['join', ...hosts, '-i', locked, ...known(), '--dry-run'])
    await pty.answer(/passphrase of .*locked/, phrase, enter)
    assert.equal(await pty.end(), 0, pty.shown)
    assert.equal(pty.shown.match(/^kind: JoinPlan$/gm)?.length, 2, pty.shown)
    assert.equal(pty.shown.match(/✔ passphrase of/g)?.length, 1, pty.shown)
  }
  using pty = meshctl(['check', 'host', mesh.at('vm1'), '-i', locked, ...known()])
  await pty.answer(/passphrase of .*locked/, 'Wrong-Horse', enter)
  assert.notEqual(await pty.end(), 0)
  assert.match(pty.shown, /locked: wrong passphrase\n[^]*MSH0503/)
})

test('legacy iptables, joined by ssh-agent through a jump host: traffic flows, the rules are in the flavour of the host', async () => {
  const socket = join(lab.dir, 'work/agent.sock')
  const agent = spawn('ssh-agent', ['-D', '-a', socket], { stdio: 'ignore' })
  try {
    const env = { SSH_AUTH_SOCK: socket, HOME: '/nonexistent' }
    await until('ssh-agent', async () => await must('ssh-add', ['-q', lab.key], { env }).then(() => true))
    const args = [
      'join',
      mesh.at('vm1'),
      '--name',
      'vm1',
      ...known(),
      '-J',
      `root@${lab.host('control').address}`,
      '--service',
      web,
      '--service',
      'shop,user=shop',
    ]
    const joined = await mesh.meshctl(args, { env })
    assert.equal(joined.status, 0, joined.stderr)
    assert.doesNotMatch(joined.stderr, /flavours/)
  } finally {
    agent.kill()
    await once(agent, 'exit')
  }
  assert.match(await lab.do('vm1', 'iptables -V'), /legacy/)
  for (const tables of ['iptables', 'ip6tables']) {
    assert.match(await lab.do('vm1', `${tables}-legacy-save -t nat`), /-A OUTPUT .*-j MESHCTL_OUTPUT/)
    assert.doesNotMatch(await lab.do('vm1', `${tables}-nft-save 2>/dev/null`), /MESHCTL/)
  }
  assert.match(await lab.do('vm1', 'curl -s -m 5 http://web.default.mesh:8080/', { user: 'shop' }), /^web v1/)
  const log = await until('the access log', async () => {
    const text = await lab.do('vm1', 'cat /var/log/meshctl/access.log')
    return text.includes('"reporter":"destination"') ? text : null
  })
  assert.match(log, /"source":"spiffe:\/\/lab\.mesh\/ns\/default\/sa\/shop"/)
  // Flushed by somebody, they come back.
  await lab.do('vm1', 'iptables -t nat -F MESHCTL_OUTPUT')
  await until(
    'the rules',
    async () => (await lab.do('vm1', 'iptables -t nat -S MESHCTL_OUTPUT')).split('\n').length > 3,
  )
})

test('logs -f: new lines as they come; Ctrl-C is its end, status 0, and nothing is left on the host', async () => {
  const left = async (): Promise<string> =>
    (await lab.enter('vm1', 'pgrep -x tail; pgrep -x journalctl')).stdout
  const call = (path: string): Promise<string> =>
    lab.do('vm1', `curl -s -m 5 http://web.default.mesh:8080/${path}`, { user: 'shop' })
  {
    using pty = meshctl(['logs', mesh.at('vm1'), ...mesh.ssh, '--access', '-f', '-n', '1'])
    await pty.see(/"reporter"/)
    for (const path of ['first', 'second']) {
      await call(path)
      await pty.see(new RegExp(`"path":"/${path}"`))
    }
    assert.match(await left(), /\d/)
    pty.type(ctrlC)
    assert.equal(await pty.end(), 0, pty.shown)
    assert.doesNotMatch(pty.shown, /MSH\d|interrupted/)
    await until('tail to be gone', async () => (await left()) === '')
  }
  {
    // By a user with passwords for SSH and sudo; the journal this time.
    const login = ['logs', mesh.at('vm1', 'ops'), ...known(), '--ask-password', '--agent', '-f', '-n', '1']
    using pty = meshctl(login)
    await pty.answer(/password/, phrase, enter)
    await pty.see(/"msg"/)
    await lab.do('vm1', 'systemctl restart meshctl-agent')
    await pty.see(/"msg"[^]*"msg"/)
    pty.type(ctrlC)
    assert.equal(await pty.end(), 0, pty.shown)
    await until('journalctl to be gone', async () => (await left()) === '')
  }
  // Killed, it cannot say good-bye.
  const killed = spawn(
    process.execPath,
    [mesh.program, 'logs', mesh.at('vm1'), ...mesh.ssh, '--access', '-f'],
    {
      env: { ...process.env, MESHCTL_CONFIG: mesh.config },
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  await once(killed.stdout, 'data')
  killed.kill('SIGKILL')
  await until('tail to be gone', async () => (await left()) === '')
})

test('leave by a password, typed once for SSH and sudo: the host is as it was', async () => {
  using pty = meshctl(['leave', mesh.at('vm1', 'ops'), '--name', 'vm1', ...known(), '--ask-password'])
  await pty.answer(/out of the mesh\? \(y\/N\)/, 'y', enter)
  await pty.answer(/password/, phrase, enter)
  await pty.see(/as it was before the join/, 90_000)
  assert.equal(await pty.end(), 0, pty.shown)
  assert.deepEqual(differences(first, await portrait(lab, 'vm1')), [])
})
