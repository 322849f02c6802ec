// The real control of a mesh test: signer, embedded registry and lease reaper over TLS, behind gates, so that it can be
// away and come back at the same addresses.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectSigner, type Signer } from '../../src/api/client.ts'
import { type ControlConfig, controlSpiffe } from '../../src/api/signer.ts'
import type { Clock } from '../../src/clock.ts'
import { readSetup } from '../../src/control/config.ts'
import { type Control, startControl } from '../../src/control/start.ts'
import type { Log } from '../../src/log.ts'
import type { RegistryConfig } from '../../src/model/host.ts'
import { keyPem } from '../../src/pki/key.ts'
import { Authority } from '../pki/authority.ts'
import { Gate } from './gate.ts'

export const meshName = 'demo'
export const trustDomain = 'demo.mesh'
const managementToken = 'management-token-of-the-mesh-tests'

export class MeshControl {
  readonly authority: Authority = new Authority(trustDomain)
  readonly signer: Gate
  readonly registry: Gate
  readonly #dir = mkdtempSync(join(tmpdir(), 'meshctl-mesh-control-'))
  readonly #clock: Clock
  readonly #log: Log
  #control: Control | null = null

  constructor(clock: Clock, log: Log, leafSeconds: number) {
    this.#clock = clock
    this.#log = log
    this.signer = new Gate(() => this.#control?.signerPort ?? 1)
    this.registry = new Gate(() => this.#control?.registryPort ?? 1)
    const config: ControlConfig = {
      schema: 1,
      mesh: meshName,
      trustDomain,
      names: ['control.example.com'],
      listen: '127.0.0.1',
      signerPort: 0,
      embedded: { port: 0, token: managementToken },
      consul: null,
      leafSeconds,
    }
    mkdirSync(join(this.#dir, 'ca'))
    const write = (name: string, text: string): void =>
      writeFileSync(join(this.#dir, name), text, { mode: 0o600 })
    write('control.json', JSON.stringify(config))
    write('ca/roots.pem', this.authority.roots)
    write('ca/issuing.pem', this.authority.issuing.certificate.pem)
    write('ca/issuing.key', keyPem(this.authority.issuing.key))
  }

  async start(): Promise<void> {
    this.#control = await startControl(readSetup(this.#dir, this.#clock.now()), {
      clock: this.#clock,
      log: this.#log,
    })
    await this.signer.open()
    await this.registry.open()
  }

  async stop(): Promise<void> {
    await Promise.all([this.signer.shut(), this.registry.shut()])
    await this.#control?.close()
    this.#control = null
  }

  async remove(): Promise<void> {
    await this.stop()
    rmSync(this.#dir, { recursive: true, force: true })
  }

  get url(): string {
    return `https://127.0.0.1:${this.signer.port}`
  }

  operator(): Signer {
    const { chain, key } = this.authority.operator('ann')
    return connectSigner({
      urls: [this.url],
      roots: this.authority.roots,
      trustDomain,
      cert: chain,
      key,
    })
  }

  /** The registry as control itself reaches it, whatever the gate does. */
  inside(): RegistryConfig {
    return { ...this.access(), url: `https://127.0.0.1:${this.#control?.registryPort ?? 1}` }
  }

  /** How to reach the registry with this token; the management token unless said otherwise. */
  access(token: string | null = managementToken): RegistryConfig {
    return {
      url: `https://127.0.0.1:${this.registry.port}`,
      token,
      ca: this.authority.roots,
      spiffe: controlSpiffe(trustDomain),
      localAgent: null,
    }
  }
}
