// One problem in what a user wrote. Checkers collect all of them; nothing is refused one at a time.
import { MeshError, type ErrorCode } from '../errors.ts'

export interface Problem {
  /** Warnings are printed and do not refuse. */
  readonly level: 'error' | 'warning'
  /** File and line where known: `web.yaml:12`, `--service`. */
  readonly source: string
  /** Path inside the object: `VirtualService default/web spec.http[0].route[1].weight`. */
  readonly path: string
  /** Lowercase, no full stop. */
  readonly message: string
  readonly hint?: string | undefined
}

export function printProblem(problem: Problem): string {
  const where = [problem.source, problem.path].filter((part) => part !== '').join(': ')
  const hint = problem.hint === undefined ? '' : ` (${problem.hint})`
  const mark = problem.level === 'warning' ? 'warning: ' : ''
  return `${mark}${where === '' ? '' : `${where}: `}${problem.message}${hint}`
}

/** Throws with all errors as details when there is one. */
export function refuse(
  problems: readonly Problem[],
  code: ErrorCode = 'MSH0201',
  what: string = 'resources',
): void {
  const errors = problems.filter((problem) => problem.level === 'error')
  if (errors.length === 0) return
  const count = errors.length === 1 ? '1 problem' : `${errors.length} problems`
  throw new MeshError(code, `${what}: ${count}; nothing was written`, { details: errors.map(printProblem) })
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
