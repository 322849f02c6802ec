import assert from 'node:assert/strict'
import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { enroll, readEnrollInput } from '../../src/agent/enroll.ts'
import { Identity } from '../../src/agent/identity.ts'
import { holdersOf, Keyring } from '../../src/agent/keyring.ts'
import { FakeClock } from '../../src/clock.ts'
import { MeshError } from '../../src/errors.ts'
import { makeKey } from '../../src/pki/key.ts'
import type { Secrets } from '../../src/snapshot/types.ts'
import { declared, hostConfig } from '../compile/mesh.ts'
import { Authority } from '../pki/authority.ts'
import { FakeSigner, furnish, makePlace, type Place, silent } from './place.ts'

const web = { name: 'web', namespace: 'default' }
const start = Date.UTC(2026, 5, 1)
let place: Place
let clock: FakeClock
let authority: Authority
let signer: FakeSigner
let pushed: Secrets[]

beforeEach(() => {
  place = makePlace()
  clock = new FakeClock(start)
  authority = new Authority('demo.mesh', start)
  signer = new FakeSigner(authority, () => clock.now())
  pushed = []
})
afterEach(() => place.remove())

function identity(services = [declared('web')]): Identity {
  return new Identity({
    config: hostConfig({ services, signers: ['https://control:15012'] }),
    keyring: new Keyring(place.paths),
    clock,
    log: silent,
    changed: (secrets) => pushed.push(secrets),
    connect: signer.connect,
    random: () => 0.5,
  })
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((done) => void setImmediate(done))
}

describe('renewal', () => {
  test('comes at half of life and a little, with new keys, and is handed on', async () => {
    await furnish(place.paths, authority, 'vm1', [web], { now: start, lifeSeconds: 3600 })
    const mine = identity()
    await mine.load()
    const before = mine.secrets()
    assert.deepEqual(
      before.leafs.map((leaf) => leaf.spiffe),
      ['spiffe://demo.mesh/host/vm1', 'spiffe://demo.mesh/ns/default/sa/web'],
    )
    mine.start()
    clock.advance(1700_000)
    assert.equal(signer.calls.length, 0)
    clock.advance(400_000)
    await until(() => pushed.length === 1)
    mine.stop()
    assert.deepEqual(signer.calls, [['spiffe://demo.mesh/host/vm1', 'spiffe://demo.mesh/ns/default/sa/web']])
    assert.notEqual(pushed[0]?.leafs[1]?.key, before.leafs[1]?.key)
    assert.ok((pushed[0]?.leafs[0]?.notAfter ?? 0) > clock.now() + 3_400_000)
    const again = identity()
    await again.load()
    assert.deepEqual(again.secrets(), pushed[0])
  })

  test('control away: waits with growing pauses, says why, goes on where it comes back', async () => {
    await furnish(place.paths, authority, 'vm1', [web], { now: start, lifeSeconds: 3600 })
    const mine = identity()
    await mine.load()
    signer.failure = new MeshError('MSH0401', 'control does not answer')
    clock.advance(2_800_000)
    await assert.rejects(mine.renew(), { code: 'MSH0401' })
    assert.match(mine.problem() ?? '', /not renewed: control does not answer/)
    mine.start()
    signer.failure = null
    clock.advance(2000)
    await until(() => pushed.length === 1)
    assert.equal(mine.problem(), null)
    mine.stop()
  })

  test('a service declared since the join gets its certificate at once', async () => {
    await furnish(place.paths, authority, 'vm1', [web], { now: start })
    const mine = identity([declared('web'), declared('api', { id: 'api', port: 1 })])
    await mine.load()
    assert.match(mine.problem() ?? '', /no certificate for .*sa\/api/)
    mine.start()
    clock.advance(400_000)
    await until(() => pushed.length === 1)
    mine.stop()
    assert.equal(mine.problem(), null)
    assert.equal(pushed[0]?.leafs.length, 3)
  })

  test('a service that the host may not have does not keep the others from being renewed', async () => {
    await furnish(place.paths, authority, 'vm1', [web], { now: start })
    const mine = identity([declared('web'), declared('bank', { id: 'bank', port: 1 })])
    await mine.load()
    signer.entitled = (spiffe) => !spiffe.endsWith('/bank')
    await assert.rejects(mine.renew(), { code: 'MSH0404' })
    assert.equal(pushed.at(-1)?.leafs.length, 2)
    assert.match(mine.problem() ?? '', /no certificate for .*bank: not entitled/)
  })

  test('many callers at once make one renewal', async () => {
    await furnish(place.paths, authority, 'vm1', [web], { now: start })
    const mine = identity()
    await mine.load()
    await Promise.all([mine.renew(), mine.renew(), mine.renew()])
    assert.equal(signer.calls.length, 1)
  })

  test('an expired certificate is named', async () => {
    await furnish(place.paths, authority, 'vm1', [web], { now: start, lifeSeconds: 3600 })
    const mine = identity()
    await mine.load()
    clock.advance(4_000_000)
    assert.match(mine.problem() ?? '', /^expired: .*host\/vm1/)
  })
})

