// Rows as an aligned table that fits the width: only columns that may shrink are cut, the widest first.

export interface Column<Row> {
  readonly title: string
  readonly value: (row: Row) => string
  /** Shown by `-o wide` only. */
  readonly wide?: boolean
  /** May be cut, down to 8 characters. */
  readonly shrink?: boolean
  readonly right?: boolean
  readonly paint?: (text: string, row: Row) => string
}

const gap = '  '
const least = 8

/** Lines without a trailing newline; the heading first. `width` 0: as wide as it takes. */
export function layTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  width: number,
  ellipsis: string = '…',
): string[] {
  const cells = rows.map((row) => columns.map((column) => clean(column.value(row))))
  const widths = columns.map((column, index) =>
    Math.max(column.title.length, ...cells.map((line) => length(line[index] ?? ''))),
  )
  if (width > 0) shrink(columns, widths, width)
  const lay = (line: readonly string[], row: Row | null): string =>
    columns
      .map((column, index) => {
        const room = widths[index] ?? 0
        const text = cut(line[index] ?? '', room, ellipsis)
        const shown = row === null || column.paint === undefined ? text : column.paint(text, row)
        const fill = ' '.repeat(Math.max(0, room - length(text)))
        return column.right === true ? fill + shown : shown + fill
      })
      .join(gap)
      .trimEnd()
  return [
    lay(
      columns.map((column) => column.title),
      null,
    ),
    ...rows.map((row, index) => lay(cells[index] ?? [], row)),
  ]
}

function shrink(columns: readonly Column<never>[], widths: number[], width: number): void {
  const total = (): number => widths.reduce((sum, one) => sum + one, gap.length * (widths.length - 1))
  while (total() > width) {
    let widest = -1
    for (const [index, column] of columns.entries()) {
      const own = widths[index] ?? 0
      if (column.shrink === true && own > least && own > (widths[widest] ?? 0)) widest = index
    }
    if (widest < 0) return
    widths[widest] = (widths[widest] ?? 0) - 1
  }
}

/** What a registry or peer said must not move the cursor or end the line. */
export function clean(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f]+/g, ' ')
}

function length(text: string): number {
  return Array.from(text).length
}

function cut(text: string, room: number, ellipsis: string): string {
  if (length(text) <= room) return text
  return (
    Array.from(text)
      .slice(0, Math.max(0, room - length(ellipsis)))
      .join('') + ellipsis
  )
}
