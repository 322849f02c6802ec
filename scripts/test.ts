// `npm test`: build, static gates, then every test in one run of node:test, whose summary is the last thing printed.
// `npm run test:unit` (or mesh, lab, or any files) runs that part alone.
import { spawnSync } from 'node:child_process'
import { globSync } from 'node:fs'

const suites = {
  unit: ['test/*.test.ts', 'test/!(lab|mesh|gates)/**/*.test.ts'],
  // Whole programs: the command, agent and proxy as processes, a real Consul, the static tools. Not in `unit`.
  program: [
    'test/{gates,install}.test.ts',
    'test/{agent,proxy}/main.test.ts',
    'test/proxy/{balancers,bulk,idle,instructions,nginx,reload,waypoint}.test.ts',
    'test/cli/{objects,routes,status,usage,wizard}.test.ts',
    'test/registry/{consul,tls}.test.ts',
    'test/wire/h2/h2spec.test.ts',
  ],
  // Traffic through two hops in one process. Not in `unit`.
  traffic: [
    'test/proxy/{announce,attack,change,connect,cost,fair,flood,grpc,hbone,http,http2,patch,peer,poison}.test.ts',
    'test/proxy/{routing,serverfirst,smuggle,stall,storm,stranger,streams,trust,tunnel,websocket}.test.ts',
  ],
  mesh: ['test/mesh/**/*.test.ts'],
  lab: ['test/lab/**/*.test.ts'],
} as const satisfies Record<string, readonly string[]>

type Suite = keyof typeof suites

function filesOf(name: string): string[] {
  if (!(name in suites)) return [name]
  const found = globSync([...suites[name as Suite]])
  const apart: readonly string[] = name === 'unit' ? globSync([...suites.program, ...suites.traffic]) : []
  return found.filter((file) => !apart.includes(file)).toSorted()
}

const asked = process.argv.slice(2)
const all = asked.length === 0
const files = (all ? Object.keys(suites) : asked).flatMap(filesOf)
const node = (args: readonly string[]): boolean =>
  spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', ...args], { stdio: 'inherit' })
    .status === 0

let passed = true
// The lab runs what users run: the built command.
if (all || asked.includes('lab')) passed = node(['scripts/build.ts'])
if (all) passed = node(['scripts/check.ts']) && passed
if (files.length === 0) {
  console.error(`no tests in: ${asked.join(' ')}`)
  passed = false
} else {
  // Units wait more than they compute. Whole programs and labs beside each other would only take each other's time.
  const atOnce = asked.join() === 'unit' ? 3 : 2
  passed = node(['--test', `--test-concurrency=${atOnce}`, '--test-timeout=900000', ...files]) && passed
}
if (!passed) process.exitCode = 1
