#!/usr/bin/env node
// The process of the control host: signer, embedded registry, lease reaper. It is never on the path of traffic,
// discovery or config.
import { parseArgs } from 'node:util'
import { systemClock } from '../clock.ts'
import { Exit, MeshError, reason } from '../errors.ts'
import { makeLog } from '../log.ts'
import { pathsUnder } from '../paths.ts'
import { version } from '../version.ts'
import { readSetup } from './config.ts'
import type { ControlSetup } from './config.ts'
import { startControl } from './start.ts'

const usage = `usage: meshctl control [--dir FOLDER] [--check]
  --dir FOLDER  control.json, ca/ and state/ (default ${pathsUnder().control})
  --check       read and check everything, start nothing`

/** Past this the process ends without waiting for what does not stop. */
const stopWithinMs = 8000

interface Flags {
  readonly dir: string
  readonly check: boolean
  readonly help: boolean
}

function readFlags(argv: readonly string[]): Flags {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        dir: { type: 'string', default: pathsUnder().control },
        check: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
    return values
  } catch (error) {
    throw new MeshError('MSH0101', reason(error), { hint: usage })
  }
}

/** One line of what is wrong, then the problems and the hint; the status of the error. */
function fail(error: unknown): number {
  const known = error instanceof MeshError ? error : null
  const lines = [
    `meshctl control: ${reason(error)}${known === null ? '' : ` (${known.code})`}`,
    ...(known === null || known.details.length < 2 ? [] : known.details.map((detail) => `  ${detail}`)),
    ...(known?.hint === undefined ? [] : [`  ${known.hint}`]),
  ]
  process.stderr.write(`${lines.join('\n')}\n`)
  return known?.exit ?? Exit.failed
}

async function main(argv: readonly string[]): Promise<number> {
  const flags = readFlags(argv)
  if (flags.help) {
    process.stdout.write(`${usage}\n`)
    return Exit.ok
  }
  const setup = readSetup(flags.dir, systemClock.now())
  if (flags.check) {
    process.stdout.write(`${summary(setup)}\n`)
    return Exit.ok
  }

  // ──────────────────────────────── above: only read and check; below: ports and files ────────────────────────────────

  const log = makeLog('control')
  const stopping = nextSignal()
  const control = await startControl(setup, { clock: systemClock, log })
  const { signerPort, registryPort } = control
  log.info({ event: 'ready', version, mesh: setup.config.mesh, signerPort, registryPort }, 'control is ready')
  const signal = await stopping
  log.info({ event: 'stopping', signal }, 'control stops')
  const timer = systemClock.after(stopWithinMs, () => process.exit(Exit.failed))
  await control.close()
  timer.cancel()
  log.info({ event: 'stopped' }, 'control has stopped')
  return Exit.ok
}

function summary({ dir, config, issuer }: ControlSetup): string {
  const registry = config.consul === null ? 'embedded registry' : `Consul at ${config.consul.url}`
  const until = new Date(issuer.certificate.notAfter).toISOString().slice(0, 10)
  return `${dir}: ok; mesh ${config.mesh}, trust domain ${config.trustDomain}, ${registry}, issuing CA until ${until}`
}

function nextSignal(): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(signal))
  })
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  process.exitCode = fail(error)
}
