// A mesh on a real Consul cluster instead of the embedded registry: its server on the control host, one joined host with a
// Consul agent of its own, one without.
import assert from 'node:assert/strict'
import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { consulBinary } from '../../scripts/consul.ts'
import { Lab } from './lab.ts'
import { Mesh } from './mesh.ts'
import { addUser, loadFrom, startWeb } from './service.ts'
import { sleep, until } from './shell.ts'
import { Stillness } from '../stillness.ts'

const url = 'http://web.default.mesh:8080/'
const user = 'shop'
const web = (version: string): string =>
  `web,port=8080,protocol=http,version=${version},unit=web.service,check=http:/healthz,interval=1s`
/** Consul's leader and its agents compare what they have with what is true once a minute. */
const reconcileSeconds = 61
let lab: Lab
let mesh: Mesh

interface HealthEntry {
  readonly Node: { readonly Node: string }
  readonly Checks: readonly {
    readonly CheckID: string
    readonly Status: string
    readonly Output: string
  }[]
}

before(async () => {
  lab = await Lab.up({ name: `consul-${process.pid}`, hosts: ['control', 'vm1', 'vm2'] })
  mesh = new Mesh(lab)
  await startConsul('control', { server: true, bootstrap_expect: 1, client_addr: '0.0.0.0' })
  await startConsul('vm1', { retry_join: [lab.host('control').address] })
  await Promise.all([
    startWeb(lab, 'vm1', { version: 'v1' }),
    startWeb(lab, 'vm2', { version: 'v2' }),
    addUser(lab, 'vm1', user),
    addUser(lab, 'vm2', user),
    until('vm1 to be a member', async () => (await consul<unknown[]>('catalog/nodes')).length === 2, {
      timeoutMs: 30_000,
    }),
  ])
  await mesh.init('control', ['--consul', `http://${lab.host('control').address}:8500`])
  for (const [host, version] of [
    ['vm1', 'v1'],
    ['vm2', 'v2'],
  ] as const) {
    await mesh.mustJoin(host, [web(version), 'shop,port=9090,protocol=http,user=shop'])
  }
})
after(async () => await lab.destroy())

/** A Consul agent as a unit, its address the host's. */
async function startConsul(host: string, config: object): Promise<void> {
  const machine = lab.host(host)
  copyFileSync(consulBinary(), join(machine.disk, 'usr/local/bin/consul'))
  const json = JSON.stringify({
    node_name: host,
    data_dir: '/var/lib/consul',
    bind_addr: machine.address,
    disable_update_check: true,
    log_level: 'warn',
    ...config,
  })
  const unit =
    '[Service]\nExecStart=/usr/local/bin/consul agent -config-file /etc/consul.json\nRestart=always\n' +
    '[Install]\nWantedBy=multi-user.target\n'
  await lab.do(host, 'mkdir -p /var/lib/consul && cat > /etc/consul.json', { input: json })
  await lab.do(
    host,
    'cat > /etc/systemd/system/consul.service && systemctl daemon-reload && systemctl -q enable --now consul.service',
    { input: unit },
  )
  await until(`Consul on ${host}`, async () => {
    const done = await lab.enter(host, 'curl -sf -m 2 http://127.0.0.1:8500/v1/status/leader')
    return done.status === 0 && done.stdout.includes(':8300')
  })
}

/** What Consul itself says, asked from the operator's machine. */
async function consul<T>(path: string): Promise<T> {
  const reply = await fetch(`http://${lab.host('control').address}:8500/v1/${path}`)
  return (await reply.json()) as T
}

/** The hosts whose instance passes all its checks. */
async function healthy(): Promise<string> {
  const entries = await consul<HealthEntry[]>('health/service/web?passing=1')
  return entries
    .map(({ Node }) => Node.Node)
    .toSorted()
    .join(' ')
}

