// `meshctl version`
import type { Command } from 'commander'
import { MeshError } from '../../errors.ts'
import { version } from '../../version.ts'
import { examples, subcommand, type Cli } from '../cli.ts'
import { contextStore } from '../context.ts'
import { outputOption, printData, type Format } from '../output.ts'

interface Control {
  readonly version: string | null
  /** Why it is not known. */
  readonly reason: string | null
}

export function register(program: Command, cli: Cli): void {
  const command = subcommand(program, 'version').description('The version of this command and of control.')
  outputOption(command, ['table', 'json', 'yaml', 'name'])
  command.option('--client', 'of this command only; asks nobody', false)
  examples(command, ['meshctl version', 'meshctl version --client -o json'])
  command.action(async (flags: { output: Format; client: boolean }) => {
    const control = flags.client ? null : await askControl(cli)
    const { terminal } = cli
    if (flags.output === 'json' || flags.output === 'yaml') {
      printData(terminal, flags.output, 'Version', {
        client: { version, node: process.versions.node },
        control: control === null ? null : { version: control.version, reason: control.reason },
      })
      return
    }
    if (flags.output === 'name') {
      terminal.out(version)
      return
    }
    terminal.out(`client   ${version} (node ${process.versions.node})`)
    if (control !== null) terminal.out(`control  ${control.version ?? `unknown: ${control.reason ?? ''}`}`)
    if (control?.version !== null && control !== null && control.version !== version) {
      terminal.say('the versions differ; meshctl init again on the control host brings it up to this one')
    }
  })
}

/** A missing or silent control is an answer here, not a failure. */
async function askControl(cli: Cli): Promise<Control> {
  try {
    const store = contextStore(cli)
    const { name, context } = await store.choose(cli.globals().context)
    const { openSigner } = await import('../session.ts')
    const signer = await openSigner(store, name, context, (text) => cli.terminal.say(text))
    return { version: (await signer.status()).version, reason: null }
  } catch (error) {
    if (!(error instanceof MeshError)) throw error
    return { version: null, reason: error.message }
  }
}
