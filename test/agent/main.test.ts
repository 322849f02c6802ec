// The agent as a process, against a real control plane over TLS: enroll by grant, run, the verbs, the end by SIGTERM.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { serviceSpiffe } from '../../src/model/service.ts'
import type { HostConfig } from '../../src/model/host.ts'
import { connectRegistry } from '../../src/registry/client.ts'
import type { Registry } from '../../src/registry/registry.ts'
import { declared, hostConfig } from '../compile/mesh.ts'
import { grantFor, managementToken, Plane } from '../control/plane.ts'
import { makePlace, type Place } from './place.ts'
import { ProxyStub, until } from './running.ts'

const main = join(import.meta.dirname, '../../src/agent/main.ts')

describe('the agent process', () => {
  let plane: Plane
  let place: Place
  let prefix = ''
  let config: HostConfig
  let registry: Registry
  const proxy = new ProxyStub()
  let agent: ChildProcess | null = null

  const start = (args: string[]): ChildProcess =>
    spawn(process.execPath, ['--disable-warning=ExperimentalWarning', main, ...args, '--prefix', prefix], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, MESHCTL_LOG: 'info' },
    })
  const run = async (
    args: string[],
    input: string = '',
  ): Promise<{ status: number | null; out: string; err: string }> => {
    const child = start(args)
    let [out, err] = ['', '']
    child.stdout?.on('data', (bytes: Buffer) => (out += bytes.toString()))
    child.stderr?.on('data', (bytes: Buffer) => (err += bytes.toString()))
    child.stdin?.end(input)
    const [status] = (await once(child, 'close')) as [number | null]
    return { status, out, err }
  }

  before(async () => {
    plane = new Plane()
    await plane.start()
    place = makePlace()
    prefix = place.paths.etc.slice(0, -'/etc/meshctl'.length)
    await proxy.start(place.paths.proxySocket)
    registry = connectRegistry({
      url: `https://127.0.0.1:${plane.registryPort}`,
      token: managementToken,
      ca: plane.authority.roots,
      spiffe: 'spiffe://demo.mesh/control',
      localAgent: null,
    })
  })

  after(async () => {
    agent?.kill('SIGKILL')
    registry.close()
    proxy.stop()
    await plane.remove()
    place.remove()
  })

  test('enroll: keys made here, certificates for exactly the grant, the token on standard output', async () => {
    const { grant } = await plane
      .operator()
      .grant(grantFor('vm1', ['web'], { address: hostConfig().address }))
    const input = {
      grant,
      signers: [plane.url],
      roots: plane.authority.roots,
      mesh: 'demo',
      trustDomain: 'demo.mesh',
      host: 'vm1',
      services: [{ name: 'web', namespace: 'default' }],
    }
    const { status, out, err } = await run(['enroll'], JSON.stringify(input))
    assert.equal(status, 0, err)
    const { registryToken } = JSON.parse(out) as { registryToken: string }
    assert.ok(registryToken.length > 20)
    assert.ok(!err.includes(grant) && !out.includes('PRIVATE'))
    assert.deepEqual(readdirSync(place.paths.identity).toSorted(), [
      'default.web.key',
      'default.web.pem',
      'host.key',
      'host.pem',
    ])
    assert.equal(statSync(join(place.paths.identity, 'host.key')).mode & 0o777, 0o600)
    const again = await run(['enroll'], JSON.stringify(input))
    assert.notEqual(again.status, 0, 'a grant opens once')
    config = hostConfig({
      services: [declared('web', { checks: [{ args: ['true'], interval: '100ms' }] })],
      signers: [plane.url],
      registry: {
        url: `https://127.0.0.1:${plane.registryPort}`,
        token: registryToken,
        ca: plane.authority.roots,
        spiffe: 'spiffe://demo.mesh/control',
        localAgent: null,
      },
      capture: { outbound: 'off', inbound: false, excludePorts: [], excludeCidrs: [] },
    })
    writeFileSync(place.paths.hostConfig, JSON.stringify(config), { mode: 0o600 })
  })

  test('without an agent the verbs say so with their statuses', async () => {
    const { status, err } = await run(['report'])
    assert.deepEqual([status, err.trim().split('\n').length], [69, 1])
    assert.deepEqual(await run(['renew']), { status: 0, out: '', err: '' })
    assert.equal((await run(['dance'])).status, 64)
    assert.match((await run(['--help'])).out, /usage: meshctl agent/)
  })

  test('runs with the token and certificates of the join; verbs are quiet when all is well', async () => {
    agent = start(['run'])
    let log = ''
    agent.stderr?.on('data', (bytes: Buffer) => (log += bytes.toString()))
    await until(
      'registered',
      async () => (await registry.instances('web')).value[0]?.passing === true,
      60_000,
    )
    await until('a snapshot with web', () =>
      proxy.snapshots.at(-1)?.clusters.some(({ endpoints }) => endpoints.length === 1),
    )
    assert.equal(proxy.secrets.at(-1)?.leafs[1]?.spiffe, serviceSpiffe('demo.mesh', 'default', 'web'))
    await until('a report that says all is well', async () => (await run(['report'])).status === 0, 20_000)
    const renewed = await run(['renew', '--force', '--verbose'])
    assert.match(renewed.err, /renewed; valid until/)
    await until('pushed', () => proxy.secrets.length >= 2)
    // Nothing serves links here: verify must find that out.
    const found = await run(['verify'])
    assert.deepEqual([found.status, found.out, found.err.trim().split('\n').length], [79, '', 1])
    assert.match(found.err, /web\.default: the proxy does not serve it/)
    const secrets = [config.registry.token ?? '', 'PRIVATE KEY', managementToken]
    for (const secret of secrets) assert.ok(!log.includes(secret), 'the log holds a secret')
  })

  test('control and registry away: it goes on; SIGTERM ends it cleanly', async () => {
    await plane.stop()
    await until(
      'the report says so',
      async () => {
        const { status, err } = await run(['report'])
        return status === 79 && err.includes('registry away')
      },
      60_000,
    )
    const renewed = await run(['renew', '--force'])
    assert.ok(renewed.status === 75 || renewed.status === 69, renewed.err)
    agent?.kill('SIGTERM')
    const [status] = (await once(agent ?? assert.fail(), 'close')) as [number | null]
    agent = null
    assert.equal(status, 0)
    assert.ok(existsSync(join(place.paths.proxyState, 'snapshot.json')))
    assert.match(readFileSync(join(place.paths.state, 'view.json'), 'utf8'), /"service":"web"/)
  })
})
