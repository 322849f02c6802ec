import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { Place } from './place.ts'

const place = new Place()
before(async () => {
  await place.start()
  await place.host('vm1', '10.0.0.1', 'web,port=8080,protocol=http,version=v1')
  await place.host('vm2', '10.0.0.2', 'web,port=8080,protocol=http,version=v2', 'db,port=5432,protocol=tcp')
})
after(() => place.close())

const virtualService = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api}
spec:
  hosts: [api]
  http:
  - route: [{destination: {host: api}}]
`

test('route set writes both objects, says so, and is idempotent', async () => {
  const set = [
    'route',
    'set',
    'web',
    '--to',
    'v1=90,v2=10',
    '--timeout',
    '2s',
    '--retries',
    '3',
    '--retry-on',
    '5xx,reset',
  ]
  const dry = await place.run([...set, '--dry-run', '-o', 'yaml'])
  assert.equal(dry.status, 0, dry.err)
  assert.match(dry.out, /kind: VirtualService[\s\S]*weight: 90[\s\S]*---\n[\s\S]*kind: DestinationRule/)
  assert.match((await place.run(['get', 'all'])).err, /no objects/)

  const first = await place.run(set)
  assert.equal(first.status, 0, first.err)
  assert.equal(first.out, 'VirtualService default/web created\nDestinationRule default/web created\n')
  assert.match(first.err, /^\+ {11}weight: 90$/m)
  const second = await place.run(set)
  assert.equal(second.out, 'VirtualService default/web unchanged\nDestinationRule default/web unchanged\n')

  const third = await place.run(['route', 'set', 'web', '--to', 'v1=50,v2=50'])
  assert.equal(third.out, 'VirtualService default/web configured\nDestinationRule default/web unchanged\n')
  assert.match(third.err, /^- {11}weight: 90\n\+ {11}weight: 50$/m)
  const list = await place.run(['route', 'list'])
  assert.equal(
    list.out,
    'SERVICE  MATCH  TO           TIMEOUT  RETRIES\nweb      *      v1=50 v2=50  2s             3\n',
  )
})

test('route set refuses versions that are not there and says which are', async () => {
  const refused = await place.run(['route', 'set', 'web', '--to', 'v1=1,v4=1'])
  assert.equal(refused.status, 65)
  assert.match(
    refused.err,
    /no instance of web has the version v4\n {2}fix {3}did you mean "v1"\?; or add --force/,
  )
  const unknown = await place.run(['route', 'set', 'wbe', '--to', 'v1'])
  assert.match(unknown.err, /no instance of wbe is registered[\s\S]*did you mean "web"\?/)
  const forced = await place.run(['route', 'set', 'web', '--to', 'v1=1,v4=1', '--force', '--dry-run'])
  assert.equal(forced.status, 0, forced.err)
  assert.match(forced.err, /warning: no instance of web has the version v4/)
  const tcp = await place.run(['route', 'set', 'db', '--to', 'v1', '--timeout', '1s', '--force'])
  assert.equal(tcp.status, 64)
})

test('route get and unset', async () => {
  await place.run(['route', 'set', 'web', '--to', 'v2', '--header', 'X-Canary=true', '--rule', 'beta'])
  const got = await place.run(['route', 'get', 'web', '-o', 'wide'])
  assert.match(got.out, /^web +beta +x-canary=true +v2/m)
  const asked = await place.run(['route', 'unset', 'web'])
  assert.equal(asked.status, 64)
  assert.match(asked.err, /--yes is needed/)
  const rule = await place.run(['route', 'unset', 'web', '--rule', 'beta', '--yes'])
  assert.match(rule.out, /VirtualService default\/web configured/)
  const all = await place.run(['route', 'unset', 'web', '--yes'])
  assert.equal(all.out, 'VirtualService default/web deleted\nDestinationRule default/web deleted\n')
  const again = await place.run(['route', 'unset', 'web', '--yes'])
  assert.equal(again.status, 0)
  assert.match(again.err, /nothing to do/)
})

test('apply, get and delete', async () => {
  const created = await place.run(['apply', '-f', '-'], { input: virtualService })
  assert.equal(created.out, 'VirtualService default/api created\n', created.err)
  const same = await place.run(['apply', '-f', '-'], { input: virtualService })
  assert.equal(same.out, 'VirtualService default/api unchanged\n')
  const json = await place.run(['get', 'vs', 'api', '-o', 'json'])
  const parsed = JSON.parse(json.out) as {
    schemaVersion: number
    kind: string
    items: { metadata: { name: string } }[]
  }
  assert.deepEqual(
    [parsed.schemaVersion, parsed.kind, parsed.items[0]?.metadata.name],
    [1, 'ObjectList', 'api'],
  )
  const yaml = await place.run(['get', 'vs', 'api', '-o', 'yaml'])
  assert.equal(
    (await place.run(['apply', '-f', '-'], { input: yaml.out })).out,
    'VirtualService default/api unchanged\n',
  )
  const missing = await place.run(['get', 'vs', 'apj'])
  assert.equal(missing.status, 1)
  assert.match(missing.err, /did you mean "api"/)
  const gone = await place.run(['delete', 'vs', 'api', '--yes'])
  assert.equal(gone.out, 'VirtualService default/api deleted\n', gone.err)
  assert.equal((await place.run(['delete', 'vs', 'api', '--yes'])).status, 1)
  assert.equal((await place.run(['delete', 'vs', 'api', '--yes', '--ignore-not-found'])).status, 0)
})

test('one bad object: every problem is told, nothing is written', async () => {
  const folder = join(place.folder, 'objects')
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'a.yaml'), virtualService)
  writeFileSync(
    join(folder, 'b.yaml'),
    `${virtualService.replace('name: api', 'name: b')}    timout: 2s\n    fault: {}\n`,
  )
  writeFileSync(join(folder, 'notes.txt'), 'no object')
  const refused = await place.run(['apply', '-f', folder])
  assert.equal(refused.status, 65)
  assert.match(refused.err, /b\.yaml:8: .*timout: unknown key \(did you mean "timeout"\?\)/)
  assert.match(refused.err, /b\.yaml:9: .*fault: is not honoured yet/)
  assert.match(refused.err, /MSH0201/)
  assert.equal((await place.run(['get', 'all', '-o', 'name'])).out, '')
})

test('a write that lost the race changes nothing and says to try again', async () => {
  await place.run(['apply', '-f', '-'], { input: virtualService })
  // Two at once: whoever is second sees what the first wrote, or is told.
  const change = (seconds: number): Promise<{ status: number }> =>
    place.run(['apply', '-f', '-'], { input: `${virtualService}    timeout: ${seconds}s\n` })
  const statuses = (await Promise.all([change(1), change(2), change(3)])).map(({ status }) => status)
  assert.ok(statuses.includes(0))
  assert.ok(
    statuses.every((status) => status === 0 || status === 75),
    statuses.join(),
  )
  await place.run(['delete', 'vs', 'api', '--yes'])
})

test('service list and completion of live names', async () => {
  const list = await place.run(['service', 'list'])
  const lines = list.out.split('\n').map((line) => line.split(/ {2,}/))
  assert.deepEqual(lines[0], ['NAMESPACE', 'SERVICE', 'ADDRESS', 'PORTS', 'HEALTHY', 'VERSIONS'])
  assert.deepEqual(lines[1]?.toSpliced(2, 1), ['default', 'db', '5432/tcp', '1/1', '- 1/1'])
  assert.deepEqual(lines[2]?.toSpliced(2, 1), ['default', 'web', '8080/http', '2/2', 'v1 1/1, v2 1/1'])
  assert.match(lines[2][2] ?? '', /^240\.240\./)
  const get = await place.run(['service', 'get', 'web', '-o', 'name'])
  assert.equal(get.out, 'vm1:8080\nvm2:8080\n')
  assert.equal((await place.run(['__complete', '--', 'route', 'set', ''])).out, 'db\nweb\n')
  assert.equal(
    (await place.run(['__complete', '--', 'route', 'set', 'web', '--to', 'v1=1,'])).out,
    'v1=1,v1=\nv1=1,v2=\n',
  )
  assert.equal((await place.run(['__complete', '--', 'leave', ''])).out.includes('vm1\n'), true)
})
