// `npm test`: static checks, then the tests, closing with node:test's own summary.
import { spawnSync } from 'node:child_process'
import { globSync } from 'node:fs'

const suites: Record<string, string[]> = {
  unit: ['test/*.test.ts', 'test/!(lab|mesh|golden|gates)/**/*.test.ts'],
  mesh: ['test/mesh/**/*.test.ts'],
  lab: ['test/lab/**/*.test.ts'],
}
const asked = process.argv.slice(2)
const files = (asked.length > 0 ? asked : Object.keys(suites)).flatMap((name) => globSync(suites[name] ?? name))
const done = spawnSync(
  process.execPath,
  ['--disable-warning=ExperimentalWarning', '--test', '--test-concurrency=2', ...files],
  { stdio: 'inherit' },
)
process.exitCode = done.status ?? 1
