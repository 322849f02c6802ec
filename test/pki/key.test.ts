import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { MeshError } from '../../src/errors.ts'
import { keyPem, loadKey, makeKey, publicBytes, readKey, storeFile, storeKey } from '../../src/pki/key.ts'

const refused = (error: unknown) => error instanceof MeshError && error.code === 'MSH0416'
let folder = ''

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'meshctl-key-'))
})
after(() => rm(folder, { recursive: true }))

test('a key is stored 0600, atomically, and comes back the same', async () => {
  const path = join(folder, 'a.key')
  await writeFile(path, 'old', { mode: 0o644 })
  const key = makeKey()
  await storeKey(path, key)
  assert.equal((await stat(path)).mode & 0o777, 0o600)
  assert.ok(publicBytes(await loadKey(path)).equals(publicBytes(key)))
  assert.deepEqual(await readdir(folder), ['a.key'])
})

test('a key with a passphrase needs it', async () => {
  const path = join(folder, 'b.key')
  const key = makeKey()
  await storeKey(path, key, 'correct horse')
  assert.match(await readFile(path, 'utf8'), /^-----BEGIN ENCRYPTED PRIVATE KEY-----/)
  assert.ok(publicBytes(await loadKey(path, 'correct horse')).equals(publicBytes(key)))
  await assert.rejects(loadKey(path), refused)
  await assert.rejects(loadKey(path, 'wrong'), refused)
})

test('a failed write leaves no half file and the old content', async () => {
  await assert.rejects(storeFile(join(folder, 'none', 'c.key'), 'x', 0o600))
  await assert.rejects(storeFile(folder, 'x', 0o600))
  assert.deepEqual(
    (await readdir(folder)).filter((name) => name.endsWith('.new')),
    [],
  )
})

test('other keys and other files are refused without quoting them', async () => {
  assert.throws(
    () => readKey('nonsense-secret'),
    (error) => refused(error) && !String(error).includes('nonsense-secret'),
  )
  assert.throws(() => readKey(keyPem(generateKeyPairSync('ed25519').privateKey)), refused)
  await assert.rejects(loadKey(join(folder, 'missing.key')), refused)
})