describe('keys on disk', () => {
  test('0600 in a folder 0700; a rotation that was cut off is completed, one that did not begin is forgotten', async () => {
    await furnish(place.paths, authority, 'vm1', [web], { now: start })
    for (const name of readdirSync(place.paths.identity)) {
      assert.equal(statSync(join(place.paths.identity, name)).mode & 0o777, 0o600, name)
    }
    const keyring = new Keyring(place.paths)
    const [, holder] = holdersOf('demo.mesh', 'vm1', [web])
    assert.ok(holder)
    const path = join(place.paths.identity, holder.file)
    const old = { key: readFileSync(`${path}.key`, 'utf8'), chain: readFileSync(`${path}.pem`, 'utf8') }
    const next = authority.leaf(holder.spiffe, { now: start })
    writeFileSync(`${path}.pem.next`, next.chain)
    assert.equal((await keyring.load(holder))?.chain, old.chain)
    writeFileSync(`${path}.key`, next.key)
    const completed = await keyring.load(holder)
    assert.equal(completed?.chain, next.chain)
    assert.equal(readFileSync(`${path}.pem`, 'utf8'), next.chain)
  })

  test('damaged and foreign files are refused with their path', async () => {
    await furnish(place.paths, authority, 'vm1', [web], { now: start })
    const keyring = new Keyring(place.paths)
    const [host, holder] = holdersOf('demo.mesh', 'vm1', [web])
    assert.ok(host && holder)
    const path = join(place.paths.identity, holder.file)
    writeFileSync(`${path}.key`, 'junk')
    await assert.rejects(keyring.load(holder), { code: 'MSH0603' })
    const foreign = authority.service('bank')
    writeFileSync(`${path}.key`, foreign.key)
    writeFileSync(`${path}.pem`, foreign.chain)
    await assert.rejects(keyring.load(holder), /not for spiffe/)
    await assert.rejects(keyring.store(holder, makeKey(), foreign.chain), /not for the key/)
    // The agent goes on: the service's certificate is asked for anew.
    const mine = identity()
    await mine.load()
    assert.match(mine.problem() ?? '', /no certificate for .*web/)
    await mine.renew()
    assert.equal(mine.problem(), null)
  })

  test('without a certificate of its own the host cannot start', async () => {
    writeFileSync(place.paths.roots, authority.roots)
    await assert.rejects(identity().load(), { code: 'MSH0603' })
  })
})

describe('enroll', () => {
  const input = (): Parameters<typeof enroll>[0] => ({
    grant: 'g',
    signers: ['https://control:15012'],
    roots: authority.roots,
    mesh: 'demo',
    trustDomain: 'demo.mesh',
    host: 'vm1',
    services: [web, web],
  })

  test('makes keys and stores what control signs; a second try keeps the keys', async () => {
    signer.failure = new MeshError('MSH0401', 'the reply of control was lost')
    await assert.rejects(enroll(input(), place.paths, signer.connect), { code: 'MSH0401' })
    const key = readFileSync(join(place.paths.identity, 'default.web.key'), 'utf8')
    signer.failure = null
    assert.deepEqual(await enroll(input(), place.paths, signer.connect), { registryToken: 'token-1' })
    assert.equal(readFileSync(join(place.paths.identity, 'default.web.key'), 'utf8'), key)
    assert.deepEqual(readdirSync(place.paths.identity).toSorted(), [
      'default.web.key',
      'default.web.pem',
      'host.key',
      'host.pem',
    ])
    const mine = identity()
    await mine.load()
    assert.equal(mine.problem(), null)
  })

  test('what is missing on standard input is named, and nothing of it is repeated', () => {
    assert.throws(
      () => readEnrollInput('{"grant": "secret-grant"}'),
      (error: MeshError) => {
        assert.match(error.message, /"roots" is missing/)
        return !error.message.includes('secret-grant')
      },
    )
    assert.throws(
      () => readEnrollInput('secret-grant'),
      (error: MeshError) => !error.message.includes('secret'),
    )
    assert.equal(readEnrollInput(JSON.stringify(input())).host, 'vm1')
  })
})
