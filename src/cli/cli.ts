// What every command gets: the terminal, the global flags and the way to end with a status.
import { Command, type Option } from 'commander'
import type { Terminal } from './terminal.ts'

/** Flags that stand before or after any verb. */
export interface Globals {
  readonly context: string | undefined
  readonly config: string | undefined
  readonly verbose: boolean
}

export interface Cli {
  readonly terminal: Terminal
  readonly globals: () => Globals
  /** Sets the status of the process; the last call wins. */
  exit(status: number): void
  /**
   * Runs something that must not be cut off: on SIGINT or SIGTERM the signal aborts, and the command ends when `work`
   * has put things back. Without it an interrupt ends the process at once.
   */
  guarded<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T>
  /** For what Ctrl-C is the usual end of, and for child processes that have the terminal: signals only abort `signal`. */
  delegated(work: (signal: AbortSignal) => Promise<number>): Promise<number>
}

/** A module of `command/`: adds its command (with every option) to the program. */
export interface CommandModule {
  register(program: Command, cli: Cli): void
}

/** `Examples:` below the help of a command. Lines without the prompt. */
export function examples(command: Command, lines: readonly string[]): Command {
  return command.addHelpText('after', `\nExamples:\n${lines.map((line) => `  $ ${line}`).join('\n')}`)
}

/** A command whose failures are ours to print, with help that fits 80 columns. */
export function makeCommand(name: string): Command {
  return new Command(name)
    .exitOverride()
    .helpOption('-h, --help', 'print this')
    .configureHelp({
      helpWidth: 80,
      sortSubcommands: false,
      optionDescription: describe,
      commandDescription: (command) => prose(command.description()),
      subcommandDescription: (command) => prose(command.summary() || command.description()),
    })
    .configureOutput({ outputError: () => {} })
}

/** Folded for its width by the help itself: line ends of the source would break lines twice. */
function prose(text: string): string {
  return text.replaceAll('\n', ' ')
}

/** `(table, wide; default table)` instead of commander's longer form; switches are off unless given, which needs no word. */
function describe(option: Option): string {
  const notes: string[] = []
  if (option.argChoices !== undefined) notes.push(option.argChoices.join(', '))
  const value: unknown = option.defaultValue
  if (typeof value === 'string' || typeof value === 'number') notes.push(`default ${value}`)
  if (option.envVar !== undefined) notes.push(option.envVar)
  return notes.length === 0 ? option.description : `${option.description} (${notes.join('; ')})`
}

/** A subcommand with the same settings. */
export function subcommand(parent: Command, usage: string): Command {
  const [name = '', ...args] = usage.split(' ')
  const command = makeCommand(name)
  if (args.length > 0) command.arguments(args.join(' '))
  parent.addCommand(command)
  return command
}

/** Collects a flag that may be given several times. */
export function collect(value: string, previous: readonly string[] = []): string[] {
  return [...previous, value]
}
