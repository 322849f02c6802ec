// `meshctl leave [user@]host…` and `meshctl leave host HOST…`
import type { Command } from 'commander'
import { examples, subcommand, type Cli } from '../cli.ts'
import { addSshFlags, readCount, type SshFlags } from '../remote.ts'

export interface LeaveFlags extends SshFlags {
  readonly name?: string
  readonly force: boolean
  readonly drain: number
  readonly dryRun: boolean
  readonly yes: boolean
}

export function register(program: Command, cli: Cli): void {
  const command = subcommand(program, 'leave <hosts...>').summary('take hosts out, as they were before')
  command.description(
    'Takes hosts out of the mesh: drains, deregisters, removes everything that join\nput there, and compares the host with how it was before.',
  )
  command
    .option('--name <name>', 'its name in the mesh (default: what the host says)')
    .option('--force', 'an unreachable host: only deregister and revoke it', false)
    .option('--drain <seconds>', 'time for peers to stop using it', readCount(0, 3600), 5)
    .option('--dry-run', 'say what would be done', false)
    .option('-y, --yes', 'do not ask', false)
  addSshFlags(command)
  examples(command, [
    'meshctl leave root@vm1',
    'meshctl leave vm1 vm2 --yes',
    'meshctl leave vm3 --force --yes',
  ])
  command.action(async (named: string[], flags: LeaveFlags) => {
    const targets = named[0] === 'host' && named.length > 1 ? named.slice(1) : named
    return (await import('../leaving.ts')).leaveHosts(cli, targets, flags)
  })
}
