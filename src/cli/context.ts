// The meshes that this machine knows: ~/.config/meshctl/config.json (0600, it holds the registry token) and a folder
// per mesh with the operator's key and certificate, the roots and the root key.
import { existsSync } from 'node:fs'
import { mkdir, readFile, rm, stat } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { MeshError } from '../errors.ts'
import type { RegistryConfig } from '../model/host.ts'
import { nameFault } from '../model/name.ts'
import { didYouMean } from '../model/near.ts'
import { isRecord } from '../model/problem.ts'
import { pathsUnder } from '../paths.ts'
import { storeFile } from '../pki/key.ts'
import type { Cli } from './cli.ts'

/** How the control host is reached for logs and checks. */
export type ControlPlace =
  | { readonly kind: 'local' }
  | {
      readonly kind: 'ssh'
      readonly user: string | null
      readonly host: string
      readonly port: number
      readonly identity: string | null
      readonly jump: string | null
    }

export interface MeshContext {
  readonly mesh: string
  readonly trustDomain: string
  /** The operator's name in `spiffe://…/operator/<name>`. */
  readonly operator: string
  /** `https://control:15012` */
  readonly signers: readonly string[]
  /** `ca` is kept in the folder's files (roots.pem or registry-ca.pem), never here. */
  readonly registry: {
    readonly kind: 'embedded' | 'consul'
    readonly url: string
    readonly token: string | null
    readonly ca: 'roots' | 'file' | 'system'
    readonly spiffe: string | null
  }
  readonly control: ControlPlace
  readonly createdAt: string
}

interface ContextFile {
  readonly schema: 1
  readonly current: string | null
  readonly contexts: Readonly<Record<string, MeshContext>>
}

const none: ContextFile = { schema: 1, current: null, contexts: {} }

/** Files in the folder of one mesh. */
export const meshFiles = {
  operatorKey: 'operator.key',
  operatorChain: 'operator.pem',
  roots: 'roots.pem',
  rootKey: 'root.key',
  registryCa: 'registry-ca.pem',
  /** What an interrupted `init` had decided. */
  draft: 'init.json',
} as const

export function contextStore(cli: Cli): ContextStore {
  return new ContextStore(cli.globals().config, cli.terminal.env)
}

export class ContextStore {
  readonly folder: string

  constructor(folder: string | undefined, env: Readonly<Record<string, string | undefined>>) {
    const base = env['XDG_CONFIG_HOME'] ?? join(env['HOME'] ?? homedir(), '.config')
    this.folder = folder ?? join(base, 'meshctl')
  }

  get file(): string {
    return join(this.folder, 'config.json')
  }

  meshFolder(name: string): string {
    return join(this.folder, name)
  }

  async read(): Promise<ContextFile> {
    let text: string
    try {
      const { mode } = await stat(this.file)
      if ((mode & 0o077) !== 0) {
        throw new MeshError('MSH0104', `${this.file} holds a token and may be read by others`, {
          hint: `chmod 600 ${this.file}`,
        })
      }
      text = await readFile(this.file, 'utf8')
    } catch (error) {
      if (error instanceof Error && Reflect.get(error, 'code') === 'ENOENT') return none
      if (error instanceof MeshError) throw error
      throw new MeshError('MSH0104', `${this.file} cannot be read`, { cause: error })
    }
    return parseFile(text, this.file)
  }

  /** Adds or replaces a context and makes it the current one. */
  async write(name: string, context: MeshContext): Promise<void> {
    const file = await this.read()
    await this.#store({ schema: 1, current: name, contexts: { ...file.contexts, [name]: context } })
  }

  async use(name: string): Promise<void> {
    const file = await this.read()
    if (!Object.hasOwn(file.contexts, name)) throw unknown(name, file)
    await this.#store({ ...file, current: name })
  }

