// Proxies of real hosts are reloaded, restarted and upgraded while callers never stop.
import assert from 'node:assert/strict'
import { appendFileSync, cpSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { Lab } from './lab.ts'
import { Mesh } from './mesh.ts'
import { addUser, loadFrom, startWeb } from './service.ts'
import type { LoadResult } from './service.ts'
import { sleep, until } from './shell.ts'

const url = 'http://web.default.mesh:8080/'
const user = 'shop'
const web = 'web,port=8080,protocol=http,unit=web.service'
const unit = 'meshctl-proxy.service'
const hosts = ['vm1', 'vm2'] as const
const patient = `apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: web }
spec:
  host: web
  trafficPolicy: { connectionPool: { tcp: { connectTimeout: 20s } } }
`
let lab: Lab
let mesh: Mesh

before(async () => {
  lab = await Lab.up({ name: `upgrade-${process.pid}`, hosts: ['control', ...hosts] })
  mesh = new Mesh(lab)
  await Promise.all([startWeb(lab, 'vm2'), addUser(lab, 'vm1', user)])
  await mesh.init('control')
  await mesh.mustJoin('vm2', [web])
  await mesh.mustJoin('vm1', ['shop,user=shop'])
  await answers()
})
after(async () => await lab.destroy())

async function answers(): Promise<void> {
  await until('the client to reach web', async () => {
    const done = await lab.enter('vm1', `curl -s -m 5 ${url}`, { user })
    return done.stdout.startsWith('web v1')
  })
}

async function mainPid(host: string): Promise<number> {
  return Number(await lab.do(host, `systemctl show -P MainPID ${unit}`))
}

/** Command lines of all processes of the proxy's user. */
async function processes(host: string): Promise<string[]> {
  const text = await lab.do(
    host,
    `for p in /proc/[0-9]*; do [ "$(stat -c %U $p 2>/dev/null)" != meshctl-proxy ] || { tr '\\0' ' ' < $p/cmdline; echo; }; done`,
  )
  return text.split('\n').filter((line) => /(proxy|worker)\.js/.test(line))
}

/** A request that takes so long, from when the service has it; resolves with its end. */
async function slowly(ms: number): Promise<{ end: Promise<string> }> {
  const asked = lab.enter('vm1', `curl -s -m ${ms / 1000 + 15} '${url}slow?ms=${ms}'`, { user })
  await until('the slow request to have come', async () => {
    return Number(await lab.do('vm2', 'curl -s -m 5 http://127.0.0.1:8080/waiting')) === 1
  })
  return { end: asked.then(({ stdout }) => stdout) }
}

/** Callers that never stop while `what` is done. */
async function under(seconds: number, what: () => Promise<void>): Promise<LoadResult> {
  const load = loadFrom(lab, 'vm1', { user, url, seconds, workers: 8 })
  await sleep(2000)
  await what()
  const result = await load
  assert.ok(result.ok > 500)
  return result
}

test('reloads of both proxies under load: no request fails or waits, what is slow ends', async (t) => {
  const before = await Promise.all(hosts.map(mainPid))
  const result = await under(14, async () => {
    const slow = await slowly(8000)
    for (const host of ['vm2', 'vm1', 'vm2', 'vm1']) await lab.do(host, `systemctl reload ${unit}`)
    assert.match(await slow.end, /^web v1/)
  })
  t.diagnostic(`max ${result.max_ms} ms, p99 ${result.p99_ms} ms of ${result.ok}`)
  assert.deepEqual(result.failed, [])
  assert.ok(result.max_ms < 2000, `${result.max_ms} ms`)
  const now = await Promise.all(hosts.map(mainPid))
  assert.ok(now.every((pid, at) => pid > 0 && pid !== before[at]))
  for (const host of hosts) {
    assert.match(
      await lab.do(host, `systemctl show -P NRestarts -P ActiveState ${unit}`),
      /active\n0|0\nactive/,
    )
    // The old generations end: one supervisor and its workers are left.
    await until('the old ones to end', async () => {
      const lines = await processes(host)
      return lines.filter((line) => !line.includes('worker.js')).length === 1
    })
    assert.doesNotMatch(await lab.do(host, `journalctl -b -u ${unit}`), /not our child/)
  }
})

test('a supervisor that took over and is killed comes back; its workers finish what they have', async (t) => {
  const pid = await mainPid('vm2')
  const result = await under(12, async () => {
    const slow = await slowly(5000)
    await lab.do('vm2', `kill -9 ${pid}`)
    await until('a new supervisor', async () => {
      const now = await mainPid('vm2')
      return now > 0 && now !== pid
    })
    assert.match(await slow.end, /^web v1/)
  })
  t.diagnostic(`max ${result.max_ms} ms, p99 ${result.p99_ms} ms of ${result.ok}`)
  assert.deepEqual(result.failed, [])
})

test('an upgrade by join under load: another release serves, no request fails', async (t) => {
  const next = join(lab.dir, 'work/next')
  cpSync(dirname(mesh.program), next, { recursive: true })
  appendFileSync(join(next, 'worker.js'), '// another release\n')
  const upgrade = new Mesh(lab, join(next, 'cli.js'))
  const before = await lab.do('vm2', 'readlink /opt/meshctl/current')
  const result = await under(40, async () => {
    // No name may come from a cache: the agents are replaced meanwhile.
    const forgetful = lab.do(
      'vm1',
      'timeout 38 sh -c "while resolvectl flush-caches; do sleep .1; done"; true',
    )
    await upgrade.mustJoin('vm2', [web])
    await upgrade.mustJoin('vm1', ['shop,user=shop'])
    await forgetful
  })
  t.diagnostic(`max ${result.max_ms} ms, p99 ${result.p99_ms} ms of ${result.ok}`)
  assert.deepEqual(result.failed, [])
  for (const host of hosts) {
    const now = (await lab.do(host, 'readlink /opt/meshctl/current')).trim()
    assert.notEqual(now, before.trim())
    const running = (await processes(host)).filter((line) => line.includes('worker.js'))
    assert.ok(
      running.some((line) => line.includes(`/opt/meshctl/${now}/worker.js`)),
      running.join('\n'),
    )
  }
})

test('a restart under load: callers wait for a moment, no request fails, what is slow ends', async (t) => {
  // A connect that fails after a while is an answer too; here the wait itself is what is looked at, on machines of any speed.
  await mesh.do(['apply', '-f', '-'], { input: patient })
  await until('the proxies to have it', async () => {
    const saved = hosts.map((host) => lab.enter(host, 'grep -q 20000 /var/lib/meshctl/proxy/snapshot.json'))
    return (await Promise.all(saved)).every(({ status }) => status === 0)
  })
  const result = await under(14, async () => {
    const slow = await slowly(7000)
    for (const host of ['vm2', 'vm1']) await lab.do(host, `systemctl restart ${unit}`)
    assert.match(await slow.end, /^web v1/)
  })
  t.diagnostic(`max ${result.max_ms} ms, p99 ${result.p99_ms} ms of ${result.ok}`)
  assert.deepEqual(result.failed, [])
  assert.ok(result.max_ms < 10_000, `${result.max_ms} ms`)
})

test('a stop ends every process', async () => {
  await lab.do('vm1', `systemctl stop ${unit} meshctl-proxy.socket meshctl-agent.service`)
  assert.deepEqual(await processes('vm1'), [])
  await lab.do('vm1', `systemctl start meshctl-proxy.socket ${unit} meshctl-agent.service`)
  await answers()
})

test('a host leaves with nothing left behind while an old generation lingers', async () => {
  const slow = await slowly(15_000)
  await lab.do('vm1', `systemctl reload ${unit}`)
  assert.equal((await processes('vm1')).filter((line) => !line.includes('worker.js')).length, 2)
  const left = await mesh.leave('vm1')
  assert.equal(left.status, 0, left.stderr)
  assert.equal((await lab.enter('vm1', 'getent passwd meshctl-proxy')).status, 2)
  await slow.end
})
