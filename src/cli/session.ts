// One mesh, opened: its context, its registry and its signer. The operator's certificate renews itself on the way.
import { connectSigner, type Signer } from '../api/client.ts'
import { operatorSpiffe } from '../api/signer.ts'
import { systemClock } from '../clock.ts'
import { MeshError } from '../errors.ts'
import type { RegistryConfig } from '../model/host.ts'
import { readCertificates } from '../pki/cert.ts'
import { makeRequest } from '../pki/csr.ts'
import { readKey } from '../pki/key.ts'
import { connectRegistry } from '../registry/client.ts'
import type { Registry } from '../registry/registry.ts'
import type { Cli } from './cli.ts'
import { contextStore, meshFiles, type ContextStore, type MeshContext } from './context.ts'

export interface Session {
  readonly name: string
  readonly context: MeshContext
  readonly store: ContextStore
  readonly mesh: string
  readonly registry: Registry
  readonly registryConfig: RegistryConfig
  /** Opened at first use; renews the operator's certificate when it is past half of its life. */
  signer(): Promise<Signer>
  roots(): Promise<string>
}

/** Runs `work` with the chosen mesh and closes what was opened. */
export async function withSession<T>(cli: Cli, work: (session: Session) => Promise<T>): Promise<T> {
  const store = contextStore(cli)
  const { name, context } = await store.choose(cli.globals().context)
  const registryConfig = await store.registryConfig(name, context)
  const registry = connectRegistry(registryConfig)
  let signer: Promise<Signer> | null = null
  try {
    return await work({
      name,
      context,
      store,
      mesh: context.mesh,
      registry,
      registryConfig,
      signer: () => (signer ??= openSigner(store, name, context, (text) => cli.terminal.say(text))),
      roots: () => store.readFile(name, meshFiles.roots),
    })
  } finally {
    registry.close()
  }
}

export async function openSigner(
  store: ContextStore,
  name: string,
  context: MeshContext,
  say: (text: string) => void,
): Promise<Signer> {
  const roots = await store.readFile(name, meshFiles.roots)
  const key = await store.readFile(name, meshFiles.operatorKey)
  const cert = await store.readFile(name, meshFiles.operatorChain)
  const options = { urls: context.signers, roots, trustDomain: context.trustDomain }
  const signer = connectSigner({ ...options, cert, key })
  const [leaf] = readCertificates(cert)
  if (leaf === undefined) throw new MeshError('MSH0104', 'the operator certificate holds no certificate')
  const now = systemClock.now()
  if (leaf.notAfter <= now) {
    throw new MeshError('MSH0411', `the operator certificate of ${name} expired on ${day(leaf.notAfter)}`, {
      hint: `meshctl init ${context.mesh} again makes a new one (needs the root key)`,
    })
  }
  if (now < leaf.notBefore + (leaf.notAfter - leaf.notBefore) / 2) return signer
  try {
    const csr = makeRequest(readKey(key), operatorSpiffe(context.trustDomain, context.operator))
    const [chain] = (await signer.renewOperator(csr)).chains
    if (chain === undefined) throw new MeshError('MSH0414', 'control gave no certificate')
    await store.writeFile(name, meshFiles.operatorChain, chain, 0o644)
    return connectSigner({ ...options, cert: chain, key })
  } catch (error) {
    // Half of its life is left: the next command tries again.
    if (!(error instanceof MeshError)) throw error
    say(
      `warning: the operator certificate ends on ${day(leaf.notAfter)} and could not be renewed: ${error.message}`,
    )
    return signer
  }
}

function day(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10)
}
