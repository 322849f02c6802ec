// `meshctl init [mesh]`: a wizard on a terminal, flags otherwise.
import { Option, type Command } from 'commander'
import { examples, subcommand, type Cli } from '../cli.ts'
import { addSshFlags, readCount, type SshFlags } from '../remote.ts'

export interface InitFlags extends SshFlags {
  readonly mesh?: string
  readonly trustDomain?: string
  readonly control?: string
  readonly controlAddress?: string
  readonly registry?: 'embedded' | 'consul'
  readonly consul?: string
  readonly consulTokenFile?: string
  readonly consulCa?: string
  readonly passphraseFile?: string
  /** False: --no-passphrase. */
  readonly passphrase?: boolean
  readonly name?: string
  readonly leafLifetime?: string
  readonly timeout: number
  readonly dryRun: boolean
  readonly yes: boolean
}

export function register(program: Command, cli: Cli): void {
  const command = subcommand(program, 'init [mesh]').summary('make a mesh: CA, control, registry')
  command.description(
    'Makes a mesh: a root CA (its key stays here), control with the signer and the\nregistry on this machine or over SSH on another, and a context. On a terminal it\nasks what no flag says. Interrupted or failed: run it again, it continues. On a\nmesh that is there it brings control up to this version.',
  )
  command
    .optionsGroup('The mesh:')
    .option('--mesh <name>', 'its name')
    .option('--trust-domain <domain>', 'of its identities (default: NAME.mesh)')
    .option('--name <operator>', 'your name in the mesh (default: your login)')
    .option('--leaf-lifetime <time>', 'life of certificates of hosts (24h)')
    .optionsGroup('Control:')
    .option('--control <where>', 'local, or [user@]host')
    .option('--control-address <address>', 'where hosts reach it; IP or DNS name')
    .addOption(new Option('--registry <kind>', 'where services are kept').choices(['embedded', 'consul']))
    .option('--consul <url>', 'a Consul cluster instead of the embedded one')
    .option('--consul-token-file <file>', 'holds its token')
    .option('--consul-ca <file>', 'the CA of its certificate')
    .optionsGroup('The root key:')
    .option('--passphrase-file <file>', 'encrypt it with the passphrase in the file')
    .option('--no-passphrase', 'do not encrypt it')
  addSshFlags(command)
  command
    .optionsGroup('How:')
    .option('--timeout <seconds>', 'for control to answer', readCount(1, 3600), 60)
    .option('--dry-run', 'say what would be done', false)
    .option('-y, --yes', 'do not ask', false)
  examples(command, [
    'meshctl init',
    'meshctl init demo --control root@10.0.0.1 --no-passphrase --yes',
    'meshctl init prod --control local --consul https://c1:8501',
    'meshctl init demo        # again: brings control up to this version',
  ])
  command.action(async (mesh: string | undefined, flags: InitFlags) =>
    (await import('../making.ts')).makeMesh(cli, mesh, flags),
  )
}
