// What `meshctl init` must know, from flags, from an interrupted run, and from questions for the rest.
import { lookup } from 'node:dns/promises'
import { readFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { networkInterfaces, userInfo } from 'node:os'
import { MeshError } from '../errors.ts'
import { readSshDefaults } from '../host/sshconfig.ts'
import { parseDuration } from '../model/duration.ts'
import { nameFault } from '../model/name.ts'
import { isDottedName } from '../pki/spiffe.ts'
import { askChoice, askSecret, askText } from './ask.ts'
import type { InitFlags } from './command/init.ts'
import { hostPart } from './remote.ts'
import type { Terminal } from './terminal.ts'

const leastPassphrase = 8
const tooShort = `must have at least ${leastPassphrase} characters`

/** Kept in init.json until init is done; holds no secret. */
export interface InitPlan {
  readonly schema: 1
  readonly mesh: string
  readonly trustDomain: string
  readonly operator: string
  /** `local` or `[user@]host[:port]`. */
  readonly control: string
  readonly controlAddress: string
  readonly registry: 'embedded' | 'consul'
  readonly consulUrl: string | null
  /** Null: as it is, 24 h at first. */
  readonly leafSeconds: number | null
}

export async function planMesh(
  terminal: Terminal,
  named: string | undefined,
  flags: InitFlags,
): Promise<InitPlan> {
  if (named !== undefined && flags.mesh !== undefined && named !== flags.mesh) {
    throw new MeshError('MSH0101', `two names for the mesh: ${named} and ${flags.mesh}`)
  }
  const mesh = await orAsk(
    named ?? flags.mesh,
    (text) => nameFault(text),
    '--mesh',
    (check) => askText(terminal, { flag: '--mesh', message: 'name of the mesh', initial: 'mesh', check }),
  )
  const trustDomain = flags.trustDomain ?? `${mesh}.mesh`
  if (!isDottedName(trustDomain))
    throw new MeshError('MSH0101', `--trust-domain "${trustDomain}" must be a lowercase DNS name`)
  const control = flags.control ?? (await askControl(terminal))
  const suggested = await suggestAddress(control)
  const address = await orAsk(
    flags.controlAddress ?? (terminal.interactive ? undefined : suggested),
    addressFault,
    '--control-address',
    (check) =>
      askText(terminal, {
        flag: '--control-address',
        message: 'address at which hosts reach control',
        ...(suggested === undefined ? {} : { initial: suggested }),
        check,
      }),
  )
  const registry = flags.registry ?? (flags.consul === undefined ? await askRegistry(terminal) : 'consul')
  return {
    schema: 1,
    mesh,
    trustDomain,
    operator: readOperator(flags.name),
    control,
    controlAddress: address,
    registry,
    consulUrl: await readConsul(terminal, registry, flags),
    leafSeconds: flags.leafLifetime === undefined ? null : readLife(flags.leafLifetime),
  }
}

/** The passphrase for a new root key; null: explicitly none. */
export async function newPassphrase(terminal: Terminal, flags: InitFlags): Promise<string | null> {
  if (flags.passphrase === false) {
    if (flags.passphraseFile !== undefined) {
      throw new MeshError('MSH0101', '--passphrase-file and --no-passphrase exclude each other')
    }
    return null
  }
  if (flags.passphraseFile !== undefined) {
    const phrase = await readPassphraseFile(flags.passphraseFile)
    if (phrase.length < leastPassphrase) throw new MeshError('MSH0101', `the passphrase ${tooShort}`)
    return phrase
  }
  const flag = '--passphrase-file or --no-passphrase'
  const phrase = await askSecret(terminal, {
    flag,
    message: 'passphrase for the root key (empty: do not encrypt it)',
    check: (text) => (text === '' || text.length >= leastPassphrase ? null : tooShort),
  })
  if (phrase === '') return null
  await askSecret(terminal, {
    flag,
    message: 'once more',
    check: (text) => (text === phrase ? null : 'differs from the first; Ctrl-C to start again'),
  })
  return phrase
}

/** The passphrase of a root key that is there and encrypted. */
export async function knownPassphrase(terminal: Terminal, flags: InitFlags): Promise<string> {
  if (flags.passphraseFile !== undefined) return await readPassphraseFile(flags.passphraseFile)
  return await askSecret(terminal, { flag: '--passphrase-file', message: 'passphrase of the root key' })
}

async function readPassphraseFile(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw new MeshError('MSH0101', `--passphrase-file ${path} cannot be read`, { cause: error })
  })
  return text.replace(/\r?\n$/, '')
}

