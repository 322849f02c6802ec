// A lab: a few real Debian hosts on a bridge of this machine, for tests, the demo and play. See README.md here.
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { atomicLibrary } from '../../scripts/runtime.ts'
import { ensure } from '../../scripts/setup.ts'
import { ensureBase } from './base.ts'
import { claim, release } from './claim.ts'
import { Machine, type MachineSpec, mountsUnder } from './machine.ts'
import { makeNetwork, type Network, networkOf, removeNetwork } from './network.ts'
import { must, type Ran, run, type RunSettings } from './shell.ts'

const home = process.env['MESHCTL_LAB_HOME'] ?? '/var/lib/meshctl-lab'

export interface LabOptions {
  /** The lab's name on this machine; `test-<pid>` and the like. */
  readonly name: string
  readonly hosts: readonly (string | MachineSpec)[]
  /** Outlives the process that made it (`lab.ts up`, `demo --keep`). */
  readonly keep?: boolean
  readonly say?: (line: string) => void
}

interface Saved {
  readonly name: string
  readonly network: number
  /** The process the lab belongs to; 0: nobody, it stays until it is taken down. */
  readonly owner: number
  readonly hosts: readonly MachineSpec[]
}

export class Lab {
  readonly name: string
  /** Everything of this lab lies here; tests may put files of their own below `work`. */
  readonly dir: string
  readonly network: Network
  readonly hosts: ReadonlyMap<string, Machine>
  /** The operator's private key and the hosts' public ones, in OpenSSH's forms. */
  readonly key: string
  readonly knownHosts: string

  private constructor(saved: Saved) {
    this.name = saved.name
    this.dir = join(home, saved.name)
    this.network = networkOf(saved.network)
    this.hosts = new Map(
      saved.hosts.map((spec, index) => [spec.name, new Machine(this.dir, this.network, index, spec)]),
    )
    this.key = join(this.dir, 'id_ed25519')
    this.knownHosts = join(this.dir, 'known_hosts')
  }

  /** Makes and boots a lab; what an earlier, crashed run of the same name left is removed first. */
  static async up(options: LabOptions): Promise<Lab> {
    const say = options.say ?? (() => {})
    Lab.claim(options.name)
    ensure('lab', say)
    const base = await ensureBase(say)
    await Lab.clean((saved) => saved.name === options.name || !alive(saved))
    if (existsSync(join(home, options.name))) throw new Error(`a lab named ${options.name} is in use`)
    const network = await makeNetwork()
    const saved: Saved = {
      name: options.name,
      network: network.number,
      owner: options.keep === true ? 0 : process.pid,
      hosts: options.hosts.map((host) => (typeof host === 'string' ? { name: host } : host)),
    }
    mkdirSync(join(home, options.name, 'work'), { recursive: true })
    writeFileSync(join(home, options.name, 'lab.json'), JSON.stringify(saved))
    const lab = new Lab(saved)
    try {
      await must('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'operator@lab', '-f', lab.key])
      const authorized = readFileSync(`${lab.key}.pub`, 'utf8')
      mkdirSync(join(lab.dir, 'lib'))
      copyFileSync(atomicLibrary(), join(lab.dir, 'lib/libatomic.so.1'))
      const machines = [...lab.hosts.values()]
      await Promise.all(machines.map((host) => host.make(base, authorized, machines)))
      const known = machines.map((host) => `${host.name},${host.address},${host.address6} ${host.hostKey}\n`)
      writeFileSync(lab.knownHosts, known.join(''))
      await Promise.all(machines.map((host) => host.boot()))
      return lab
    } catch (error) {
      await lab.destroy()
      throw error
    }
  }

  /** Takes a lab's name for this process, before there is a lab. Throws where another process works on it. */
  static claim(name: string): void {
    claim(home, name)
  }

  /** A lab that is up already. */
  static attach(name: string): Lab {
    const saved = read(name)
    if (saved === null) throw new Error(`no lab named ${name} is up`)
    return new Lab(saved)
  }

  static names(): string[] {
    return existsSync(home) ? readdirSync(home).filter((name) => read(name) !== null) : []
  }

  /** Destroys labs: by default those whose owner is dead. */
  static async clean(
    which: (saved: { name: string; owner: number }) => boolean = (saved) => !alive(saved),
  ): Promise<string[]> {
    const removed: string[] = []
    for (const name of Lab.names()) {
      const saved = read(name)
      if (saved === null || !which(saved)) continue
      if (saved.owner !== process.pid && saved.owner !== 0 && alive(saved)) {
        throw new Error(`the lab ${name} belongs to the running process ${saved.owner}`)
      }
      await new Lab(saved).destroy()
      removed.push(name)
    }
    return removed
  }

  host(name: string): Machine {
    const host = this.hosts.get(name)
    if (host === undefined) throw new Error(`the lab has no host ${name}`)
    return host
  }

  /** Arguments of ssh(1) for a host of this lab. */
  sshArgs(name: string, user: string = 'root'): string[] {
    const options = [
      '-i',
      this.key,
      '-o',
      `UserKnownHostsFile=${this.knownHosts}`,
      '-o',
      'StrictHostKeyChecking=yes',
    ]
    const quiet = [
      '-F',
      '/dev/null',
      '-o',
      'BatchMode=yes',
      '-o',
      'ConnectTimeout=5',
      '-o',
      'IdentitiesOnly=yes',
    ]
    return [...quiet, ...options, `${user}@${this.host(name).address}`]
  }

  /** Runs a shell command on a host over SSH. */
  async exec(name: string, command: string, settings: RunSettings & { user?: string } = {}): Promise<Ran> {
    return await run('ssh', [...this.sshArgs(name, settings.user), command], settings)
  }

  /** The same without the network; works while the host is cut off. */
  async enter(name: string, command: string, settings: RunSettings & { user?: string } = {}): Promise<Ran> {
    return await this.host(name).enter(command, settings)
  }

  /** `enter` that throws when the command fails; returns its standard output. */
  async do(name: string, command: string, settings: RunSettings & { user?: string } = {}): Promise<string> {
    const done = await this.enter(name, command, settings)
    if (done.status !== 0) {
      throw new Error(
        `on ${name}: ${command}\nended with status ${done.status}: ${done.stderr}${done.stdout}`,
      )
    }
    return done.stdout
  }

  async cut(name: string): Promise<void> {
    await this.host(name).cut()
  }

  async heal(name: string): Promise<void> {
    await this.host(name).heal()
  }

  async plug(name: string): Promise<void> {
    await this.host(name).plug()
  }

  async boot(name: string): Promise<void> {
    await this.host(name).boot()
  }

  async reboot(name: string): Promise<void> {
    await this.host(name).reboot()
  }

  /**
   * Removes hosts, mounts, bridge and files; works on what is left of a half-made lab too. Throws where another process works
   * on this lab.
   */
  async destroy(): Promise<void> {
    Lab.claim(this.name)
    for (const host of this.hosts.values()) await host.destroy()
    await removeNetwork(this.network)
    for (const path of mountsUnder(this.dir)) await run('umount', ['-l', path])
    rmSync(this.dir, { recursive: true, force: true })
    release(home, this.name)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.destroy()
  }
}

function read(name: string): Saved | null {
  try {
    return JSON.parse(readFileSync(join(home, name, 'lab.json'), 'utf8')) as Saved
  } catch {
    return null
  }
}

/** A kept lab counts as alive. */
function alive(saved: { owner: number }): boolean {
  return saved.owner === 0 || existsSync(`/proc/${saved.owner}`)
}
