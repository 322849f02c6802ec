// How a failure looks: what, why, what mends it, and a code that `meshctl explain` explains.
import { errorEntry, Exit, MeshError, reason } from '../errors.ts'
import { clean } from './table.ts'
import type { Terminal } from './terminal.ts'

/** Status of a command that was interrupted by SIGINT (128 + 2). */
export const interrupted = 130

/** Prints the failure and gives the status to exit with. */
export function printFailure(terminal: Terminal, error: unknown, verbose: boolean): number {
  const paint = terminal.paintTalk
  const { bad } = terminal.symbols
  if (!(error instanceof MeshError)) {
    // Not one of ours: a defect. The stack says where.
    terminal.say(`${paint.red(bad)} unexpected: ${clean(reason(error))}`)
    terminal.say('  fix   please report this with the lines below')
    if (error instanceof Error && error.stack !== undefined) terminal.say(error.stack)
    return Exit.failed
  }
  terminal.say(`${paint.red(bad)} ${clean(error.message)}`)
  for (const detail of error.details) {
    if (!error.message.includes(detail)) terminal.say(`    ${clean(detail)}`)
  }
  const causes = verbose ? chain(error) : chain(error).slice(0, 1)
  for (const cause of causes) {
    if (!error.message.includes(cause)) terminal.say(`  why   ${clean(cause)}`)
  }
  if (error.hint !== undefined && error.hint !== '') terminal.say(`  fix   ${clean(error.hint)}`)
  terminal.say(
    paint.dim(`  code  ${error.code} (${errorEntry(error.code).title}); meshctl explain ${error.code}`),
  )
  if (verbose && error.stack !== undefined) terminal.say(paint.dim(error.stack))
  return error.exit
}

function chain(error: Error): string[] {
  const causes: string[] = []
  let at: unknown = error.cause
  while (at !== undefined && at !== null && causes.length < 5) {
    causes.push(reason(at))
    at = at instanceof Error ? at.cause : undefined
  }
  return causes
}
