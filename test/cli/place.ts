// A mesh for command tests: a real control plane with its embedded registry in this process, a context folder as `init`
// writes it, and the real command as a child process.
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { controlSpiffe } from '../../src/api/signer.ts'
import { declareServices } from '../../src/model/declaration.ts'
import { listens } from '../../src/model/service.ts'
import { registrationOf } from '../../src/registry/catalogue.ts'
import { connectRegistry } from '../../src/registry/client.ts'
import { keys, leaseCheckId, type HostReport, type Registry } from '../../src/registry/registry.ts'
import { claim } from '../../src/registry/vip.ts'
import { managementToken, Plane } from '../control/plane.ts'

export interface Ran {
  readonly status: number
  readonly out: string
  readonly err: string
}

const main = join(import.meta.dirname, '../../src/cli/main.ts')

/** Runs the command; never a terminal, so nothing is asked and nothing coloured. */
export function run(
  args: readonly string[],
  options: {
    env?: Record<string, string>
    input?: string
    signal?: { after: RegExp; name: NodeJS.Signals }
  } = {},
): Promise<Ran> {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', main, ...args], {
    env: {
      PATH: process.env['PATH'] ?? '',
      HOME: '/nonexistent',
      LANG: 'C.UTF-8',
      COLUMNS: '80',
      ...options.env,
    },
  })
  let out = ''
  let err = ''
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString('utf8')))
  child.stderr.on('data', (chunk: Buffer) => {
    err += chunk.toString('utf8')
    if (options.signal?.after.test(err) === true) child.kill(options.signal.name)
  })
  child.stdin.end(options.input ?? '')
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (status) => resolve({ status: status ?? -1, out, err }))
  })
}

export class Place {
  readonly folder = mkdtempSync(join(tmpdir(), 'meshctl-cli-'))
  readonly plane = new Plane()
  #registry: Registry | null = null

  async start(): Promise<void> {
    await this.plane.start()
    const folder = join(this.folder, 'demo')
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const operator = this.plane.authority.operator('ann')
    writeFileSync(join(folder, 'roots.pem'), this.plane.authority.roots)
    writeFileSync(join(folder, 'operator.key'), operator.key, { mode: 0o600 })
    writeFileSync(join(folder, 'operator.pem'), operator.chain)
    this.writeContext()
  }

  /** Rewritten after a restart, because ports change. */
  writeContext(): void {
    const context = {
      mesh: 'demo',
      trustDomain: 'demo.mesh',
      operator: 'ann',
      signers: [this.plane.url],
      registry: {
        kind: 'embedded',
        url: `https://127.0.0.1:${this.plane.registryPort}`,
        token: managementToken,
        ca: 'roots',
        spiffe: controlSpiffe('demo.mesh'),
      },
      control: { kind: 'local' },
      createdAt: '2026-01-01T00:00:00Z',
    }
    const file = { schema: 1, current: 'demo', contexts: { demo: context } }
    writeFileSync(join(this.folder, 'config.json'), JSON.stringify(file), { mode: 0o600 })
  }

  get registry(): Registry {
    return (this.#registry ??= connectRegistry({
      url: `https://127.0.0.1:${this.plane.registryPort}`,
      token: managementToken,
      ca: this.plane.authority.roots,
      spiffe: controlSpiffe('demo.mesh'),
      localAgent: null,
    }))
  }

  /** Registers services as the agent of a host does. */
  async host(host: string, address: string, ...flags: string[]): Promise<void> {
    const { services, problems } = declareServices({ flags })
    if (problems.length > 0) throw new Error(JSON.stringify(problems))
    for (const service of services.filter(listens)) {
      const registration = registrationOf(service, { mesh: 'demo', host, address, linkPort: 15008 })
      await this.registry.register(registration, { status: 'passing', output: '' })
      await claim(this.registry, 'demo', service.namespace, service.name)
    }
    await this.registry.setCheck(host, address, null, leaseCheckId, 'passing', '')
    await this.report({
      host,
      address,
      services: services.map(({ name, namespace }) => ({ name, namespace, status: 'passing' })),
    })
  }

  async report(changes: Partial<HostReport> & { readonly host: string }): Promise<void> {
    const report: HostReport = {
      schema: 1,
      address: '10.0.0.1',
      version: '0.1.0',
      bootId: 'b',
      snapshot: 'abcdef0123456789',
      proxy: 'ok',
      capture: 'ok',
      dns: 'ok',
      services: [],
      certificateNotAfter: Date.now() + 20 * 3_600_000,
      machine: null,
      problems: [],
      at: new Date().toISOString(),
      ...changes,
    }
    await this.registry.put(`${keys.reports('demo')}${changes.host}`, JSON.stringify(report))
  }

  run(args: readonly string[], options: Parameters<typeof run>[1] = {}): Promise<Ran> {
    return run(args, { ...options, env: { MESHCTL_CONFIG: this.folder, ...options.env } })
  }

  async close(): Promise<void> {
    this.#registry?.close()
    await this.plane.remove()
    rmSync(this.folder, { recursive: true, force: true })
  }
}
