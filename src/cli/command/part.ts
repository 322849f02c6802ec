// `meshctl agent|proxy|control …`: runs the program of that process with the same streams and status.
import { spawn } from 'node:child_process'
import { constants } from 'node:os'
import type { Command } from 'commander'
import { MeshError } from '../../errors.ts'
import { subcommand, type Cli } from '../cli.ts'
import { partNames, partPath, type PartName } from '../siblings.ts'

export function register(program: Command, cli: Cli): void {
  // Everything behind the verb belongs to the part, its --help too.
  program.enablePositionalOptions()
  for (const part of partNames) {
    const command = subcommand(program, `${part} [args...]`)
    command.allowUnknownOption().passThroughOptions().helpOption(false)
    command.action(async (args: string[]) =>
      cli.exit(await cli.delegated((signal) => runPart(part, args, signal))),
    )
  }
}

async function runPart(part: PartName, args: readonly string[], signal: AbortSignal): Promise<number> {
  const child = spawn(process.execPath, [...process.execArgv, partPath(part), ...args], { stdio: 'inherit' })
  // A terminal sends Ctrl-C to both; a service manager only to us.
  signal.addEventListener('abort', () => child.kill('SIGTERM'))
  return await new Promise((resolve, reject) => {
    child.on('error', (error) =>
      reject(new MeshError('MSH0109', `the program of ${part} could not be started`, { cause: error })),
    )
    child.on('exit', (status, killed) =>
      resolve(status ?? 128 + (killed === null ? 0 : constants.signals[killed])),
    )
  })
}
