// `meshctl route` for TLS that is passed through.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Place } from './place.ts'

const place = new Place()
before(async () => {
  await place.start()
  await place.host('vm1', '10.0.0.1', 'vault,port=8200,protocol=https,version=v1')
  await place.host('vm2', '10.0.0.2', 'vault,port=8200,protocol=tls,version=v2', 'web,port=80,protocol=http')
})
after(() => place.close())

test('route set --sni, get and unset', async () => {
  const set = ['route', 'set', 'vault', '--to', 'v2', '--sni', 'beta.vault.test', '--sni', 'b2.vault.test']
  const first = await place.run(set)
  assert.equal(first.status, 0, first.err)
  assert.match(first.err, /^\+ +- beta\.vault\.test$/m)
  assert.match((await place.run(set)).out, /VirtualService default\/vault unchanged/)
  // All the rest of a port declared as tls.
  await place.run(['route', 'set', 'vault', '--to', 'v1=3,v2=1'])
  const got = await place.run(['route', 'get', 'vault'])
  assert.equal(
    got.out,
    [
      'SERVICE  MATCH                              TO         TIMEOUT  RETRIES',
      'vault    sni beta.vault.test,b2.vault.test  v2',
      'vault    sni *                              v1=3 v2=1\n',
    ].join('\n'),
  )
  const unset = ['route', 'unset', 'vault', '--sni', 'b2.vault.test', '--sni', 'beta.vault.test', '--yes']
  assert.match((await place.run(unset)).out, /VirtualService default\/vault configured/)
  assert.match((await place.run(unset)).err, /has no such rule/)
})

test('--sni is refused where it means nothing', async () => {
  const web = await place.run(['route', 'set', 'web', '--to', 'v1', '--force', '--sni', 'a.test'])
  assert.equal(web.status, 64)
  assert.match(web.err, /web speaks http: --sni is for TLS that is passed through[\s\S]*protocol=tls/)
  const timed = await place.run(['route', 'set', 'vault', '--to', 'v1', '--sni', 'a.test', '--timeout', '1s'])
  assert.equal(timed.status, 64)
  const bad = await place.run(['route', 'set', 'vault', '--to', 'v1', '--sni', 'a..test'])
  assert.equal(bad.status, 65)
  assert.match(bad.err, /"a\.\.test" is no server name/)
})
