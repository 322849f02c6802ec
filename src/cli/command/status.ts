// `meshctl status`
import type { Command } from 'commander'
import { examples, subcommand, type Cli } from '../cli.ts'
import { outputOption, type Format } from '../output.ts'

export function register(program: Command, cli: Cli): void {
  const command = subcommand(program, 'status').summary('control, registry, hosts')
  command.description(
    'Control, registry, and every host with its health, config and certificates.\nExit status 69 when control or registry do not answer.',
  )
  outputOption(command)
  examples(command, ['meshctl status', 'meshctl status -o wide', 'meshctl status -o json | jq .hosts'])
  command.action(async (flags: { output: Format }) =>
    (await import('../statusview.ts')).printStatus(cli, flags.output),
  )
}
