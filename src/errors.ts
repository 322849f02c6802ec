// The closed table of failures. Every error a user can meet has a stable code, a status for the shell and, where a
// command can mend it, that command. `meshctl explain CODE` prints the longer text.

/** Exit statuses of every command (sysexits where one exists). */
export const Exit = {
  ok: 0,
  failed: 1,
  denied: 2,
  usage: 64,
  badInput: 65,
  unreachable: 69,
  tryAgain: 75,
  findings: 79,
  timedOut: 124,
} as const

export type ExitStatus = (typeof Exit)[keyof typeof Exit]

interface Entry {
  /** Short title, lowercase, no full stop. */
  readonly title: string
  readonly exit: ExitStatus
  /** What it means and how to mend it, for `meshctl explain`. */
  readonly explain: string
}

// One section per area; codes are never reused. Keep each section sorted.
const table = {
  // --- 01xx: command line, context, wizard
  MSH0101: {
    title: 'bad usage',
    exit: Exit.usage,
    explain: 'A flag or argument is missing, unknown or malformed. Run the command with --help.',
  },
  // --- 02xx: resources and service declarations (model)
  MSH0201: {
    title: 'resource refused',
    exit: Exit.badInput,
    explain:
      'One or more objects are not valid. Each problem names the file, the path inside the object and the way to mend it. Nothing was written.',
  },
  // --- 03xx: registry
  MSH0301: {
    title: 'registry unreachable',
    exit: Exit.unreachable,
    explain:
      'The registry (embedded or Consul) did not answer. Hosts go on with their last good state. Check `systemctl status meshctl-control` on the control host, or your Consul cluster.',
  },
  // --- 04xx: certificates and control
  MSH0401: {
    title: 'control unreachable',
    exit: Exit.unreachable,
    explain:
      'The signer on the control host did not answer. Traffic and discovery go on without it; joins and renewals wait. Check `systemctl status meshctl-control` there.',
  },
  // --- 05xx: hosts, SSH, join and leave
  MSH0501: {
    title: 'host unreachable over SSH',
    exit: Exit.unreachable,
    explain: 'The SSH connection could not be made. Try `ssh` by hand with the same user, key and jump host.',
  },
  // --- 06xx: agent, capture, DNS
  MSH0601: {
    title: 'capture rules could not be applied',
    exit: Exit.failed,
    explain: 'iptables or ipset refused a rule. Nothing was left half applied. `meshctl check` on the host shows which.',
  },
  // --- 07xx: proxy
  MSH0701: {
    title: 'snapshot rejected',
    exit: Exit.failed,
    explain: 'The proxy could not link a snapshot and went on with the one before it. The reason names the part.',
  },
} as const satisfies Record<string, Entry>

export type ErrorCode = keyof typeof table

export const errorCodes = Object.keys(table) as ErrorCode[]

export function errorEntry(code: ErrorCode): Entry {
  return table[code]
}

/**
 * An error that a user may see. `message` says what and where (lowercase, no full stop); `hint` is the command or step
 * that mends it; `details` holds one line per problem where there are several.
 */
export class MeshError extends Error {
  readonly code: ErrorCode
  readonly hint: string | undefined
  readonly details: readonly string[]

  constructor(
    code: ErrorCode,
    message: string,
    options: { hint?: string | undefined; details?: readonly string[]; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'MeshError'
    this.code = code
    this.hint = options.hint
    this.details = options.details ?? []
  }

  get exit(): ExitStatus {
    return table[this.code].exit
  }
}

/** The message of anything thrown. */
export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
