// Hosts named on the command line: SSH flags, passwords asked once, and the connection.
import { Option, type Command } from 'commander'
import { isIP } from 'node:net'
import { readFile } from 'node:fs/promises'
import { MeshError } from '../errors.ts'
import type { HostKeyCheck, SshOptions } from '../host/connect.ts'
import { quote, type Host } from '../host/host.ts'
import { parseTarget } from '../host/sshconfig.ts'
import { askSecret } from './ask.ts'
import { collect } from './cli.ts'
import type { Terminal } from './terminal.ts'

export interface SshFlags {
  readonly user?: string
  readonly port?: number
  readonly identity?: string[]
  readonly passwordFile?: string
  readonly askPassword?: boolean
  readonly askSudoPassword?: boolean
  readonly jump?: string
  readonly knownHosts?: string[]
  readonly hostKeyCheck: HostKeyCheck
  readonly printCommand: boolean
}

export function addSshFlags(command: Command): Command {
  return command
    .optionsGroup('SSH:')
    .option('-l, --user <name>', 'log in as (default: as ssh does)')
    .option('-p, --port <number>', 'port of sshd', readPort)
    .option('-i, --identity <file>', 'private key; may be repeated', collect)
    .option('--password-file <file>', 'holds the password')
    .option('--ask-password', 'ask for the password')
    .option('--ask-sudo-password', 'ask for the password of sudo')
    .option('-J, --jump <host>', 'jump host, [user@]host[:port]')
    .option('--known-hosts <file>', 'instead of ~/.ssh/known_hosts', collect)
    .addOption(
      new Option('--host-key-check <how>', 'unknown host keys')
        .choices(['strict', 'accept-new', 'off'])
        .default('strict'),
    )
    .option('--print-command', 'print each command that is run on the host', false)
}

export function readPort(text: string): number {
  const port = Number(text)
  if (!/^\d+$/.test(text) || port < 1 || port > 65_535) {
    throw new MeshError('MSH0101', `"${text}" is no port from 1 to 65535`)
  }
  return port
}

export function collectPort(text: string, previous: readonly number[] = []): number[] {
  return [...previous, readPort(text)]
}

/** A whole number within bounds, for flags. */
export function readCount(least: number, most: number): (text: string) => number {
  return (text) => {
    const count = Number(text)
    if (!/^\d+$/.test(text) || count < least || count > most) {
      throw new MeshError('MSH0101', `"${text}" is no number from ${least} to ${most}`)
    }
    return count
  }
}

/** How to log in, for every host of a command. */
export interface SshLogin extends SshOptions {
  /** Passphrases of key files, each asked for once. */
  readonly phrases: Map<string, Promise<string>>
}

/** Asks for passwords where flags say so; the answers serve every host of the command. */
export async function readSshLogin(terminal: Terminal, flags: SshFlags): Promise<SshLogin> {
  let password: string | undefined
  if (flags.passwordFile !== undefined) {
    const text = await readFile(flags.passwordFile, 'utf8').catch((error: unknown) => {
      throw new MeshError('MSH0101', `--password-file ${flags.passwordFile ?? ''} cannot be read`, {
        cause: error,
      })
    })
    password = text.replace(/\r?\n$/, '')
  } else if (flags.askPassword === true) {
    password = await askSecret(terminal, { flag: '--password-file', message: 'password' })
  }
  const sudoPassword =
    flags.askSudoPassword === true
      ? await askSecret(terminal, { flag: '--password-file', message: 'password of sudo' })
      : undefined
  return {
    user: flags.user,
    port: flags.port,
    identities: flags.identity,
    password,
    sudoPassword,
    jump: flags.jump,
    knownHosts: flags.knownHosts,
    hostKeyCheck: flags.hostKeyCheck,
    phrases: new Map(),
  }
}

export interface Remote {
  readonly host: Host
  /** OpenSSH public host key; '' for this machine. */
  readonly hostKey: string
  /** A second, fresh connection; null for this machine. */
  readonly reconnect: (() => Promise<Host>) | null
}

/** Opens `[user@]host[:port]`, or this machine for `local`. */
export async function openRemote(
  target: string,
  flags: SshFlags,
  login: SshLogin,
  terminal: Terminal,
): Promise<Remote> {
  if (target === 'local') {
    const { LocalHost } = await import('../host/local.ts')
    const local = new LocalHost({ sudoPassword: login.sudoPassword ?? null })
    return { host: await printing(local, '', flags, terminal), hostKey: '', reconnect: null }
  }
  const { connectSsh } = await import('../host/connect.ts')
  const options: SshOptions = {
    ...login,
    passphrase: async (path) => {
      if (!terminal.interactive) return null
      const message = `passphrase of ${path}`
      const asked = login.phrases.get(path) ?? askSecret(terminal, { flag: '--identity', message })
      login.phrases.set(path, asked)
      return await asked
    },
  }
  const host = await connectSsh(target, options)
  return {
    host: await printing(host, sshWords(target, flags).map(quote).join(' '), flags, terminal),
    hostKey: host.hostKey,
    reconnect: () => connectSsh(target, options),
  }
}

async function printing(host: Host, ssh: string, flags: SshFlags, terminal: Terminal): Promise<Host> {
  if (!flags.printCommand) return host
  const { PrintingHost } = await import('../host/printing.ts')
  const sudo = (await host.run('id -u')).stdout.trim() !== '0'
  return new PrintingHost(host, { ssh, sudo, print: (line) => terminal.say(line) })
}

/** The command line by which a person gets there. */
export function sshWords(target: string, flags: SshFlags): string[] {
  const words = ['ssh']
  // ssh knows no host:port.
  const place = parseTarget(target)
  const port = flags.port ?? place?.port ?? null
  const user = flags.user ?? place?.user ?? null
  if (port !== null) words.push('-p', String(port))
  for (const file of flags.identity ?? []) words.push('-i', file)
  if (flags.jump !== undefined) words.push('-J', flags.jump)
  for (const file of flags.knownHosts ?? []) words.push('-o', `UserKnownHostsFile=${file}`)
  if (flags.hostKeyCheck !== 'strict') {
    words.push('-o', `StrictHostKeyChecking=${flags.hostKeyCheck === 'off' ? 'no' : 'accept-new'}`)
  }
  words.push(`${user === null ? '' : `${user}@`}${place?.host ?? target}`)
  return words
}

/** The host part of `[user@]host[:port]`. */
export function hostPart(target: string): string {
  const rest = target.slice(target.lastIndexOf('@') + 1)
  const bracketed = /^\[([^\]]+)\](?::\d+)?$/.exec(rest)
  if (bracketed !== null) return bracketed[1] ?? rest
  return isIP(rest) > 0 ? rest : rest.replace(/:\d+$/, '')
}
