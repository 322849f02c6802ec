// The agent process: `run` (default) and the one-shot verbs of the host.
import { parseArgs } from 'node:util'
import { systemClock } from '../clock.ts'
import { Exit, MeshError, reason } from '../errors.ts'
import { LocalHost } from '../host/local.ts'
import { makeLog } from '../log.ts'
import { forgetPassed, passedDescriptors } from '../net/activation.ts'
import { pathsUnder } from '../paths.ts'
import { version } from '../version.ts'
import { Agent } from './agent.ts'
import { enroll, readAll, readEnrollInput } from './enroll.ts'
import { readHostConfig } from './hostconfig.ts'
import { renew, report, verify, type VerbContext } from './verbs.ts'

const usage = `usage: meshctl agent [run | renew [--force] | verify | report | enroll] [--verbose]

  run      the agent itself (systemd starts it)
  renew    renews the certificates of this host when half of their life is over
  verify   checks what is served on the wire, DNS and capture
  report   what the agent says of this host
  enroll   the host's half of a join; one JSON object on standard input

Quiet and status 0 when all is well; otherwise one line and 69, 75 or 79.
`

const verbs = ['run', 'renew', 'verify', 'report', 'enroll'] as const
type Verb = (typeof verbs)[number]

interface Arguments {
  readonly verb: Verb
  readonly verbose: boolean
  readonly force: boolean
  readonly prefix: string
}

/** Null: help or version was asked for and printed. Throws MSH0101. */
function readArguments(args: string[]): Arguments | null {
  let parsed
  try {
    parsed = parseArgs({
      args,
      allowPositionals: true,
      options: {
        verbose: { type: 'boolean', short: 'v', default: false },
        force: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
        version: { type: 'boolean', default: false },
        // Everything below another folder than /: for tests.
        prefix: { type: 'string', default: '' },
      },
    })
  } catch (error) {
    throw new MeshError('MSH0101', reason(error), { hint: 'meshctl agent --help' })
  }
  const { values, positionals } = parsed
  if (values.help || values.version) {
    process.stdout.write(values.help ? usage : `${version}\n`)
    return null
  }
  const [word = 'run', ...more] = positionals
  const verb = verbs.find((known) => known === word)
  if (verb === undefined || more.length > 0) {
    throw new MeshError('MSH0101', `unknown verb "${[word, ...more].join(' ')}"`, {
      hint: 'meshctl agent --help',
    })
  }
  return { verb, verbose: values.verbose, force: values.force, prefix: values.prefix }
}

// ------------------------------------------------------------------------------------------------------------------
// Above this line only reading and checking; below it the host is touched.
// ------------------------------------------------------------------------------------------------------------------

async function main({ verb, verbose, force, prefix }: Arguments): Promise<void> {
  const paths = pathsUnder(prefix)
  if (verb === 'enroll') {
    const output = await enroll(readEnrollInput(await readAll(process.stdin)), paths)
    process.stdout.write(`${JSON.stringify(output)}\n`)
    return
  }
  const config = await readHostConfig(paths.hostConfig)
  const host = new LocalHost()
  if (verb === 'run') {
    const log = makeLog('agent')
    const passed = passedDescriptors(process.env, process.pid)
    forgetPassed(process.env)
    const agent = new Agent({ config, paths, host, clock: systemClock, log, passed })
    const stop = (signal: string): void => {
      log.info({ signal }, 'stopping')
      agent.stop().then(
        () => process.exit(Exit.ok),
        (error: unknown) => {
          log.error({ error: reason(error) }, 'stopping failed')
          process.exit(Exit.failed)
        },
      )
    }
    process.once('SIGTERM', () => stop('SIGTERM'))
    process.once('SIGINT', () => stop('SIGINT'))
    log.info({ version, host: config.host, mesh: config.mesh }, 'starting')
    await agent.start()
    return
  }
  const context: VerbContext = {
    config,
    paths,
    host,
    clock: systemClock,
    log: makeLog('agent', verbose ? 'info' : 'silent'),
    tell: (line) => {
      if (verbose) process.stderr.write(`${line}\n`)
    },
  }
  if (verb === 'renew') await renew(context, force)
  else await (verb === 'verify' ? verify : report)(context)
}

/** One line; with --verbose every detail and the hint. */
function fail(error: unknown, verbose: boolean): never {
  if (!(error instanceof MeshError)) {
    process.stderr.write(`meshctl agent: ${reason(error)}\n`)
    if (verbose && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`)
    process.exit(Exit.failed)
  }
  process.stderr.write(`meshctl agent: ${error.message} [${error.code}]\n`)
  if (verbose) {
    for (const detail of error.details) process.stderr.write(`  ${detail}\n`)
    if (error.hint !== undefined) process.stderr.write(`  try: ${error.hint}\n`)
  }
  process.exit(error.exit)
}

let verbose = process.argv.includes('--verbose')
try {
  const given = readArguments(process.argv.slice(2))
  if (given !== null) {
    verbose = given.verbose
    await main(given)
    if (given.verb !== 'run') process.exit(Exit.ok)
  }
} catch (error) {
  fail(error, verbose)
}
