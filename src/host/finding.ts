// What a look at a host has found: one thing, how bad it is, and the step that mends it.
import { MeshError } from '../errors.ts'

export interface Finding {
  readonly level: 'ok' | 'warn' | 'error'
  /** What was looked at: `iptables`, `clock`, `port 15006` … */
  readonly subject: string
  /** Lowercase, no full stop. */
  readonly message: string
  /** The step that mends it; '' when there is nothing to do. */
  readonly hint: string
}

export function ok(subject: string, message: string): Finding {
  return { level: 'ok', subject, message, hint: '' }
}

export function warn(subject: string, message: string, hint: string): Finding {
  return { level: 'warn', subject, message, hint }
}

export function error(subject: string, message: string, hint: string): Finding {
  return { level: 'error', subject, message, hint }
}

export function failed(findings: readonly Finding[]): boolean {
  return findings.some((finding) => finding.level === 'error')
}

/** The failure that tells of every error, each with its own hint once. */
export function unfit(label: string, findings: readonly Finding[]): MeshError {
  const errors = findings.filter((finding) => finding.level === 'error')
  const [first, second] = errors
  if (first !== undefined && second === undefined)
    return new MeshError('MSH0504', `${label}: ${first.subject}: ${first.message}`, { hint: first.hint })
  return new MeshError('MSH0504', `${label}: ${errors.length} problems`, {
    details: errors.map(
      ({ subject, message, hint }) => `${subject}: ${message}${hint === '' ? '' : ` — ${hint}`}`,
    ),
  })
}
