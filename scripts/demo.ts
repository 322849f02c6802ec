// `npm run demo`: a mesh of real hosts on this machine, from nothing, and the proof that it works. Progress on standard
// error, the proof on standard output; the exit status says whether every proof held.
//   --keep leaves the lab up to play with; --clean removes it.
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { reason } from '../src/errors.ts'
import { Lab } from '../test/lab/lab.ts'
import { Mesh } from '../test/lab/mesh.ts'
import { differences, portrait } from '../test/lab/portrait.ts'
import { addUser, startWeb } from '../test/lab/service.ts'
import { until } from '../test/lab/shell.ts'
import { build } from './build.ts'
import { marker, proveIdentity, proveKill, proveSplit, proveWire, url, type Proof } from './demo/proofs.ts'
import { Progress } from './progress.ts'
import { ensure } from './setup.ts'

const labName = 'demo'
const command = resolve(import.meta.dirname, '../bin/meshctl.js')

const { values } = parseArgs({
  options: {
    keep: { type: 'boolean', default: false },
    clean: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

const progress = new Progress()
const proofs: Proof[] = []

if (values.help) {
  console.log(
    'npm run demo [-- --keep | --clean]\n  --keep   leave the lab up to play with\n  --clean  remove a lab that was kept',
  )
} else if (process.getuid?.() !== 0) {
  console.error('the demo boots real hosts, which needs root: sudo npm run demo')
  process.exitCode = 1
} else if (!mine()) {
  process.exitCode = 1
} else if (values.clean) {
  const removed = await Lab.clean(({ name }) => name === labName)
  console.error(removed.length === 0 ? 'there is no lab of the demo' : 'removed the lab of the demo')
} else {
  await demo()
}

/** False, and said so: another demo runs on this machine. */
function mine(): boolean {
  try {
    Lab.claim(labName)
    return true
  } catch (error) {
    console.error(`another demo is running: ${reason(error)}`)
    return false
  }
}

async function demo(): Promise<void> {
  let lab: Lab | null = null
  let failure: unknown = null
  const interrupted = (): void => {
    console.error('\ninterrupted: removing the lab')
    void lab?.destroy().finally(() => process.exit(130))
  }
  process.on('SIGINT', interrupted)
  process.on('SIGTERM', interrupted)
  try {
    await progress.step('set-up', async (note) => {
      const installed = ensure('lab', note)
      note(installed.length === 0 ? 'all packages there' : `installed ${installed.join(' ')}`)
    })
    await progress.step('build', async (note) => {
      const { fresh, files } = await build()
      note(
        fresh
          ? files.map(({ name, bytes }) => `${name} ${(bytes / 1024).toFixed(0)} KB`).join(', ')
          : 'up to date',
      )
    })
    const made = await progress.step('lab: control vm1 vm2 vm3, real Debian hosts', async (note) => {
      const hosts = ['control', 'vm1', 'vm2', 'vm3']
      return await Lab.up({ name: labName, hosts, keep: values.keep, say: note })
    })
    lab = made
    await play(made, new Mesh(made, command))
  } catch (error) {
    failure = error
  }
  for (const { name, holds, lines } of proofs) {
    console.log(`\n${holds ? 'PROVED ' : 'FAILED '} ${name}`)
    for (const line of lines) console.log(`        ${line}`)
  }
  const held = proofs.filter(({ holds }) => holds).length
  if (failure !== null) {
    console.log(`\nThe demo stopped: ${reason(failure)}`)
  }
  console.log(`\n${held} of ${proofs.length} proofs hold, ${progress.seconds} s.`)
  if (failure !== null || held !== proofs.length || proofs.length === 0) process.exitCode = 1

  if (values.keep && lab !== null) console.log(howToPlay(lab))
  else await lab?.destroy()
  process.off('SIGINT', interrupted)
  process.off('SIGTERM', interrupted)
}

async function play(lab: Lab, mesh: Mesh): Promise<void> {
  await progress.step(
    'services: web v1 on vm1, web v2 on vm2; on vm3 the user shop, who only calls',
    async () => {
      await Promise.all([
        startWeb(lab, 'vm1', { version: 'v1', marker: marker.body }),
        startWeb(lab, 'vm2', { version: 'v2', marker: marker.body }),
        addUser(lab, 'vm3', 'shop'),
      ])
    },
  )
  const before = await progress.step('portrait of vm2 before the mesh', async (note) => {
    const taken = await portrait(lab, 'vm2')
    note(`${taken.size} entries`)
    return taken
  })
  await progress.step('meshctl init', async () => await mesh.init('control'))
  const web = (version: string): string =>
    `web,port=8080,protocol=http,version=${version},unit=web.service,check=http:/healthz`
  await progress.step('meshctl join vm1', async () => await mesh.mustJoin('vm1', [web('v1')]))
  await progress.step('meshctl join vm2', async () => await mesh.mustJoin('vm2', [web('v2')]))
  await progress.step('meshctl join vm3', async () => await mesh.mustJoin('vm3', ['shop,user=shop']))
  await progress.step(`first request: curl ${url}`, async (note) => {
    const answer = await until(
      'web to answer the client',
      async () => {
        const done = await lab.enter('vm3', `curl -sf -m 5 ${url}`, { user: 'shop' })
        return done.status === 0 && done.stdout.startsWith('web v') ? done.stdout.trim() : null
      },
      { timeoutMs: 30_000, everyMs: 250 },
    )
    note(answer)
  })
  await progress.step('meshctl route set web --to v1=90,v2=10', async () => {
    await mesh.do(['route', 'set', 'web', '--to', 'v1=90,v2=10'])
  })
  proofs.push(
    await progress.step(
      '1,000 requests by curl, captured on the wire',
      async (note) => await proveSplit(lab, note),
    ),
  )
  proofs.push(await progress.step('what the wire shows', async () => await proveWire(lab)))
  proofs.push(await progress.step('who the server saw', async () => await proveIdentity(lab)))
  await progress.step('meshctl route unset web', async () => {
    await mesh.do(['route', 'unset', 'web', '--yes'])
  })
  proofs.push(await progress.step('kill web on vm2 under load', async (note) => await proveKill(lab, note)))
  proofs.push(await progress.step('meshctl leave vm2', async () => await proveLeave(lab, mesh, before)))
  if (values.keep) {
    await progress.step('meshctl join vm2 again', async () => await mesh.mustJoin('vm2', [web('v2')]))
  }
}

async function proveLeave(
  lab: Lab,
  mesh: Mesh,
  before: Awaited<ReturnType<typeof portrait>>,
): Promise<Proof> {
  const left = await mesh.leave('vm2')
  const after = await portrait(lab, 'vm2')
  const changed = differences(before, after)
  const lines = [
    `${before.size} files, modes, rules, sets, units, users, routes and resolver entries compared: ${changed.length} differ`,
    ...changed.slice(0, 20),
  ]
  if (left.status !== 0) lines.push(`meshctl leave ended with status ${left.status}: ${left.stderr.trim()}`)
  return {
    name: 'after leave, vm2 is what it was before join',
    holds: left.status === 0 && changed.length === 0,
    lines,
  }
}

function howToPlay(lab: Lab): string {
  const mesh = new Mesh(lab, command)
  return `
The lab stays up. To play with it:
  export MESHCTL_CONFIG=${mesh.config}
  bin/meshctl.js status
  bin/meshctl.js service list
  bin/meshctl.js route set web --to v1=50,v2=50
  sh scripts/run.sh scripts/lab.ts --name ${labName} ssh vm3
  … and there: runuser -u shop -- curl ${url}
Remove it with: npm run demo -- --clean`
}
