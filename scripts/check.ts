// Every static gate in one command; `--fix` formats instead of checking the format.
import { spawnSync } from 'node:child_process'

const fix = process.argv.includes('--fix')
const bin = (name: string): string => `node_modules/.bin/${name}`
const steps: { name: string; command: string; args: string[] }[] = [
  { name: 'format', command: bin('oxfmt'), args: fix ? ['.'] : ['--check', '.'] },
  { name: 'types', command: bin('tsc'), args: ['-p', '.'] },
  { name: 'lint', command: bin('oxlint'), args: ['--type-aware', '--deny-warnings', ...(fix ? ['--fix'] : [])] },
  { name: 'dead code', command: bin('knip'), args: [] },
  {
    name: 'layers',
    command: process.execPath,
    args: ['--test', '--test-reporter=dot', 'test/layers.test.ts'],
  },
]

let failed = false
const path = `${new URL('.', `file://${process.execPath}`).pathname}:${process.env['PATH'] ?? ''}`
for (const step of steps) {
  const began = performance.now()
  const done = spawnSync(step.command, step.args, { encoding: 'utf8', env: { ...process.env, PATH: path } })
  const took = `${Math.round(performance.now() - began)} ms`
  if (done.status === 0) {
    console.log(`ok      ${step.name} (${took})`)
  } else {
    failed = true
    console.log(`FAILED  ${step.name} (${took})\n${done.stdout}${done.stderr}`)
  }
}
process.exitCode = failed ? 1 : 0
