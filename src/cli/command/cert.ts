// `meshctl cert status`
import type { Command } from 'commander'
import { examples, subcommand, type Cli } from '../cli.ts'
import { outputOption, type Format } from '../output.ts'

export function register(program: Command, cli: Cli): void {
  const parent = subcommand(program, 'cert').summary('certificates and how long they last')
  parent.description('Certificates of the mesh.')
  examples(parent, ['meshctl cert status', 'meshctl cert status -o json'])
  const status = subcommand(parent, 'status').description(
    "Root, issuing, operator and every host's earliest certificate, with the time they\nhave left. Works with expired ones and without control. Exit status 79 when one\nis expired or close to it.",
  )
  outputOption(status).action(async (flags: { output: Format }) =>
    (await import('../certificates.ts')).printCertificates(cli, flags.output),
  )
}
