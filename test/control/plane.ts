// A control plane for tests: a folder as `meshctl init` writes it, real certificates, real HTTPS on port 0, the real
// embedded registry.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { connectSigner } from '../../src/api/client.ts'
import type { Signer } from '../../src/api/client.ts'
import type { ControlConfig, GrantRequest, SignReply } from '../../src/api/signer.ts'
import { FakeClock } from '../../src/clock.ts'
import { readSetup } from '../../src/control/config.ts'
import { startControl } from '../../src/control/start.ts'
import type { Control } from '../../src/control/start.ts'
import { makeLog } from '../../src/log.ts'
import { hostSpiffe, serviceSpiffe } from '../../src/model/service.ts'
import { makeRequest } from '../../src/pki/csr.ts'
import { keyPem, makeKey } from '../../src/pki/key.ts'
import { Authority } from '../pki/authority.ts'
import type { Leaf } from '../pki/authority.ts'

export const managementToken = 'management-token-of-the-tests'

/** A real ed25519 host key (public part) per name. */
export function sshKey(name: string): string {
  const type = Buffer.from('ssh-ed25519')
  const point = Buffer.alloc(32, name)
  const part = (bytes: Buffer): Buffer => {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(bytes.length)
    return Buffer.concat([length, bytes])
  }
  return `ssh-ed25519 ${Buffer.concat([part(type), part(point)]).toString('base64')} root@${name}`
}

export class Plane {
  readonly dir: string
  readonly authority: Authority
  readonly clock: FakeClock
  readonly #config: ControlConfig
  #control: Control | null = null
  #operator: Leaf

  /** `since`: when its CA was made, ms. */
  constructor(changes: Partial<ControlConfig> = {}, since: number = Date.now()) {
    this.dir = mkdtempSync(join(tmpdir(), 'meshctl-control-'))
    this.authority = new Authority('demo.mesh', since)
    // It begins now, because TLS reads the machine's clock.
    this.clock = new FakeClock(Date.now())
    this.#operator = this.authority.operator('ann')
    this.#config = {
      schema: 1,
      mesh: 'demo',
      trustDomain: 'demo.mesh',
      names: ['control.example.com', '10.0.0.1'],
      listen: '127.0.0.1',
      signerPort: 0,
      embedded: { port: 0, token: managementToken },
      consul: null,
      leafSeconds: 3600,
      ...changes,
    }
    mkdirSync(join(this.dir, 'ca'))
    const write = (name: string, text: string): void =>
      writeFileSync(join(this.dir, name), text, { mode: 0o600 })
    write('control.json', JSON.stringify(this.#config))
    write('ca/roots.pem', this.authority.roots)
    write('ca/issuing.pem', this.authority.issuing.certificate.pem)
    write('ca/issuing.key', keyPem(this.authority.issuing.key))
  }

  async start(): Promise<void> {
    this.#control = await startControl(readSetup(this.dir, this.clock.now()), {
      clock: this.clock,
      log: makeLog('control', 'silent'),
    })
  }

  async stop(): Promise<void> {
    const control = this.#control
    this.#control = null
    if (control === null) return
    // What is under way at close has a moment by the clock, which stands still here.
    const closing = control.close()
    this.clock.advance(2000)
    await closing
  }

  async remove(): Promise<void> {
    await this.stop()
    rmSync(this.dir, { recursive: true })
  }

  /** Makes the record older: as if the host had last renewed then. */
  renewedAt(host: string, ms: number): void {
    const db = new DatabaseSync(join(this.dir, 'state/control.db'))
    db.prepare('update hosts set renewed = ? where host = ?').run(ms, host)
    db.close()
  }

  get port(): number {
    return this.#control?.signerPort ?? 0
  }

  get registryPort(): number {
    return this.#control?.registryPort ?? 0
  }

  get url(): string {
    return `https://127.0.0.1:${this.port}`
  }

  /** A client with this leaf; without one only `join` is open. */
  client(leaf?: Pick<Leaf, 'chain' | 'key'>): Signer {
    const pair = leaf === undefined ? {} : { cert: leaf.chain, key: leaf.key }
    return connectSigner({ urls: [this.url], roots: this.authority.roots, trustDomain: 'demo.mesh', ...pair })
  }

  operator(): Signer {
    return this.client(this.#operator)
  }
}

export function grantFor(
  host: string,
  services: readonly string[],
  changes: Partial<GrantRequest> = {},
): GrantRequest {
  return {
    host,
    address: '10.0.0.11',
    services: services.map((name) => ({ name, namespace: 'default' })),
    sshHostKey: sshKey(host),
    replace: false,
    ...changes,
  }
}

export interface Wanted {
  readonly csrs: string[]
  /** Private keys, PEM, in the order of the requests. */
  readonly keys: string[]
}

/** Requests for a host and services in namespace default. */
export function requestsFor(host: string | null, services: readonly string[]): Wanted {
  const ids = [
    ...(host === null ? [] : [hostSpiffe('demo.mesh', host)]),
    ...services.map((name) => serviceSpiffe('demo.mesh', 'default', name)),
  ]
  const made = ids.map((id) => ({ id, key: makeKey() }))
  return { csrs: made.map(({ id, key }) => makeRequest(key, id)), keys: made.map(({ key }) => keyPem(key)) }
}

/** A whole join; gives the reply and the host's own leaf. */
export async function joinHost(
  plane: Plane,
  host: string,
  services: readonly string[],
): Promise<{ reply: SignReply; leaf: Pick<Leaf, 'chain' | 'key'> }> {
  const { grant } = await plane.operator().grant(grantFor(host, services))
  const { csrs, keys } = requestsFor(host, services)
  const reply = await plane.client().join(grant, { host, csrs })
  return { reply, leaf: { chain: reply.chains[0] ?? '', key: keys[0] ?? '' } }
}

export const refusedWith =
  (code: string) =>
  (error: unknown): boolean =>
    error instanceof Error && 'code' in error && error.code === code
