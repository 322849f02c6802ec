import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { createHash, createHmac, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import ssh2 from 'ssh2'
import { FakeClock } from '../../src/clock.ts'
import { MeshError } from '../../src/errors.ts'
import { connectSsh, type SshOptions } from '../../src/host/connect.ts'
import { SshHost } from '../../src/host/ssh.ts'
import { until } from '../agent/running.ts'
import { startSshServer, type SshServer } from './sshserver.ts'

describe('a host over SSH', () => {
  let folder: string
  let server: SshServer
  const pair = ssh2.utils.generateKeyPairSync('ed25519', { comment: 'test' })
  const locked = ssh2.utils.generateKeyPairSync('ed25519', {
    passphrase: 'open sesame',
    cipher: 'aes256-ctr',
    rounds: 4,
  })

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'meshctl-ssh-'))
    server = await startSshServer({ password: 'secret', publicKey: pair.public })
    writeFileSync(join(folder, 'key'), pair.private, { mode: 0o600 })
    writeFileSync(join(folder, 'locked'), locked.private, { mode: 0o600 })
  })

  after(async () => {
    await server.close()
    rmSync(folder, { recursive: true })
  })

  const options = (more: SshOptions = {}): SshOptions => ({
    agent: null,
    configFile: null,
    user: 'root',
    port: server.port,
    identities: [],
    password: 'secret',
    hostKeyCheck: 'off',
    timeoutMs: 5000,
    ...more,
  })
  const known = (text: string): string => {
    const path = join(folder, `known-${randomBytes(4).toString('hex')}`)
    writeFileSync(path, text)
    return path
  }

  it('runs commands by password and tells status, output and the host key', async () => {
    const host = await connectSsh('127.0.0.1', options())
    assert.deepEqual(await host.run('cat; echo err >&2; exit 3', { input: 'in' }), {
      status: 3,
      stdout: 'in',
      stderr: 'err\n',
    })
    assert.equal(host.hostKey, server.hostKey)
    host.close()
    await assert.rejects(host.run('true'), { code: 'MSH0501' })
  })

  it('logs in by key file, and names the way out when it cannot', async () => {
    const host = await connectSsh(
      '127.0.0.1',
      options({ password: undefined, identities: [join(folder, 'key')] }),
    )
    assert.equal((await host.run('echo hi')).stdout, 'hi\n')
    host.close()
    await assert.rejects(connectSsh('127.0.0.1', options({ password: 'wrong' })), { code: 'MSH0503' })
    await assert.rejects(connectSsh('127.0.0.1', options({ password: undefined })), {
      code: 'MSH0503',
      message: /no key/,
    })
    const key = { password: undefined, identities: [join(folder, 'locked')] }
    await assert.rejects(connectSsh('127.0.0.1', options(key)), { code: 'MSH0503', message: /passphrase/ })
    // The right passphrase opens it; the server does not know the key.
    const asked = { ...key, passphrase: () => Promise.resolve('open sesame') }
    await assert.rejects(connectSsh('127.0.0.1', options(asked)), {
      code: 'MSH0503',
      message: /refused user/,
    })
  })

  it('uses ssh-agent as ~/.ssh/config says', async (t) => {
    const socket = join(folder, 'agent')
    const agent = spawn('ssh-agent', ['-D', '-a', socket], { stdio: 'ignore' })
    t.after(() => agent.kill())
    const config = join(folder, 'config')
    const env = { ...process.env, SSH_AUTH_SOCK: socket }
    const add = (): boolean => spawnSync('ssh-add', ['-q', join(folder, 'key')], { env }).status === 0
    await until('the agent to hold the key', add)
    writeFileSync(join(folder, 'key.pub'), `${pair.public}\n`)
    const by = async (text: string): Promise<string> => {
      writeFileSync(config, `Host 127.0.0.1\n${text}\n`)
      const way = options({
        agent: undefined,
        configFile: config,
        password: undefined,
        identities: undefined,
      })
      try {
        const host = await connectSsh('127.0.0.1', way)
        host.close()
        return 'in'
      } catch (error) {
        return error instanceof MeshError ? error.code : String(error)
      }
    }
    const other = `IdentityFile ${join(folder, 'absent')}`
    assert.equal(await by(`IdentityAgent ${socket}\n${other}`), 'in')
    assert.equal(await by(`IdentityAgent none\n${other}`), 'MSH0503')
    // The file itself cannot be read as a key; the agent has what belongs to it.
    rmSync(join(folder, 'key'))
    assert.equal(
      await by(`IdentityAgent ${socket}\nIdentitiesOnly yes\nIdentityFile ${join(folder, 'key')}`),
      'in',
    )
    assert.equal(await by(`IdentityAgent ${socket}\nIdentitiesOnly yes\n${other}`), 'MSH0503')
    writeFileSync(join(folder, 'key'), pair.private, { mode: 0o600 })
  })

  it('checks the host key: strict, new, changed, hashed', async () => {
    const name = `[127.0.0.1]:${server.port}`
    const unknown = options({ hostKeyCheck: 'strict', knownHosts: [known('')] })
    await assert.rejects(connectSsh('127.0.0.1', unknown), { code: 'MSH0502', message: /not known/ })

    const salt = randomBytes(20)
    const hash = createHmac('sha1', salt).update(name).digest('base64')
    const hashed = known(`|1|${salt.toString('base64')}|${hash} ${server.hostKey}\n`)
    ;(await connectSsh('127.0.0.1', options({ hostKeyCheck: 'strict', knownHosts: [hashed] }))).close()

    const fresh = known('')
    ;(await connectSsh('127.0.0.1', options({ hostKeyCheck: 'accept-new', knownHosts: [fresh] }))).close()
    assert.equal(readFileSync(fresh, 'utf8'), `${name} ${server.hostKey}\n`)
    ;(await connectSsh('127.0.0.1', options({ hostKeyCheck: 'strict', knownHosts: [fresh] }))).close()

    const other = ssh2.utils.generateKeyPairSync('ed25519').public
    const changed = options({ hostKeyCheck: 'accept-new', knownHosts: [known(`${name} ${other}\n`)] })
    await assert.rejects(connectSsh('127.0.0.1', changed), { code: 'MSH0502', message: /changed/ })
    const revoked = options({
      hostKeyCheck: 'accept-new',
      knownHosts: [known(`@revoked * ${server.hostKey}\n`)],
    })
    await assert.rejects(connectSsh('127.0.0.1', revoked), { code: 'MSH0502', message: /revoked|not known/ })
  })

  it('writes and reads files atomically, and uploads with a checksum', async () => {
    const host = await connectSsh('127.0.0.1', options())
    const path = join(folder, 'put')
    await host.put(path, "it's\n", { mode: 0o600 })
    assert.equal(readFileSync(path, 'utf8'), "it's\n")
    assert.equal(statSync(path).mode & 0o777, 0o600)
    assert.equal(String(await host.get(path)), "it's\n")
    assert.equal(await host.get(join(folder, 'absent')), null)

    const big = randomBytes(3_000_000)
    writeFileSync(join(folder, 'big'), big)
    let seen = 0
    await host.upload(join(folder, 'big'), join(folder, 'big2'), {
      mode: 0o755,
      progress: (bytes) => (seen = bytes),
    })
    assert.equal(seen, big.length)
    const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')
    assert.equal(digest(readFileSync(join(folder, 'big2'))), digest(big))
    await assert.rejects(host.put('/nowhere/at/all', 'x'), { code: 'MSH0507' })
    host.close()
  })

  it('opens no more channels than sshd allows', async () => {
    const host = await connectSsh('127.0.0.1', options())
    const all = await Promise.all(Array.from({ length: 30 }, async (_, at) => await host.run(`echo ${at}`)))
    assert.deepEqual(
      all.map((result) => Number(result.stdout)),
      Array.from({ length: 30 }, (_, at) => at),
    )
    assert.ok(server.peak() <= 8, `${server.peak()} at once`)
    host.close()
  })

  it('does with as few sessions as sshd allows, and says so where it allows none', async () => {
    const few = await startSshServer({ password: 'secret', sessions: 2 })
    const host = await connectSsh('127.0.0.1', { ...options(), port: few.port })
    const all = await Promise.all([0, 1, 2, 3, 4, 5].map(async (at) => await host.run(`echo ${at}`)))
    assert.deepEqual(
      all.map((result) => Number(result.stdout)),
      [0, 1, 2, 3, 4, 5],
    )
    assert.equal(few.peak(), 2)
    host.close()
    await few.close()

    const none = await startSshServer({ password: 'secret', sessions: 0 })
    const client = new ssh2.Client()
    client.connect({ host: '127.0.0.1', port: none.port, username: 'root', password: 'secret' })
    await once(client, 'ready')
    const clock = new FakeClock()
    const identity = { label: 'vm1', user: 'root', hostKey: none.hostKey, sudoPassword: null, clock }
    const closed = new SshHost(client, identity)
    const told = assert.rejects(closed.run('true'), { code: 'MSH0501', hint: /MaxSessions/ })
    const state = { isOver: false }
    void told.finally(() => (state.isOver = true))
    await until('it to give up', () => {
      clock.advance(200)
      return state.isOver
    })
    await told
    closed.close()
    await none.close()
  })

  it('goes through a jump host', async () => {
    const far = await startSshServer({ password: 'secret' })
    const host = await connectSsh(
      '127.0.0.1',
      options({ port: far.port, jump: `root@127.0.0.1:${server.port}`, identities: [join(folder, 'key')] }),
    )
    assert.equal(host.hostKey, far.hostKey)
    assert.equal((await host.run('echo far')).stdout, 'far\n')
    host.close()
    await far.close()
  })

  it('says MSH0501 when the link is lost in the middle, at once', async () => {
    const host = await connectSsh('127.0.0.1', options())
    const running = host.run('echo up; sleep 30')
    const failing = assert.rejects(running, { code: 'MSH0501' })
    await host.run('true')
    server.cut()
    await failing
    await assert.rejects(host.run('true'), { code: 'MSH0501' })
    await assert.rejects(connectSsh('127.0.0.1', options({ port: 1 })), { code: 'MSH0501' })
  })

  it('gives up a command by time and by signal, the connection stays', async () => {
    const host = await connectSsh('127.0.0.1', options())
    await assert.rejects(host.run('sleep 30', { timeoutMs: 50 }), { code: 'MSH0507', message: /timed out/ })
    const abort = new AbortController()
    const running = host.run('sleep 30', { signal: abort.signal })
    abort.abort()
    await assert.rejects(running, { code: 'MSH0507', message: /aborted/ })
    assert.equal((await host.run('echo on')).stdout, 'on\n')
    host.close()
  })
})