async function orAsk(
  given: string | undefined,
  fault: (text: string) => string | null,
  flag: string,
  ask: (check: (text: string) => string | null) => Promise<string>,
): Promise<string> {
  const value = given ?? (await ask((text) => (fault(text) === null ? null : `${fault(text) ?? ''}`)))
  const bad = fault(value)
  if (bad !== null) throw new MeshError('MSH0101', `${flag} "${value}" ${bad}`)
  return value
}

async function askControl(terminal: Terminal): Promise<string> {
  const where = await askChoice(terminal, {
    flag: '--control',
    message: 'where shall control run?',
    choices: [
      { value: 'local', name: 'on this machine' },
      { value: 'ssh', name: 'on another machine, over SSH' },
    ],
  })
  if (where === 'local') return where
  return await askText(terminal, {
    flag: '--control',
    message: 'which machine? [user@]host',
    check: (text) => (text === '' ? 'must not be empty' : null),
  })
}

/** The embedded one is the default: only a person at a terminal is asked. */
async function askRegistry(terminal: Terminal): Promise<'embedded' | 'consul'> {
  if (!terminal.interactive) return 'embedded'
  return await askChoice(terminal, {
    flag: '--registry',
    message: 'where shall services be registered?',
    choices: [
      { value: 'embedded', name: 'in the registry inside control' },
      { value: 'consul', name: 'in a Consul cluster of yours' },
    ],
  })
}

/** Over SSH what ~/.ssh/config calls it: the name of an alias there means nothing to hosts. */
async function suggestAddress(control: string): Promise<string | undefined> {
  if (control !== 'local') {
    const host = hostPart(control)
    return (await readSshDefaults(host)).hostName ?? host
  }
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? [])
  return all.find((address) => !address.internal && address.family === 'IPv4')?.address
}

function addressFault(text: string): string | null {
  if (isIP(text) > 0) return null
  return /^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/.test(text)
    ? null
    : 'must be an IP address or a DNS name'
}

/** Throws at once for a name that control would be waited for in vain at. */
export async function mustResolve(address: string): Promise<void> {
  if (isIP(address) > 0) return
  await lookup(address).catch((error: unknown) => {
    throw new MeshError('MSH0101', `control's address ${address} does not resolve on this machine`, {
      hint: 'add --control-address with the IP or DNS name at which hosts, and this machine, reach control',
      cause: error,
    })
  })
}

function readOperator(given: string | undefined): string {
  const name = given ?? userInfo().username.toLowerCase()
  if (isDottedName(name)) return name
  throw new MeshError('MSH0101', `"${name}" cannot be the name of an operator`, {
    hint: 'add --name with lowercase letters and digits',
  })
}

async function readConsul(
  terminal: Terminal,
  registry: 'embedded' | 'consul',
  flags: InitFlags,
): Promise<string | null> {
  if (registry === 'embedded') {
    const extra = flags.consul ?? flags.consulCa ?? flags.consulTokenFile
    if (extra !== undefined)
      throw new MeshError('MSH0101', '--registry embedded and --consul… exclude each other')
    return null
  }
  const fault = (text: string): string | null =>
    /^https?:$/.test(URL.parse(text)?.protocol ?? '') ? null : 'must be an http or https URL'
  const url = await orAsk(flags.consul, fault, '--consul', (check) =>
    askText(terminal, { flag: '--consul', message: 'URL of the Consul cluster', check }),
  )
  return url.replace(/\/$/, '')
}

export function readLife(text: string): number {
  const ms = parseDuration(text)
  // The bounds of control (control/config.ts).
  if (ms === null || ms < 10_000 || ms > 30 * 86_400_000) {
    throw new MeshError('MSH0101', `--leaf-lifetime "${text}" must be from 10s to 720h`, {
      hint: 'write 24h',
    })
  }
  return Math.round(ms / 1000)
}
