// Opening an SSH connection: who we are (agent, keys, passwords), who they are (known_hosts), through which jump host.
import { existsSync, readFileSync } from 'node:fs'
import { appendFile, mkdir, readFile } from 'node:fs/promises'
import { homedir, userInfo } from 'node:os'
import { dirname, join } from 'node:path'
import type { Duplex } from 'node:stream'
import ssh2, { type AnyAuthMethod, type ConnectConfig, type ServerHostKeyAlgorithm } from 'ssh2'
import { MeshError, reason } from '../errors.ts'
import { knownKeys, knownName, verdict, type KnownKey } from './knownhosts.ts'
import { SshHost } from './ssh.ts'
import { agentSocket, ChosenAgent } from './sshagent.ts'
import { parseTarget, readSshDefaults } from './sshconfig.ts'

export type HostKeyCheck = 'strict' | 'accept-new' | 'off'

export interface SshOptions {
  readonly user?: string | undefined
  readonly port?: number | undefined
  /** Private key files; default: ~/.ssh/config's, then id_ed25519, id_ecdsa, id_rsa. */
  readonly identities?: readonly string[] | undefined
  readonly password?: string | undefined
  /** Asked once for each key file that needs one; null: skip that key. */
  readonly passphrase?: ((path: string) => Promise<string | null>) | undefined
  /** The agent's socket; default ~/.ssh/config's, then $SSH_AUTH_SOCK; null: none. */
  readonly agent?: string | null | undefined
  readonly sudoPassword?: string | undefined
  readonly hostKeyCheck?: HostKeyCheck | undefined
  /** Default: ~/.ssh/known_hosts (new keys go there) and /etc/ssh/ssh_known_hosts. */
  readonly knownHosts?: readonly string[] | undefined
  /** `[user@]host[:port]`, several joined by commas. */
  readonly jump?: string | undefined
  /** Default: ~/.ssh/config; null: none. */
  readonly configFile?: string | null | undefined
  readonly timeoutMs?: number | undefined
  readonly keepaliveMs?: number | undefined
}

const defaultTimeoutMs = 15_000
const defaultKeepaliveMs = 5_000
const keepaliveMisses = 3

/** Connects to `[user@]host[:port]`. Throws MSH0501 (no way there), MSH0502 (its key), MSH0503 (our login). */
export async function connectSsh(target: string, options: SshOptions = {}): Promise<SshHost> {
  const place = await resolveTarget(target, options)
  let through: SshVia | null = null
  for (const hop of place.jumps) {
    // A jump host is asked with its own user and port, but the same keys.
    const next: Place = await resolveTarget(hop, {
      ...options,
      user: undefined,
      port: undefined,
      jump: 'none',
    })
    through = await via(through, next, options)
  }
  const { client, hostKey } = await open(place, options, through)
  if (through !== null) {
    const behind = through
    client.on('close', () => behind.client.end())
  }
  return new SshHost(client, {
    label: `${place.user}@${place.name}${place.port === 22 ? '' : `:${place.port}`}`,
    user: place.user,
    hostKey,
    sudoPassword: options.sudoPassword ?? options.password ?? null,
  })
}

interface Place {
  /** As the user wrote it, for messages and known_hosts. */
  readonly name: string
  readonly address: string
  readonly port: number
  readonly user: string
  readonly identities: readonly string[]
  /** Socket of ssh-agent. */
  readonly agent: string | null
  /** Only those of the agent's keys that belong to `identities`. */
  readonly identitiesOnly: boolean
  readonly jumps: readonly string[]
}

interface SshVia {
  readonly client: ssh2.Client
  readonly name: string
}

async function resolveTarget(target: string, options: SshOptions): Promise<Place> {
  const parsed = parseTarget(target)
  if (parsed === null)
    throw new MeshError('MSH0101', `not a host: "${target}"`, { hint: 'write [user@]host[:port]' })
  const defaults = await readSshDefaults(parsed.host, options.configFile)
  const jump = options.jump ?? defaults.proxyJump ?? 'none'
  return {
    name: parsed.host,
    address: defaults.hostName ?? parsed.host,
    port: options.port ?? parsed.port ?? defaults.port ?? 22,
    user: options.user ?? parsed.user ?? defaults.user ?? userInfo().username,
    identities:
      options.identities ?? (defaults.identityFiles.length > 0 ? defaults.identityFiles : usualKeys()),
    agent: options.agent === undefined ? agentSocket(defaults.identityAgent) : options.agent,
    identitiesOnly: defaults.identitiesOnly,
    jumps: jump === 'none' ? [] : jump.split(','),
  }
}

function usualKeys(): string[] {
  return ['id_ed25519', 'id_ecdsa', 'id_rsa']
    .map((name) => join(homedir(), '.ssh', name))
    .filter((path) => existsSync(path))
}

async function via(through: SshVia | null, place: Place, options: SshOptions): Promise<SshVia> {
  const { client } = await open(place, { ...options, password: undefined }, through)
  client.on('error', () => client.end())
  return { client, name: place.name }
}