/** The versions that answer a client on a host, after some requests. */
async function answering(host: string, requests: number = 20): Promise<string> {
  const done = await lab.enter(host, `curl -s -m 5 '${url}?n=[1-${requests}]'`, { user, timeoutMs: 150_000 })
  const versions = [...done.stdout.matchAll(/^web (v\d)/gm)].map((match) => match[1] ?? '')
  return versions.length === requests
    ? [...new Set(versions)].toSorted().join(' ')
    : `${versions.length} of ${requests}`
}

async function bothAnswer(host: string): Promise<void> {
  await until(`both versions to answer ${host}`, async () => (await answering(host)) === 'v1 v2', {
    timeoutMs: 30_000,
    everyMs: 300,
  })
}

/** Pulls the plug; milliseconds until Consul counts only `left` as healthy. */
async function unplug(host: string, left: string): Promise<number> {
  await lab.plug(host)
  const died = performance.now()
  await until(`${host} to leave the healthy set`, async () => (await healthy()) === left, {
    timeoutMs: 60_000,
    everyMs: 100,
  })
  return performance.now() - died
}

test('both kinds of host are registered, found by name and reached over links', async () => {
  await until('both to be healthy', async () => (await healthy()) === 'vm1 vm2')
  await bothAnswer('vm1')
  await bothAnswer('vm2')
  const vip = await lab.do('vm1', 'getent ahostsv4 web.default.mesh')
  assert.match(vip, /^240\.240\./)
  assert.equal(await lab.do('vm2', 'getent ahostsv4 web.default.mesh'), vip)
  // With an agent of its own the host registers there and needs no lease check; without one it is a node of its own.
  const local = await lab.do('vm1', 'curl -s http://127.0.0.1:8500/v1/agent/services')
  assert.match(local, /"Service": ?"web"/)
  const checks = async (node: string): Promise<string[]> =>
    (await consul<HealthEntry['Checks']>(`health/node/${node}`)).map(({ CheckID }) => CheckID).toSorted()
  assert.ok((await checks('vm1')).includes('serfHealth'))
  assert.ok(!(await checks('vm2')).includes('serfHealth'))
  assert.equal((await mesh.meshctl(['status'])).status, 0)
})

test('Consul and meshctl do not fight over checks; a Consul agent that restarts loses nothing', async () => {
  const load = loadFrom(lab, 'vm2', { user, url, seconds: reconcileSeconds, workers: 2 })
  const seen = new Map<string, number>()
  const look = async (): Promise<void> => {
    const now = await healthy()
    seen.set(now, (seen.get(now) ?? 0) + 1)
  }
  const end = performance.now() + reconcileSeconds * 1000
  while (performance.now() < end) {
    await look()
    await sleep(250)
  }
  const { failed, versions } = await load
  assert.deepEqual(failed, [])
  assert.deepEqual(Object.keys(versions).toSorted(), ['v1', 'v2'])
  assert.deepEqual([...seen.keys()], ['vm1 vm2'], JSON.stringify([...seen]))
  const after = loadFrom(lab, 'vm2', { user, url, seconds: 5, workers: 2 })
  await lab.do('vm1', 'systemctl restart consul.service')
  assert.deepEqual((await after).failed, [])
  await until('vm1 to be healthy', async () => (await healthy()) === 'vm1 vm2', { timeoutMs: 20_000 })
  await bothAnswer('vm2')
})

test('both kinds of host leave the healthy set within 15 s of their death', async (t) => {
  const stillness = new Stillness()
  const withAgent = await unplug('vm1', 'vm2')
  t.diagnostic(`with a Consul agent: ${Math.round(withAgent)} ms`)
  await until('vm2 to use v2 only', async () => (await answering('vm2', 50)) === 'v2', { timeoutMs: 20_000 })
  const without = await unplug('vm2', '')
  t.diagnostic(`without one: ${Math.round(without)} ms`)
  const stood = stillness.end()
  t.diagnostic(`this machine stood still for ${stood} ms`)
  // Where the registry was not asked for 3 s (a second lies between two times), every host gets a full period again.
  const limit = stood < 2000 ? 15_000 : 45_000
  assert.ok(withAgent < limit, `${Math.round(withAgent)} ms`)
  assert.ok(without < limit, `${Math.round(without)} ms`)
})
