// `meshctl logs [HOST]`: the journal of agent and proxy, or the access log, over SSH or on the host itself.
import type { Command } from 'commander'
import { Exit, MeshError } from '../../errors.ts'
import { quote, type Host, type RunResult } from '../../host/host.ts'
import { pathsUnder, units } from '../../paths.ts'
import { examples, subcommand, type Cli } from '../cli.ts'
import { addSshFlags, openRemote, readCount, readSshLogin, type SshFlags } from '../remote.ts'

interface Flags extends SshFlags {
  readonly agent: boolean
  readonly proxy: boolean
  readonly control: boolean
  readonly access: boolean
  readonly follow: boolean
  readonly lines: number
}

export function register(program: Command, cli: Cli): void {
  const command = subcommand(program, 'logs [host]').summary('logs of a host')
  command.description('Logs of a joined host over SSH; without a host, of this machine.')
  command
    .optionsGroup('Which:')
    .option('--agent', 'of the agent', false)
    .option('--proxy', 'of the proxy', false)
    .option('--access', 'the access log: a JSON line per request', false)
    .option('--control', 'of control, on the control host', false)
    .option('-f, --follow', 'go on as it grows', false)
    .option('-n, --lines <n>', 'how many lines', readCount(0, 100_000), 50)
  addSshFlags(command)
  examples(command, ['meshctl logs root@vm1', 'meshctl logs vm1 --access -f', 'meshctl logs --proxy -n 200'])
  command.action(async (host: string | undefined, flags: Flags) => {
    const line = logCommand(flags)
    const login = await readSshLogin(cli.terminal, flags)
    const remote = await openRemote(host ?? 'local', flags, login, cli.terminal)
    try {
      if (flags.follow) cli.exit(await follow(cli, remote.host, line))
      else await print(cli, remote.host, line)
    } finally {
      remote.host.close()
    }
  })
}

/** The command that prints the logs on the host. */
function logCommand(
  flags: Pick<Flags, 'agent' | 'proxy' | 'control' | 'access' | 'follow' | 'lines'>,
): string {
  const file = quote(pathsUnder().accessLog)
  if (flags.access) {
    if (flags.agent || flags.proxy || flags.control) {
      throw new MeshError('MSH0101', '--access is a log of its own; leave out the others')
    }
    // tail -F would wait for the file for ever.
    const present = `[ -e ${file} ] || { echo 'there is no access log' >&2; exit 1; }`
    return `${present}; tail -n ${flags.lines}${flags.follow ? ' -F' : ''} ${file}`
  }
  const all = !flags.agent && !flags.proxy && !flags.control
  const chosen = [
    ...(flags.agent || all ? [units.agent] : []),
    ...(flags.proxy || all ? [units.proxy] : []),
    ...(flags.control ? [units.control] : []),
  ]
  // The lines are JSON already: journald's own prefix would only be in the way of jq.
  return `journalctl --no-pager -o cat -n ${flags.lines}${flags.follow ? ' -f' : ''} ${chosen.map((unit) => `-u ${unit}`).join(' ')}`
}

async function print(cli: Cli, host: Host, line: string): Promise<void> {
  const result = await host.run(line, { root: true })
  if (result.status !== 0) throw unreadable(host, result)
  if (result.stdout === '') cli.terminal.say(`${host.label}: there is nothing in this log`)
  else cli.terminal.out(result.stdout)
}

/** Until Ctrl-C, which is how following ends; then nothing of it is left on the host either. */
async function follow(cli: Cli, host: Host, line: string): Promise<number> {
  let rest = Buffer.alloc(0)
  const onStdout = (chunk: Buffer): void => {
    const text = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    const end = text.lastIndexOf(0x0a) + 1
    rest = Buffer.from(text.subarray(end))
    if (end > 0) cli.terminal.out(text.toString('utf8', 0, end))
  }
  return await cli.delegated(async (signal) => {
    try {
      const result = await host.run(watched(line), { root: true, signal, onStdout })
      throw unreadable(host, result)
    } catch (error) {
      if (signal.aborted) return Exit.ok
      throw error
    }
  })
}

/** The command, ended with our end of the line: some of these only notice when they have something to write. */
export function watched(line: string): string {
  return (
    `exec 3<&0; ${line} & log=$!; { while read -r _ <&3; do :; done; kill $log; } >/dev/null 2>&1 & watch=$!; ` +
    'wait $log; status=$?; kill $watch 2>/dev/null; exit $status'
  )
}

function unreadable(host: Host, { status, stderr }: RunResult): MeshError {
  const said = stderr.trim() === '' ? [`status ${status}`] : stderr.trim().split('\n').slice(-3)
  return new MeshError('MSH0507', `${host.label}: ${said[0] ?? ''}`, {
    details: said.slice(1),
    hint: 'is the host joined? meshctl check host HOST',
  })
}
