import assert from 'node:assert/strict'
import { chmodSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { MeshError } from '../../src/errors.ts'
import { readSetup } from '../../src/control/config.ts'
import { keyPem, makeKey } from '../../src/pki/key.ts'
import { Authority } from '../pki/authority.ts'
import { Plane } from './plane.ts'

const planes: Plane[] = []
const plane = (): Plane => {
  const made = new Plane()
  planes.push(made)
  return made
}
after(() => Promise.all(planes.map((made) => made.remove())))

function problems(dir: string, now: number = Date.now()): readonly string[] {
  try {
    readSetup(dir, now)
  } catch (error) {
    assert.ok(error instanceof MeshError && error.code === 'MSH0415', String(error))
    return error.details
  }
  return []
}

test('what init writes is accepted', () => {
  const { dir } = plane()
  assert.deepEqual(problems(dir), [])
})

test('all problems of control.json are told at once, unknown keys too', () => {
  const { dir } = plane()
  writeFileSync(
    join(dir, 'control.json'),
    JSON.stringify({
      schema: 2,
      mesh: 'Demo',
      trustDomain: '',
      names: [1],
      listen: '',
      signerPort: 70_000,
      embedded: { port: 1, token: 'short' },
      consul: { url: 'nonsense', token: 1, ca: 2 },
      leafSeconds: 1,
      leafDays: 3,
    }),
  )
  const found = problems(dir).join('\n')
  const named = [
    'leafDays',
    'schema',
    'mesh',
    'trustDomain',
    'names',
    'listen',
    'signerPort',
    'leafSeconds',
    'embedded.token',
  ]
  for (const name of [...named, 'consul.url', 'consul.token', 'consul.ca', 'exactly one of']) {
    assert.match(found, new RegExp(name), name)
  }
  writeFileSync(join(dir, 'control.json'), '{')
  assert.equal(problems(dir).length, 1)
})

test('the CA is checked: its key, its dates, its root, who may read it', () => {
  const readable = plane()
  chmodSync(join(readable.dir, 'ca/issuing.key'), 0o644)
  assert.match(problems(readable.dir).join(), /0600/)
  const swapped = plane()
  writeFileSync(join(swapped.dir, 'ca/issuing.key'), keyPem(makeKey()))
  assert.match(problems(swapped.dir).join(), /not the key of/)
  const foreign = plane()
  writeFileSync(join(foreign.dir, 'ca/roots.pem'), new Authority().roots)
  assert.match(problems(foreign.dir).join(), /does not lead to a root/)
  const old = plane()
  assert.match(problems(old.dir, Date.now() + 3 * 365 * 86_400_000).join(), /not valid now/)
  const empty = plane()
  rmSync(join(empty.dir, 'ca'), { recursive: true })
  assert.equal(problems(empty.dir).length, 3)
})
