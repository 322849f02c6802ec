// `-o table|wide|json|yaml|name`, the same for every command that reads.
import { Option, type Command } from 'commander'
import { printYaml } from '../model/text.ts'
import { clean, layTable, type Column } from './table.ts'
import type { Terminal } from './terminal.ts'

export const formats = ['table', 'wide', 'json', 'yaml', 'name'] as const
export type Format = (typeof formats)[number]

/** Version of the JSON and YAML that commands print; grows when a field changes its meaning or goes. */
export const schemaVersion = 1

export interface Listing<Row> {
  /** `ServiceList`: names the shape of the JSON. */
  readonly kind: string
  readonly rows: readonly Row[]
  readonly columns: readonly Column<Row>[]
  readonly name: (row: Row) => string
  /** What JSON and YAML hold for a row; the row itself when not given. */
  readonly json?: (row: Row) => unknown
  /** Said on standard error when there are no rows. */
  readonly empty: string
}

export function outputOption(command: Command, choices: readonly Format[] = formats): Command {
  return command.addOption(
    new Option('-o, --output <format>', 'how to print it').choices(choices).default('table'),
  )
}

export function printList<Row>(terminal: Terminal, format: Format, list: Listing<Row>): void {
  if (format === 'json' || format === 'yaml') {
    const items = list.json === undefined ? list.rows : list.rows.map(list.json)
    printData(terminal, format, list.kind, { items })
    return
  }
  if (list.rows.length === 0) {
    terminal.say(list.empty)
    return
  }
  if (format === 'name') {
    for (const row of list.rows) terminal.out(clean(list.name(row)))
    return
  }
  const columns = list.columns.filter((column) => format === 'wide' || column.wide !== true)
  const ellipsis = terminal.symbols.ok === 'ok' ? '~' : '…'
  const [head = '', ...lines] = layTable(columns, list.rows, format === 'wide' ? 0 : terminal.width, ellipsis)
  terminal.out(terminal.paint.bold(head))
  for (const line of lines) terminal.out(line)
}

/** One object with its kind and schema version. */
export function printData(
  terminal: Terminal,
  format: 'json' | 'yaml',
  kind: string,
  data: Readonly<Record<string, unknown>>,
): void {
  const whole = { schemaVersion, kind, ...data }
  terminal.out(format === 'json' ? JSON.stringify(whole, null, 2) : printYaml(whole))
}
