// The command line: finds the verb, loads only its module, runs it, turns failures into messages and statuses.
import { CommanderError, Option, type Command } from 'commander'
import { Exit, MeshError } from '../errors.ts'
import { nearest } from '../model/near.ts'
import { version } from '../version.ts'
import { makeCommand, type Cli, type Globals } from './cli.ts'
import { interrupted, printFailure } from './failure.ts'
import { systemTerminal, type Terminal } from './terminal.ts'
import { verbs, type Verb } from './verbs.ts'

// A library below the Istio schemas uses a deprecated module of Node; that is no news for whoever runs a command.
process.noDeprecation = true

const terminal = systemTerminal()

// Whoever reads us may stop early (`meshctl get … | head`): that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
})

// ---- above: read only; below: run ----

process.exit(await run(process.argv.slice(2), terminal))

async function run(argv: readonly string[], shown: Terminal): Promise<number> {
  const program = makeProgram()
  const interrupts = watchInterrupts(shown)
  let status: number = Exit.ok
  const cli: Cli = {
    terminal: shown,
    globals: () => program.opts<Globals>(),
    exit: (code) => {
      status = code
    },
    guarded: interrupts.guarded,
    delegated: interrupts.delegated,
  }
  try {
    const verb = findVerb(argv)
    if (verb === null) {
      addStubs(program)
      // `--version`, `--help` or nothing.
      if (argv.length === 0) {
        program.outputHelp()
        return Exit.usage
      }
    } else (await verb.load()).register(program, cli)
    await program.parseAsync([...argv], { from: 'user' })
    return interrupts.hit() ? interrupted : status
  } catch (error) {
    if (error instanceof CommanderError) return usage(error, commandOf(program, argv), shown)
    const failed = printFailure(shown, error, argv.includes('--verbose'))
    return interrupts.hit() ? interrupted : failed
  }
}

function makeProgram(): Command {
  return makeCommand('meshctl')
    .description('A service mesh for virtual machines and bare hosts, joined over SSH by one command.')
    .addOption(new Option('--context <name>', 'the mesh to talk to').env('MESHCTL_CONTEXT'))
    .addOption(new Option('--config <folder>', 'where contexts are kept').env('MESHCTL_CONFIG'))
    .option('--verbose', 'causes and stack of a failure', false)
    .version(version, '--version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand(false)
    .optionsGroup('Everywhere:')
    .addHelpText(
      'after',
      '\nFirst steps:\n' +
        '  $ meshctl init                        # make a mesh; asks what it needs\n' +
        '  $ meshctl join root@vm1 --service web,port=8080,version=v1,unit=web.service\n' +
        '  $ meshctl route set web --to v1=90,v2=10\n' +
        '  $ meshctl status\n\n' +
        'meshctl COMMAND --help shows the flags and examples of one command.',
    )
}

/** Every verb with its summary only, for the help. */
function addStubs(program: Command): void {
  for (const verb of verbs) {
    if (verb.hidden === true) continue
    program.addCommand(makeCommand(verb.name).summary(verb.summary).helpGroup(verb.group))
  }
}

/** The first word that is no global flag; null where there is none. Throws MSH0101 for an unknown verb. */
function findVerb(argv: readonly string[]): Verb | null {
  for (let at = 0; at < argv.length; at += 1) {
    const word = argv[at] ?? ''
    if (word === '--context' || word === '--config') at += 1
    else if (word === 'help') return argv[at + 1] === undefined ? null : findVerb(argv.slice(at + 1))
    else if (!word.startsWith('-')) {
      const verb = verbs.find(({ name, aliases }) => name === word || aliases?.includes(word) === true)
      if (verb !== undefined) return verb
      const names = verbs.flatMap(({ name, aliases, hidden }) =>
        hidden === true ? [] : [name, ...(aliases ?? [])],
      )
      const near = nearest(word, names)
      throw new MeshError('MSH0101', `unknown command "${word}"`, {
        hint: near === null ? 'meshctl --help' : `did you mean "${near}"?`,
      })
    }
  }
  return null
}

/** Commander's own errors: help and version are none, everything else is bad usage. */
function usage(error: CommanderError, command: string, shown: Terminal): number {
  if (error.exitCode === 0) return Exit.ok
  if (error.code === 'commander.help') return Exit.usage
  const [first = '', suggestion = ''] = error.message
    .replace(/^error: /, '')
    .replaceAll("'", '"')
    .split('\n')
  const near = /\(Did you mean (.*)\?\)/.exec(suggestion)?.[1]
  const said = `${first.charAt(0).toLowerCase()}${first.slice(1)}`.replace('. E', ': e').replace(/\.$/, '')
  return printFailure(
    shown,
    new MeshError('MSH0101', said, {
      hint: near === undefined ? `${command} --help` : `did you mean ${near}?`,
    }),
    false,
  )
}

/** `meshctl route set`: the command that the words name, without what was given to it. */
function commandOf(program: Command, argv: readonly string[]): string {
  const names = [program.name()]
  let at = program
  for (const word of argv) {
    const next = at.commands.find((one) => one.name() === word || one.aliases().includes(word))
    if (next === undefined) continue
    names.push(next.name())
    at = next
  }
  return names.join(' ')
}

interface Interrupts {
  hit(): boolean
  guarded: Cli['guarded']
  delegated: Cli['delegated']
}

function watchInterrupts(shown: Terminal): Interrupts {
  let current: { readonly controller: AbortController; readonly child: boolean } | null = null
  let hit = false
  const onSignal = (): void => {
    if (current?.child === true) {
      current.controller.abort()
      return
    }
    if (current === null || hit) process.exit(interrupted)
    hit = true
    shown.say('\ninterrupted: putting things back (once more to stop at once; hosts then undo by themselves)')
    current.controller.abort(new MeshError('MSH0102', 'interrupted'))
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  const within = async <T>(child: boolean, work: (signal: AbortSignal) => Promise<T>): Promise<T> => {
    const controller = new AbortController()
    current = { controller, child }
    try {
      return await work(controller.signal)
    } finally {
      current = null
    }
  }
  return {
    hit: () => hit,
    guarded: (work) => within(false, work),
    delegated: (work) => within(true, work),
  }
}