interface Opened {
  readonly client: ssh2.Client
  readonly hostKey: string
}

/**
 * Keys that need a passphrase come last: the user is asked only where nothing else lets us in (ssh-agent may hold that
 * very key).
 */
async function open(place: Place, options: SshOptions, through: SshVia | null): Promise<Opened> {
  const { methods, locked } = await authMethods(place, options)
  if (methods.length > 0) {
    try {
      return await login(place, options, through, methods)
    } catch (error) {
      const isRefused = error instanceof MeshError && error.code === 'MSH0503'
      if (!isRefused || locked.length === 0) throw error
    }
  }
  const unlocked: AnyAuthMethod[] = []
  for (const path of locked) {
    const key = await unlock(path, options)
    if (key !== null) unlocked.push({ type: 'publickey', username: place.user, key })
  }
  if (unlocked.length > 0) return await login(place, options, through, unlocked)
  throw new MeshError('MSH0503', `${place.name}: no key, agent or password to log in with`, {
    hint: 'start ssh-agent, or give --identity FILE or --ask-password',
  })
}

async function login(
  place: Place,
  options: SshOptions,
  through: SshVia | null,
  methods: AnyAuthMethod[],
): Promise<Opened> {
  const check = options.hostKeyCheck ?? 'strict'
  const files = options.knownHosts ?? [join(homedir(), '.ssh/known_hosts'), '/etc/ssh/ssh_known_hosts']
  const known = keysOf(files, place)
  const sock = through === null ? undefined : await tunnel(through, place)
  const client = new ssh2.Client()
  let hostKey = ''
  let refusal: MeshError | null = null
  const config: ConnectConfig = {
    host: place.address,
    port: place.port,
    username: place.user,
    readyTimeout: options.timeoutMs ?? defaultTimeoutMs,
    keepaliveInterval: options.keepaliveMs ?? defaultKeepaliveMs,
    keepaliveCountMax: keepaliveMisses,
    authHandler: methods,
    algorithms: { serverHostKey: keyOrder(known) },
    hostVerifier: (key: Buffer): boolean => {
      const type = keyType(key)
      const base64 = key.toString('base64')
      hostKey = `${type} ${base64}`
      refusal = check === 'off' ? null : refuse(known, place, type, base64, check)
      return refusal === null
    },
    ...(sock === undefined ? {} : { sock }),
  }
  await new Promise<void>((resolve, reject) => {
    client.once('ready', resolve)
    client.once('error', (error: Error & { level?: string }) =>
      reject(refusal ?? explained(error, place, methods.length)),
    )
    client.once('close', () =>
      reject(refusal ?? new MeshError('MSH0501', `${place.name}: the connection was closed`)),
    )
    client.on('keyboard-interactive', (_name, _instructions, _language, prompts, finish) =>
      finish(prompts.map(() => options.password ?? '')),
    )
    client.connect(config)
    // A command is several small packets; each would wait for the answer to the one before it (RFC 896).
    client.setNoDelay(true)
  }).catch((error: unknown) => {
    client.end()
    throw error
  })
  const [type = '', base64 = ''] = hostKey.split(' ')
  if (check === 'accept-new' && verdict(known, type, base64) === 'unknown')
    await remember(files[0], place, hostKey)
  return { client, hostKey }
}

async function tunnel(through: SshVia, place: Place): Promise<Duplex> {
  return await new Promise((resolve, reject) => {
    through.client.forwardOut('127.0.0.1', 0, place.address, place.port, (error, stream) => {
      if (error === undefined) resolve(stream)
      else
        reject(new MeshError('MSH0501', `${place.name}: ${through.name} cannot reach it: ${error.message}`))
    })
  })
}

interface Ways {
  readonly methods: AnyAuthMethod[]
  /** Key files that need a passphrase. */
  readonly locked: string[]
}

/**
 * Key files that were named, the agent, the usual key files, the password; each is offered once. Named keys come first because
 * sshd hangs up after a few (MaxAuthTries), and an agent may hold many.
 */
async function authMethods(place: Place, options: SshOptions): Promise<Ways> {
  const methods: AnyAuthMethod[] = []
  const locked: string[] = []
  const username = place.user
  const { agent } = place
  for (const path of place.identities) {
    const key = await readKey(path, options)
    if (key === 'locked') locked.push(path)
    else if (key !== null) methods.push({ type: 'publickey', username, key })
  }
  if (agent !== null) {
    const offered = place.identitiesOnly ? new ChosenAgent(agent, place.identities) : agent
    const way: AnyAuthMethod = { type: 'agent', username, agent: offered }
    if (options.identities === undefined) methods.unshift(way)
    else methods.push(way)
  }
  if (options.password !== undefined) {
    methods.push({ type: 'password', username, password: options.password })
    methods.push({
      type: 'keyboard-interactive',
      username,
      prompt: (_name, _instructions, _language, prompts, finish) =>
        finish(prompts.map(() => options.password ?? '')),
    })
  }
  return { methods, locked }
}

