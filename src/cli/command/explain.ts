// `meshctl explain CODE`
import type { Command } from 'commander'
import { errorCodes, errorEntry, MeshError } from '../../errors.ts'
import { nearest } from '../../model/near.ts'
import { examples, subcommand, type Cli } from '../cli.ts'
import { outputOption, printData, printList, type Format } from '../output.ts'
import { wrap } from '../wrap.ts'

export function register(program: Command, cli: Cli): void {
  const command = subcommand(program, 'explain [code]').summary('what an error code means')
  command.description('Explains an error code and how to mend its cause. Without a code: lists all.')
  outputOption(command)
  examples(command, ['meshctl explain MSH0401', 'meshctl explain -o json'])
  command.action((written: string | undefined, flags: { output: Format }) => {
    if (written === undefined) list(cli, flags.output)
    else explain(cli, written, flags.output)
  })
}

function list(cli: Cli, format: Format): void {
  printList(cli.terminal, format, {
    kind: 'ErrorCodeList',
    rows: errorCodes.map((code) => ({ code, ...errorEntry(code) })),
    columns: [
      { title: 'CODE', value: (row) => row.code },
      { title: 'EXIT', value: (row) => String(row.exit), right: true },
      { title: 'TITLE', value: (row) => row.title },
      { title: 'EXPLANATION', value: (row) => row.explain, wide: true },
    ],
    name: (row) => row.code,
    empty: 'no codes',
  })
}

function explain(cli: Cli, written: string, format: Format): void {
  const wanted = written
    .toUpperCase()
    .replace(/^(?:MSH)?0*(\d+)$/, (_, digits: string) => `MSH${digits.padStart(4, '0')}`)
  const code = errorCodes.find((known) => known === wanted)
  if (code === undefined) {
    const near = nearest(wanted, errorCodes)
    throw new MeshError('MSH0105', `no code "${written}"`, {
      hint: near === null ? 'meshctl explain' : `did you mean ${near}?`,
    })
  }
  const entry = errorEntry(code)
  const { terminal } = cli
  if (format === 'json' || format === 'yaml') printData(terminal, format, 'ErrorCode', { code, ...entry })
  else if (format === 'name') terminal.out(code)
  else {
    terminal.out(`${terminal.paint.bold(code)}  ${entry.title}  (exit status ${entry.exit})\n`)
    terminal.out(wrap(entry.explain, Math.min(terminal.width, 100)))
  }
}
