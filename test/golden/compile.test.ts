// Golden files: test/golden/compile/<case>.yaml in, <case>.json out. `UPDATE_GOLDEN=1 npm run test:unit` writes them anew.
import assert from 'node:assert/strict'
import { globSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { describe, test } from 'node:test'
import { parseAllDocuments } from 'yaml'
import { compile } from '../../src/compile/compile.ts'
import type { CompileInput } from '../../src/compile/input.ts'
import type { MeshInstance } from '../../src/model/instance.ts'
import type { ServiceDeclaration } from '../../src/model/service.ts'
import { declared, hostConfig, input, instance } from '../compile/mesh.ts'

const folder = join(import.meta.dirname, 'compile')

/** First document of a case; the resources follow as documents of their own, as a user writes them. */
interface Case {
  readonly services?: readonly ({ readonly name: string } & Partial<ServiceDeclaration>)[]
  readonly instances?: readonly ({ readonly service: string; readonly host: string } & Partial<MeshInstance>)[]
  readonly vips?: CompileInput['vips']
  readonly local?: CompileInput['local']
}

function read(file: string): CompileInput {
  const [first, ...resources] = parseAllDocuments(readFileSync(file, 'utf8')).map((document): unknown =>
    document.toJS(),
  )
  const given = first as Case
  return input({
    config: hostConfig({ services: (given.services ?? []).map((service) => declared(service.name, service)) }),
    instances: (given.instances ?? []).map((each) => instance(each.service, each.host, each)),
    vips: given.vips ?? [],
    local: given.local ?? [],
    resources,
  })
}

describe('golden snapshots', () => {
  const cases = globSync('*.yaml', { cwd: folder }).toSorted()
  test('there are cases', () => assert.ok(cases.length >= 4))
  for (const file of cases) {
    test(basename(file, '.yaml'), () => {
      const found = compile(read(join(folder, file)))
      const golden = join(folder, file.replace('.yaml', '.json'))
      if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(golden, `${JSON.stringify(found, null, 2)}\n`)
      assert.deepEqual(structuredClone(found), JSON.parse(readFileSync(golden, 'utf8')))
    })
  }
})
