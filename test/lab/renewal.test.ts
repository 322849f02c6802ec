// Certificates that live for two minutes: renewed, and served, under load.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Lab } from './lab.ts'
import { Mesh } from './mesh.ts'
import { addUser, loadFrom, startWeb } from './service.ts'
import { until } from './shell.ts'

const url = 'http://web.default.mesh:8080/'
const user = 'shop'
let lab: Lab
let mesh: Mesh

before(async () => {
  lab = await Lab.up({ name: `renewal-${process.pid}`, hosts: ['control', 'vm1', 'vm2'] })
  mesh = new Mesh(lab)
  await Promise.all([startWeb(lab, 'vm2'), addUser(lab, 'vm1', user)])
  await mesh.init('control', ['--leaf-lifetime', '2m'])
  await mesh.mustJoin('vm1', ['shop,port=9090,protocol=http,user=shop'])
  await mesh.mustJoin('vm2', ['web,port=8080,protocol=http,unit=web.service'])
  await until('the client to reach web', async () => {
    const done = await lab.enter('vm1', `curl -s -m 5 ${url}`, { user })
    return done.stdout.startsWith('web v1')
  })
})
after(async () => await lab.destroy())

test('certificates are renewed under load without a failed request', async () => {
  const served = async (): Promise<number> => {
    const report = JSON.parse(await mesh.do(['cert', 'status', '-o', 'json'])) as unknown
    const ends = [...JSON.stringify(report).matchAll(/"notAfter":"?([^",}]+)/gi)].map(
      (match) => match[1] ?? '',
    )
    const first = ends
      .map((text) => (/^\d+$/.test(text) ? Number(text) : Date.parse(text)))
      .toSorted((a, b) => a - b)[0]
    assert.ok(first !== undefined, 'cert status tells when certificates end')
    return first
  }
  const before = await served()
  const result = await loadFrom(lab, 'vm1', { user, url, seconds: 80, workers: 4 })
  assert.deepEqual(result.failed, [])
  assert.ok(result.ok > 1000)
  await until('certificates of later to be served', async () => (await served()) > before + 30_000)
})