/** Null: a usual key that is not there or of no use; a key that was asked for by name throws. */
async function readKey(path: string, options: SshOptions): Promise<ssh2.ParsedKey | 'locked' | null> {
  const asked = options.identities !== undefined
  let text: Buffer
  try {
    text = await readFile(path)
  } catch (error) {
    if (!asked) return null
    throw new MeshError('MSH0503', `key file ${path}: ${reason(error)}`)
  }
  const key = one(ssh2.utils.parseKey(text))
  if (!(key instanceof Error)) return key
  if (/passphrase|encrypted/i.test(key.message)) return 'locked'
  if (!asked) return null
  throw new MeshError('MSH0503', `key file ${path}: ${key.message}`)
}

async function unlock(path: string, options: SshOptions): Promise<ssh2.ParsedKey | null> {
  const asked = options.identities !== undefined
  const phrase = await options.passphrase?.(path)
  if (phrase === null || phrase === undefined) {
    if (!asked) return null
    throw new MeshError('MSH0503', `key file ${path} needs a passphrase`, {
      hint: 'add it to ssh-agent: ssh-add ' + path,
    })
  }
  const key = one(ssh2.utils.parseKey(await readFile(path), phrase))
  if (!(key instanceof Error)) return key
  throw new MeshError('MSH0503', `key file ${path}: wrong passphrase`, { cause: key })
}

function one(parsed: ssh2.ParsedKey | ssh2.ParsedKey[] | Error): ssh2.ParsedKey | Error {
  if (!Array.isArray(parsed)) return parsed
  return parsed[0] ?? new Error('the file holds no key')
}

function keysOf(files: readonly string[], place: Place): KnownKey[] {
  const names = new Set([knownName(place.name, place.port), knownName(place.address, place.port)])
  return files.flatMap((file) => {
    if (!existsSync(file)) return []
    const text = readFileSync(file, 'utf8')
    return [...names].flatMap((name) => knownKeys(text, name))
  })
}

/** Key types we know of this host first, as OpenSSH does; else a host with several keys would look changed or new. */
function keyOrder(known: readonly KnownKey[]): ServerHostKeyAlgorithm[] {
  const all: ServerHostKeyAlgorithm[] = [
    'ssh-ed25519',
    'ecdsa-sha2-nistp256',
    'ecdsa-sha2-nistp384',
    'ecdsa-sha2-nistp521',
    'rsa-sha2-512',
    'rsa-sha2-256',
  ]
  const types = new Set(known.filter((key) => !key.revoked).map((key) => key.type))
  const has = (name: string): boolean => types.has(name) || (name.startsWith('rsa-') && types.has('ssh-rsa'))
  return [...all.filter(has), ...all.filter((name) => !has(name))]
}

function refuse(
  known: readonly KnownKey[],
  place: Place,
  type: string,
  base64: string,
  check: HostKeyCheck,
): MeshError | null {
  const said = verdict(known, type, base64)
  if (said === 'known' || (said === 'unknown' && check === 'accept-new')) return null
  const name = knownName(place.name, place.port)
  if (said === 'unknown') {
    return new MeshError('MSH0502', `${place.name}: its ${type} host key is not known`, {
      hint: `compare and add it (ssh-keyscan ${place.name}), or use --host-key-check accept-new`,
    })
  }
  return new MeshError(
    'MSH0502',
    `${place.name}: its ${type} host key ${said === 'changed' ? 'has changed' : 'is revoked'}`,
    {
      hint: `if the host was really installed anew: ssh-keygen -R '${name}'`,
    },
  )
}

async function remember(file: string | undefined, place: Place, hostKey: string): Promise<void> {
  if (file === undefined) return
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  await appendFile(file, `${knownName(place.name, place.port)} ${hostKey}\n`, { mode: 0o600 })
}

/** The type is the first string of the key's own bytes (RFC 4253 section 6.6). */
function keyType(key: Buffer): string {
  return key.subarray(4, 4 + key.readUInt32BE(0)).toString('latin1')
}

const waysFailed: readonly (readonly [RegExp, string])[] = [
  [/ENOTFOUND|EAI_AGAIN/, 'the name does not resolve'],
  [/ECONNREFUSED/, 'nothing listens on port PORT'],
  [/ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|Timed out while waiting/, 'no answer on port PORT'],
]

function explained(error: Error & { level?: string }, place: Place, offered: number): MeshError {
  if (error.level === 'client-authentication') {
    return new MeshError('MSH0503', `${place.name} refused user "${place.user}" (${offered} ways tried)`, {
      hint: `try: ssh -p ${place.port} ${place.user}@${place.name}`,
    })
  }
  const why = waysFailed.find(([pattern]) => pattern.test(error.message))?.[1] ?? error.message
  return new MeshError('MSH0501', `${place.name}: ${why.replace('PORT', String(place.port))}`, {
    hint: `try: ssh -p ${place.port} ${place.user}@${place.name}`,
    cause: error,
  })
}
