// `meshctl check` and `meshctl check host [user@]HOST`
import type { Command } from 'commander'
import { MeshError } from '../../errors.ts'
import { examples, subcommand, type Cli } from '../cli.ts'
import { outputOption, type Format } from '../output.ts'
import { addSshFlags, type SshFlags } from '../remote.ts'

export interface CheckFlags extends SshFlags {
  readonly output: Format
}

export function register(program: Command, cli: Cli): void {
  const command = subcommand(program, 'check [what] [host]').summary(
    'find what is wrong, with a hint per finding',
  )
  command.description(
    'Checks the mesh: control, registry, clocks, certificates, hosts, services and\nobjects; `check host HOST` checks one host over SSH (before a join: whether it can\njoin; `local` is this machine). Every finding names the step that mends it. Exit\nstatus 79 when something was found.',
  )
  outputOption(command)
  addSshFlags(command)
  examples(command, ['meshctl check', 'meshctl check host root@vm1', 'meshctl check host local -o json'])
  command.action(async (what: string | undefined, host: string | undefined, flags: CheckFlags) => {
    if (what === undefined || what === 'mesh') return (await import('../meshcheck.ts')).checkMesh(cli, flags)
    if (what === 'host' && host === undefined) {
      throw new MeshError('MSH0101', 'check which host?', {
        hint: 'meshctl check host [user@]HOST, or: meshctl check host local',
      })
    }
    if (what !== 'host' || host === undefined) {
      throw new MeshError('MSH0101', `nothing called "${what}" can be checked`, {
        hint: 'meshctl check, or meshctl check host HOST',
      })
    }
    return (await import('../hostcheck.ts')).checkHost(cli, host, flags)
  })
}
