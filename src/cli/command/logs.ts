// `meshctl logs [HOST]`: the journal of agent and proxy, or the access log, over SSH or on the host itself.
import { spawn } from 'node:child_process'
import type { Command } from 'commander'
import { MeshError } from '../../errors.ts'
import { quote } from '../../host/host.ts'
import { pathsUnder, units } from '../../paths.ts'
import { examples, subcommand, type Cli } from '../cli.ts'
import { addSshFlags, openRemote, readCount, readSshOptions, sshWords, type SshFlags } from '../remote.ts'

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
    if (flags.follow) cli.exit(await follow(cli, host, flags, line))
    else await print(cli, host, flags, line)
  })
}

/** The command that prints the logs on the host. */
export function logCommand(
  flags: Pick<Flags, 'agent' | 'proxy' | 'control' | 'access' | 'follow' | 'lines'>,
): string {
  const file = quote(pathsUnder().accessLog)
  if (flags.access) {
    if (flags.agent || flags.proxy || flags.control) {
      throw new MeshError('MSH0101', '--access is a log of its own; leave out the others')
    }
    return `tail -n ${flags.lines}${flags.follow ? ' -F' : ''} ${file}`
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

async function print(cli: Cli, target: string | undefined, flags: Flags, line: string): Promise<void> {
  const options = await readSshOptions(cli.terminal, flags)
  const { host } = await openRemote(target ?? 'local', flags, options, cli.terminal)
  try {
    const result = await host.run(line, { root: true })
    if (result.stdout !== '') cli.terminal.out(result.stdout)
    if (result.status !== 0) {
      throw new MeshError(
        'MSH0507',
        `${host.label}: ${line.split(' ')[0] ?? ''} ended with ${result.status}`,
        {
          details: result.stderr.trim() === '' ? [] : result.stderr.trim().split('\n').slice(-3),
          hint: 'is the host joined? meshctl check host HOST',
        },
      )
    }
  } finally {
    host.close()
  }
}

/** Follows through the system's own ssh: it streams and ends with Ctrl-C. */
async function follow(cli: Cli, target: string | undefined, flags: Flags, line: string): Promise<number> {
  const elevated = `if [ "$(id -u)" = 0 ]; then exec ${line}; else exec sudo -n ${line}; fi`
  const words = target === undefined ? ['sh', '-c'] : sshWords(target, flags)
  const program = words[0] ?? 'ssh'
  return await cli.delegated(async (signal) => {
    const child = spawn(program, [...words.slice(1), elevated], { stdio: 'inherit' })
    signal.addEventListener('abort', () => child.kill('SIGTERM'))
    return await new Promise<number>((resolve, reject) => {
      child.on('error', (error) =>
        reject(new MeshError('MSH0501', `${program} could not be started`, { cause: error })),
      )
      // Ctrl-C is how following ends.
      child.on('exit', (status) => resolve(signal.aborted ? 0 : (status ?? 1)))
    })
  })
}
