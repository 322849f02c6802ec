// Each static gate has a planted violation here and is seen to refuse it: a gate that always passes is worse than none.
import assert from 'node:assert/strict'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { after, test } from 'node:test'
import { check, type Gate } from '../scripts/check.ts'

const root = resolve(import.meta.dirname, '..')
const planted = join(import.meta.dirname, 'gates')
const made: string[] = []
after(() => {
  for (const folder of made) rmSync(folder, { recursive: true, force: true })
})

/** A small project with the real configuration of every gate. */
function project(): string {
  const folder = mkdtempSync(join(tmpdir(), 'meshctl-gates-'))
  made.push(folder)
  for (const file of ['tsconfig.json', '.oxlintrc.json', '.oxfmtrc.json', 'knip.json'])
    cpSync(join(root, file), join(folder, file))
  // Only what the planted files need: the tools would follow a link to everything.
  mkdirSync(join(folder, 'node_modules'))
  for (const name of ['.bin', '@types', 'undici-types', 'oxlint-tsgolint', '@oxlint-tsgolint'])
    symlinkSync(join(root, 'node_modules', name), join(folder, 'node_modules', name))
  cpSync(join(root, '.gitignore'), join(folder, '.gitignore'))
  writeFileSync(
    join(folder, 'package.json'),
    `${JSON.stringify({ name: 'planted', version: '0.0.0', private: true, type: 'module', devDependencies: { '@types/node': '*' } }, null, 2)}\n`,
  )
  put(folder, 'src/cli/main.ts', "import { two } from '../net/two.ts'\n\nprocess.exitCode = two\n")
  put(folder, 'src/net/two.ts', 'export const two = 2\n')
  return folder
}

function put(folder: string, path: string, text: string): void {
  mkdirSync(dirname(join(folder, path)), { recursive: true })
  writeFileSync(join(folder, path), text)
}

// The file of test/gates/, where it is planted, the gate that must refuse it and what it must say.
const violations: [file: string, place: string, gate: Gate, says: RegExp][] = [
  ['types.txt', 'src/net/planted.ts', 'types', /TS2322/],
  ['enum.txt', 'src/net/planted.ts', 'types', /TS1294/],
  ['floating.txt', 'src/net/planted.ts', 'lint', /no-floating-promises/],
  ['condition.txt', 'src/net/planted.ts', 'lint', /no-unnecessary-condition/],
  ['any.txt', 'src/net/planted.ts', 'lint', /no-explicit-any/],
  ['default.txt', 'src/net/planted.ts', 'lint', /no-default-export/],
  ['console.txt', 'src/net/planted.ts', 'lint', /no-console/],
  ['format.txt', 'src/net/planted.ts', 'format', /planted\.ts/],
  ['dead.txt', 'src/net/planted.ts', 'dead code', /planted\.ts/],
]

test('a clean project passes every gate', () => {
  const folder = project()
  for (const gate of ['types', 'lint', 'format', 'dead code'] as const) {
    const { passed, output } = check(gate, folder)
    assert.ok(passed, `${gate}: ${output.slice(0, 2000)}`)
  }
})

for (const [file, place, gate, says] of violations) {
  test(`${gate} refuses ${file.replace('.txt', '')}`, () => {
    const folder = project()
    put(folder, place, readFileSync(join(planted, file), 'utf8'))
    const { passed, output } = check(gate, folder)
    assert.equal(passed, false, `${gate} let it pass`)
    assert.match(output.slice(0, 4000), says)
  })
}

test('lint refuses an import cycle', () => {
  const folder = project()
  put(folder, 'src/net/two.ts', "import { three } from './three.ts'\n\nexport const two = three - 1\n")
  put(folder, 'src/net/three.ts', "import { two } from './two.ts'\n\nexport const three = two + 1\n")
  const { passed, output } = check('lint', folder)
  assert.equal(passed, false)
  assert.match(output, /no-cycle/)
})

test('lint refuses a file that is too long', () => {
  const folder = project()
  put(
    folder,
    'src/net/planted.ts',
    Array.from({ length: 401 }, (_, n) => `export const n${n} = ${n}\n`).join(''),
  )
  const { passed, output } = check('lint', folder)
  assert.equal(passed, false)
  assert.match(output, /max-lines/)
})

test('layers refuses an upward import in the real tree', () => {
  const folder = mkdtempSync(join(tmpdir(), 'meshctl-gates-'))
  made.push(folder)
  cpSync(join(root, 'src'), join(folder, 'src'), { recursive: true })
  cpSync(join(root, 'test/layers.test.ts'), join(folder, 'test/layers.test.ts'))
  put(folder, 'package.json', '{ "type": "module" }\n')
  assert.ok(check('layers', folder).passed, 'the copy of the tree must pass before the violation is planted')
  put(folder, 'src/proxy/planted.ts', readFileSync(join(planted, 'layers.txt'), 'utf8'))
  const { passed, output } = check('layers', folder)
  assert.equal(passed, false)
  assert.match(output, /proxy must not import model/)
})