  async remove(name: string): Promise<void> {
    const file = await this.read()
    if (!Object.hasOwn(file.contexts, name)) throw unknown(name, file)
    const contexts = Object.fromEntries(Object.entries(file.contexts).filter(([other]) => other !== name))
    const current = file.current === name ? (Object.keys(contexts)[0] ?? null) : file.current
    await this.#store({ schema: 1, current, contexts })
  }

  /** The chosen context, or the current one. Throws MSH0103. */
  async choose(name: string | undefined): Promise<{ name: string; context: MeshContext }> {
    const file = await this.read()
    const wanted = name ?? file.current
    if (wanted === null) {
      throw new MeshError('MSH0103', 'this machine knows no mesh yet', {
        hint: existsSync(pathsUnder().hostConfig)
          ? 'it is a host of one: meshctl check looks at it; other verbs run where meshctl init ran'
          : 'meshctl init',
      })
    }
    const context = Object.hasOwn(file.contexts, wanted) ? file.contexts[wanted] : undefined
    if (context === undefined) throw unknown(wanted, file)
    return { name: wanted, context }
  }

  async readFile(name: string, file: string): Promise<string> {
    const path = join(this.meshFolder(name), file)
    try {
      return await readFile(path, 'utf8')
    } catch (error) {
      throw new MeshError('MSH0104', `${path} cannot be read`, { cause: error })
    }
  }

  /** Null where there is none. */
  async tryFile(name: string, file: string): Promise<string | null> {
    return await readFile(join(this.meshFolder(name), file), 'utf8').catch(() => null)
  }

  async writeFile(name: string, file: string, content: string, mode: number): Promise<void> {
    await mkdir(this.meshFolder(name), { recursive: true, mode: 0o700 })
    await storeFile(join(this.meshFolder(name), file), content, mode)
  }

  async removeFile(name: string, file: string): Promise<void> {
    await rm(join(this.meshFolder(name), file), { force: true })
  }

  /** What hosts and this command need to reach the registry. */
  async registryConfig(name: string, context: MeshContext): Promise<RegistryConfig> {
    const { url, token, ca, spiffe } = context.registry
    const file = { roots: meshFiles.roots, file: meshFiles.registryCa, system: null }[ca]
    return {
      url,
      token,
      spiffe,
      ca: file === null ? null : await this.readFile(name, file),
      localAgent: null,
    }
  }

  async #store(file: ContextFile): Promise<void> {
    await mkdir(this.folder, { recursive: true, mode: 0o700 })
    await storeFile(this.file, `${JSON.stringify(file, null, 2)}\n`, 0o600)
  }
}

function unknown(name: string, file: ContextFile): MeshError {
  const names = Object.keys(file.contexts)
  const known = names.length === 0 ? 'this machine knows no mesh yet' : `known: ${names.join(', ')}`
  return new MeshError('MSH0103', `no context "${name}"`, { hint: didYouMean(name, names) ?? known })
}

function parseFile(text: string, path: string): ContextFile {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new MeshError('MSH0104', `${path} is not valid JSON`, { cause: error })
  }
  const fault = (what: string): MeshError => new MeshError('MSH0104', `${path}: ${what}`)
  if (!isRecord(value) || value['schema'] !== 1 || !isRecord(value['contexts'])) {
    throw fault('is not a context file of this version')
  }
  for (const [name, context] of Object.entries(value['contexts'])) {
    // Names become folders.
    if (nameFault(name) !== null) throw fault(`contexts.${name} is no name`)
    const sound =
      isRecord(context) &&
      ['mesh', 'trustDomain', 'operator'].every((key) => typeof context[key] === 'string') &&
      Array.isArray(context['signers']) &&
      isRecord(context['registry']) &&
      typeof context['registry']['url'] === 'string' &&
      isRecord(context['control'])
    if (!sound) throw fault(`contexts.${name} is incomplete`)
  }
  // Checked above as far as a file that only this command writes needs it.
  return value as unknown as ContextFile
}
