// A temporary prefix with a host's folders, and the certificates of a host in it.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import pino from 'pino'
import type { Signer } from '../../src/api/client.ts'
import { MeshError } from '../../src/errors.ts'
import type { Log } from '../../src/log.ts'
import { holdersOf, Keyring } from '../../src/agent/keyring.ts'
import { type Paths, pathsUnder } from '../../src/paths.ts'
import { readRequest } from '../../src/pki/csr.ts'
import { makeLeaf } from '../../src/pki/issue.ts'
import { readKey } from '../../src/pki/key.ts'
import type { Authority } from '../pki/authority.ts'

export const silent: Log = pino({ level: 'silent' })

export interface Place {
  readonly paths: Paths
  remove(): void
}

export function makePlace(): Place {
  const prefix = mkdtempSync(join(tmpdir(), 'meshctl-agent-'))
  const paths = pathsUnder(prefix)
  for (const folder of [
    paths.identity,
    paths.state,
    paths.proxyState,
    paths.run,
    paths.etc,
    dirname(paths.proxySocket),
  ]) {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
  }
  return { paths, remove: () => rmSync(prefix, { recursive: true, force: true }) }
}

/** Puts roots and leafs where a join would have left them. */
export async function furnish(
  paths: Paths,
  authority: Authority,
  host: string,
  services: readonly { readonly name: string; readonly namespace: string }[],
  options: { now?: number; lifeSeconds?: number } = {},
): Promise<void> {
  writeFileSync(paths.roots, authority.roots)
  const keyring = new Keyring(paths)
  for (const holder of holdersOf(authority.trustDomain, host, services)) {
    const leaf = authority.leaf(holder.spiffe, options)
    await keyring.store(holder, readKey(leaf.key), leaf.chain)
  }
}

/** A signer in the process: signs whatever `entitled` allows, with real requests and certificates. */
export class FakeSigner {
  readonly authority: Authority
  calls: string[][] = []
  entitled: (spiffe: string) => boolean = () => true
  failure: Error | null = null
  now: () => number
  lifeSeconds = 3600

  constructor(authority: Authority, now: () => number = Date.now) {
    this.authority = authority
    this.now = now
  }

  readonly connect = (): Signer => {
    const sign = async (
      csrs: readonly string[],
      refusal: () => Error,
    ): Promise<Awaited<ReturnType<Signer['sign']>>> => {
      if (this.failure !== null) throw this.failure
      const requests = csrs.map(readRequest)
      this.calls.push(requests.map((request) => request.spiffe.id))
      if (requests.some((request) => !this.entitled(request.spiffe.id))) throw refusal()
      const { authority } = this
      const chains = requests.map(
        ({ publicKey, spiffe }) =>
          makeLeaf({
            issuer: authority.issuing,
            publicKey,
            spiffe: spiffe.id,
            now: this.now(),
            lifeSeconds: this.lifeSeconds,
          }) + authority.issuing.certificate.pem,
      )
      return { chains, roots: authority.roots, registryToken: 'token-1' }
    }
    return {
      sign: (body: { csrs: readonly string[] }) =>
        sign(body.csrs, () => new MeshError('MSH0404', 'not entitled')),
      join: (_grant: string, body: { csrs: readonly string[] }) =>
        sign(body.csrs, () => new MeshError('MSH0408', 'not granted')),
    } as unknown as Signer
  }
}
