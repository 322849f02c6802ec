// The closed table of failures. Every error a user can meet has a stable code, a status for the shell and, where a
// command can mend it, that command. `meshctl explain CODE` prints the longer text. One file, however long: a code is looked
// up here, and that it was never used before is seen here.

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
  MSH0102: {
    title: 'aborted',
    exit: Exit.failed,
    explain: 'A question was answered with no, or ended with Ctrl-C. Nothing was changed.',
  },
  MSH0103: {
    title: 'no mesh chosen',
    exit: Exit.usage,
    explain:
      'This machine knows no mesh, or not the one named. `meshctl init` makes one; `meshctl context list` shows those known here, `meshctl context use NAME` chooses; `--context NAME` chooses for one command.',
  },
  MSH0104: {
    title: 'context file not usable',
    exit: Exit.badInput,
    explain:
      'A file below ~/.config/meshctl (or MESHCTL_CONFIG) is missing, damaged or readable by others. The message names it.',
  },
  MSH0105: {
    title: 'not found',
    exit: Exit.failed,
    explain: 'The object, service or host is not there. The `get` and `list` verbs show what is.',
  },
  MSH0106: {
    title: 'findings',
    exit: Exit.findings,
    explain: '`meshctl check` found problems. Each line of its output names the step that mends it.',
  },
  MSH0107: {
    title: 'another mesh is there',
    exit: Exit.failed,
    explain:
      'The control host or the context folder belongs to a mesh already, and init refuses to overwrite it. Use another host or name, or remove the old mesh by hand first.',
  },
  MSH0108: {
    title: 'version unknown',
    exit: Exit.badInput,
    explain:
      'A route names a version that no registered instance of the service has: requests sent there would fail. Correct the version, join an instance of it first, or add --force.',
  },
  MSH0109: {
    title: 'part not found',
    exit: Exit.failed,
    explain:
      'A bundle that belongs beside the command (agent, proxy or control) is missing. Install meshctl anew.',
  },
  MSH0110: {
    title: 'not all hosts succeeded',
    exit: Exit.failed,
    explain: 'A command for several hosts failed on some of them. Each failure is printed with its own code.',
  },
  MSH0111: {
    title: 'timed out',
    exit: Exit.timedOut,
    explain: 'What was waited for did not happen in time. --timeout waits longer.',
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
  MSH0302: {
    title: 'registry denied',
    exit: Exit.denied,
    explain:
      'The registry knows the token but does not allow this, or does not know the token. A joined host gets a new token by `meshctl join` again; with a Consul cluster of your own, check the policies of the token.',
  },
  MSH0303: {
    title: 'registry refused',
    exit: Exit.failed,
    explain:
      'The registry answered, and refused the request for the reason that the message quotes. Nothing was written.',
  },
  MSH0304: {
    title: 'changed by somebody else',
    exit: Exit.tryAgain,
    explain:
      'What you were about to write was changed in the registry since you read it. Nothing was written. Read it again and repeat the command.',
  },
  MSH0305: {
    title: 'no virtual address left',
    exit: Exit.failed,
    explain:
      'All 65,534 addresses of 240.240.0.0/16 are taken by services, or the registry kept changing under the claim. Release those of services that are gone.',
  },
  MSH0306: {
    title: 'embedded registry could not start',
    exit: Exit.failed,
    explain:
      'The registry inside `meshctl control` could not open its database or its port. The message says which; `ss -ltnp` shows who holds a port.',
  },
  // --- 04xx: certificates and control
  MSH0401: {
    title: 'control unreachable',
    exit: Exit.unreachable,
    explain:
      'The signer on the control host did not answer. Traffic and discovery go on without it; joins and renewals wait. Check `systemctl status meshctl-control` there.',
  },
  MSH0402: {
    title: 'certificate or request not readable',
    exit: Exit.badInput,
    explain: 'A certificate, request or bundle is damaged, too large or not of the form that meshctl makes.',
  },
  MSH0403: {
    title: 'certificate refused',
    exit: Exit.denied,
    explain:
      'A certificate does not chain to the roots of the mesh, is outside its dates or proves another identity. Compare `meshctl cert status` and the clocks of both hosts.',
  },
  MSH0404: {
    title: 'certificate request refused',
    exit: Exit.denied,
    explain:
      'A request does not prove its key, holds more than one SPIFFE id or asks for an identity that the caller is not entitled to. Nothing was signed.',
  },
  MSH0405: {
    title: 'caller not allowed',
    exit: Exit.denied,
    explain: 'Control knows the caller but its role (operator, host, service) may not do this.',
  },
  MSH0406: {
    title: 'grant not valid',
    exit: Exit.denied,
    explain:
      'The grant is unknown or was used before: each opens one join. `meshctl join` asks for a new one by itself; run it again.',
  },
  MSH0407: {
    title: 'grant expired',
    exit: Exit.denied,
    explain: 'A grant lives 15 minutes. Run `meshctl join` again. If it expired at once, compare the clocks.',
  },
  MSH0408: {
    title: 'grant is for another host or service',
    exit: Exit.denied,
    explain:
      'The join asked for another host name or other services than the operator granted. The requests must be exactly those of the grant.',
  },
  MSH0409: {
    title: 'host known under another SSH key',
    exit: Exit.denied,
    explain:
      'A host of this name joined before with another SSH host key. If it was reinstalled, run `meshctl join --replace`; if not, somebody may be in the middle.',
  },
  MSH0410: {
    title: 'host unknown or revoked',
    exit: Exit.denied,
    explain:
      'Control has no valid record of this host, so it signs nothing for it. `meshctl join` puts it back.',
  },
  MSH0411: {
    title: 'certificate expired',
    exit: Exit.denied,
    explain:
      'A host renews by its own certificate, for 30 days after its end too, but only with the newest that it was given. A host that was away for longer, or was restored from an old copy, joins anew: `meshctl join`.',
  },
  MSH0412: {
    title: 'control refused the request',
    exit: Exit.badInput,
    explain: 'The request to control was malformed, too large or for something that is not there.',
  },
  MSH0413: {
    title: 'control is busy',
    exit: Exit.tryAgain,
    explain: 'Control limits how often one caller may ask. Try again after a few seconds.',
  },
  MSH0414: {
    title: 'control failed',
    exit: Exit.failed,
    explain: 'Control met an error of its own. Its log says which: `journalctl -u meshctl-control`.',
  },
  MSH0415: {
    title: 'control cannot start',
    exit: Exit.badInput,
    explain:
      'The folder of control (`/var/lib/meshctl-control`) lacks a file, or one is not valid. `meshctl control --check` lists every problem.',
  },
  MSH0416: {
    title: 'private key not usable',
    exit: Exit.badInput,
    explain: 'The key file is missing, not an ECDSA P-256 key, or the passphrase is wrong.',
  },
  // --- 05xx: hosts, SSH, join and leave
  MSH0501: {
    title: 'host unreachable over SSH',
    exit: Exit.unreachable,
    explain: 'The SSH connection could not be made. Try `ssh` by hand with the same user, key and jump host.',
  },
  MSH0502: {
    title: 'ssh host key refused',
    exit: Exit.denied,
    explain:
      'The host showed a key that is not the one in known_hosts, or one that is not known and --host-key-check is strict. If the host was really installed anew, remove the old line with `ssh-keygen -R HOST`; otherwise somebody may be in between.',
  },
  MSH0503: {
    title: 'ssh login refused',
    exit: Exit.denied,
    explain:
      'The host refused the user with every key, agent and password that was offered. Try `ssh USER@HOST` by hand, or give --identity or --ask-password.',
  },
  MSH0504: {
    title: 'host not fit to join',
    exit: Exit.findings,
    explain: 'The preflight found errors. Nothing was changed. Each finding names the step that mends it.',
  },
  MSH0505: {
    title: 'no root rights on the host',
    exit: Exit.denied,
    explain:
      'The user may not run commands as root. Log in as root, allow sudo, or give the sudo password with --ask-sudo-password.',
  },
  MSH0506: {
    title: 'join failed and was undone',
    exit: Exit.failed,
    explain:
      'A phase of the join failed. Everything done on the host was undone, and the host was compared with how it was before; the message says with which result.',
  },
  MSH0507: {
    title: 'command failed on the host',
    exit: Exit.failed,
    explain:
      'A command on the host ended with an error. --print-command shows every command so that it can be run by hand.',
  },
  MSH0508: {
    title: 'host is being joined by somebody else',
    exit: Exit.tryAgain,
    explain:
      'Another join or leave of this host is running. If its operator is gone, the dead-man timer on the host undoes it within minutes; then try again.',
  },
  MSH0509: {
    title: 'resolver could not be changed',
    exit: Exit.failed,
    explain:
      'The resolver of the host could not be pointed at the mesh. It was left as it was. --dns off joins without names.',
  },
  MSH0510: {
    title: 'release or runtime not found',
    exit: Exit.failed,
    explain:
      'What is sent to hosts lies beside the command: dist/ or release files, templates/ and the Node runtime for the architecture of the host. Install meshctl anew, or run `npm run build` in a checkout.',
  },
  MSH0511: {
    title: 'undo left differences',
    exit: Exit.failed,
    explain:
      'The host was not exactly as it was before the join; each difference is named. Changes made by others in the meantime show up here too.',
  },
  MSH0512: {
    title: 'host did not become ready',
    exit: Exit.timedOut,
    explain:
      'Everything was installed, but a probe did not succeed in time. `journalctl -u meshctl-agent -u meshctl-proxy` on the host says why.',
  },
  // --- 06xx: agent, capture, DNS
  MSH0601: {
    title: 'capture rules could not be applied',
    exit: Exit.failed,
    explain:
      'iptables or ipset refused a rule. Nothing was left half applied. `meshctl check` on the host shows which.',
  },
  MSH0602: {
    title: 'dns cannot listen',
    exit: Exit.failed,
    explain:
      'Another program has the address and port on which the agent answers for *.mesh. `ss -lunp` and `ss -ltnp` show which. The agent goes on without DNS and tries again.',
  },
  MSH0603: {
    title: 'identity cannot be read',
    exit: Exit.failed,
    explain:
      'A key or certificate of this host is missing or damaged. `meshctl join` again with --replace gives the host new ones.',
  },
  MSH0604: {
    title: 'agent not running',
    exit: Exit.unreachable,
    explain: 'The agent did not answer on its socket. Check `systemctl status meshctl-agent` on the host.',
  },
  MSH0605: {
    title: 'host configuration cannot be read',
    exit: Exit.badInput,
    explain: '/etc/meshctl/host.json is missing or damaged. `meshctl join` writes it.',
  },
  MSH0606: {
    title: 'findings on this host',
    exit: Exit.findings,
    explain:
      'The agent looked at the host and found something that is not as it should be. The message says what.',
  },
  MSH0607: {
    title: 'try again',
    exit: Exit.tryAgain,
    explain: 'Something the verb needs is away for the moment. The agent keeps trying by itself.',
  },
  // --- 07xx: proxy
  MSH0701: {
    title: 'snapshot rejected',
    exit: Exit.failed,
    explain:
      'The proxy could not link a snapshot and went on with the one before it. The reason names the part.',
  },
  MSH0702: {
    title: 'proxy unreachable',
    exit: Exit.tryAgain,
    explain:
      'The proxy on this host does not answer on its socket. Traffic that it still carries goes on; without it capture stops by itself within 10 s. Check `systemctl status meshctl-proxy`.',
  },
  MSH0703: {
    title: 'proxy cannot start',
    exit: Exit.usage,
    explain:
      'The proxy was started with options or sockets that it cannot use. The message names the option. Under systemd the sockets come from meshctl-proxy.socket.',
  },
  MSH0704: {
    title: 'secrets rejected',
    exit: Exit.failed,
    explain:
      'The proxy could not use a key, chain or root that the agent sent and went on with those before. The reason names the identity.',
  },
  MSH0705: {
    title: 'proxy not reloaded',
    exit: Exit.failed,
    explain:
      'The proxy of the release in use now did not come up beside the running one, which goes on serving as before. The reason and `journalctl -u meshctl-proxy` say why; `systemctl restart meshctl-proxy` starts the new release all the same.',
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
