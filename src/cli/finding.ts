// What `meshctl check` finds, grouped, one line each with the step that mends it.
import { Exit } from '../errors.ts'
import { clean } from './table.ts'
import { printData, type Format } from './output.ts'
import type { Terminal } from './terminal.ts'

export interface CheckFinding {
  readonly group: string
  readonly level: 'ok' | 'warn' | 'error'
  readonly subject: string
  /** Lowercase, no full stop. */
  readonly message: string
  /** '' when there is nothing to do. */
  readonly hint: string
}

/** Collects findings of one group. */
export class Findings {
  readonly all: CheckFinding[] = []

  ok(group: string, subject: string, message: string): void {
    this.all.push({ group, level: 'ok', subject, message, hint: '' })
  }

  warn(group: string, subject: string, message: string, hint: string): void {
    this.all.push({ group, level: 'warn', subject, message, hint })
  }

  error(group: string, subject: string, message: string, hint: string): void {
    this.all.push({ group, level: 'error', subject, message, hint })
  }
}

/** Prints them and gives the status: 79 when something is not as it should be. */
export function printFindings(terminal: Terminal, format: Format, findings: readonly CheckFinding[]): number {
  const bad = findings.filter((finding) => finding.level !== 'ok')
  if (format === 'json' || format === 'yaml') {
    printData(terminal, format, 'CheckResult', { ok: bad.length === 0, findings })
  } else if (format === 'name') {
    for (const finding of bad) terminal.out(`${finding.level} ${finding.group}/${finding.subject}`)
  } else printText(terminal, findings, format === 'wide')
  return bad.length === 0 ? Exit.ok : Exit.findings
}

function printText(terminal: Terminal, findings: readonly CheckFinding[], all: boolean): void {
  const { paint, symbols } = terminal
  const marks = {
    ok: paint.green(symbols.ok),
    warn: paint.yellow(symbols.warn),
    error: paint.red(symbols.bad),
  }
  for (const [group, members] of Map.groupBy(findings, (finding) => finding.group)) {
    terminal.out(paint.bold(group))
    const fine = members.filter((finding) => finding.level === 'ok')
    // Many hosts in good health are one line; -o wide shows each.
    const folded = !all && fine.length > 12
    for (const { level, subject, message, hint } of members) {
      if (folded && level === 'ok') continue
      terminal.out(`  ${marks[level]} ${clean(subject)}: ${clean(message)}`)
      if (hint !== '') terminal.out(`      fix: ${clean(hint)}`)
    }
    if (folded) terminal.out(`  ${marks.ok} ${fine.length} more are well`)
  }
  const count = (level: CheckFinding['level']): number => findings.filter((one) => one.level === level).length
  terminal.out(`\n${count('ok')} well, ${count('warn')} to look at, ${count('error')} wrong`)
}
