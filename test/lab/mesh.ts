// A mesh on a lab, made by the real command as a user runs it, its config in a folder of the lab.
import { cpSync, existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Lab } from './lab.ts'
import { type Ran, run, type RunSettings } from './shell.ts'

const root = resolve(import.meta.dirname, '../..')

export class Mesh {
  readonly lab: Lab
  /** MESHCTL_CONFIG of the operator. */
  readonly config: string
  readonly #program: string

  /**
   * `program`: what is run; by default a copy of dist/ in the lab, so that a build in the middle of a test does not change
   * what hosts are compared with.
   */
  constructor(lab: Lab, program?: string) {
    this.lab = lab
    this.config = join(lab.dir, 'work/config')
    const copy = join(lab.dir, 'work/release')
    if (program === undefined && !existsSync(copy)) cpSync(join(root, 'dist'), copy, { recursive: true })
    this.#program = program ?? join(copy, 'cli.js')
  }

  get program(): string {
    return this.#program
  }

  /** Runs `meshctl …` as the operator. */
  async meshctl(args: readonly string[], settings: RunSettings = {}): Promise<Ran> {
    return await run(process.execPath, ['--disable-warning=ExperimentalWarning', this.#program, ...args], {
      timeoutMs: 240_000,
      ...settings,
      env: { MESHCTL_CONFIG: this.config, NO_COLOR: '1', ...settings.env },
    })
  }

  /** `meshctl …` that must succeed; returns its standard output. */
  async do(args: readonly string[], settings: RunSettings = {}): Promise<string> {
    const done = await this.meshctl(args, settings)
    if (done.status !== 0) {
      throw new Error(
        `meshctl ${args.join(' ')}\nended with status ${done.status}:\n${done.stderr}${done.stdout}`,
      )
    }
    return done.stdout
  }

  /** The flags by which meshctl reaches the lab's hosts. */
  get ssh(): string[] {
    return ['-i', this.lab.key, '--known-hosts', this.lab.knownHosts]
  }

  /** `root@10.231.1.12` */
  at(host: string, user: string = 'root'): string {
    return `${user}@${this.lab.host(host).address}`
  }

  async init(control: string, extra: readonly string[] = []): Promise<void> {
    await this.do([
      'init',
      'lab',
      '--control',
      this.at(control),
      ...this.ssh,
      '--no-passphrase',
      '--yes',
      ...extra,
    ])
  }

  /** `services` are --service declarations; none: the host only calls. */
  async join(host: string, services: readonly string[], extra: readonly string[] = []): Promise<Ran> {
    const declared = services.flatMap((service) => ['--service', service])
    return await this.meshctl([
      'join',
      this.at(host),
      '--name',
      host,
      ...this.ssh,
      ...declared,
      '--yes',
      ...extra,
    ])
  }

  async mustJoin(host: string, services: readonly string[], extra: readonly string[] = []): Promise<void> {
    const done = await this.join(host, services, extra)
    if (done.status !== 0)
      throw new Error(`join ${host} ended with status ${done.status}:\n${done.stderr}${done.stdout}`)
  }

  async leave(host: string, extra: readonly string[] = []): Promise<Ran> {
    return await this.meshctl(['leave', this.at(host), '--name', host, ...this.ssh, '--yes', ...extra])
  }
}
