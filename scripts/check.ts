// Every static gate in one command; `--fix` formats instead of checking the format. test/gates.test.ts plants a
// violation for each and sees it fail.
import { spawnSync } from 'node:child_process'
import { dirname, join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')
const bin = (name: string): string => join(root, 'node_modules/.bin', name)

export const gates = {
  format: [bin('oxfmt'), '--check', '.'],
  types: [bin('tsc'), '-p', '.'],
  lint: [bin('oxlint'), '--type-aware', '--deny-warnings'],
  'dead code': [bin('knip')],
  layers: [
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    '--test',
    '--test-reporter=dot',
    'test/layers.test.ts',
  ],
} as const satisfies Record<string, readonly [string, ...string[]]>

export type Gate = keyof typeof gates

/** Runs one gate on a project folder. */
export function check(gate: Gate, folder: string = root): { passed: boolean; output: string } {
  const [command, ...args] = gates[gate]
  // The tools are Node programs: they get ours, not the machine's. A test runner above must not take the layer test in.
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}`,
  }
  delete env['NODE_TEST_CONTEXT']
  const done = spawnSync(command, args, { cwd: folder, encoding: 'utf8', env })
  return { passed: done.status === 0, output: `${done.stdout}${done.stderr}${done.error?.message ?? ''}` }
}

if (import.meta.main) {
  if (process.argv.includes('--fix')) {
    spawnSync(bin('oxfmt'), ['.'], { cwd: root, stdio: 'inherit' })
    spawnSync(bin('oxlint'), ['--fix'], { cwd: root, stdio: 'inherit' })
  }
  for (const gate of Object.keys(gates) as Gate[]) {
    const began = performance.now()
    const { passed, output } = check(gate)
    const took = `${Math.round(performance.now() - began)} ms`
    console.log(passed ? `ok      ${gate} (${took})` : `FAILED  ${gate} (${took})\n${output}`)
    if (!passed) process.exitCode = 1
  }
}
