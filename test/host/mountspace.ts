// A mount namespace with folders of its own, for tests that change /etc for real. Only as root.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { LocalHost } from '../../src/host/local.ts'

export const canUseMounts = process.getuid?.() === 0 && spawnSync('unshare', ['--mount', 'true']).status === 0

export class MountSpace {
  readonly host: LocalHost
  readonly #holder: ChildProcess

  private constructor(holder: ChildProcess) {
    this.#holder = holder
    this.host = new LocalHost({ wrap: ['nsenter', `--mount=/proc/${holder.pid}/ns/mnt`] })
  }

  /** `folders` are empty memory in it; `setup` runs there before anything else. */
  static async make(folders: readonly string[], setup: string): Promise<MountSpace> {
    const mounts = folders.map((folder) => `mount -t tmpfs tmpfs ${folder}`).join(' && ')
    const script = `mount --make-rprivate / && ${mounts} && { ${setup}; } && echo up && exec sleep 300`
    const holder = spawn('unshare', ['--mount', 'sh', '-c', script], { stdio: ['ignore', 'pipe', 'inherit'] })
    await once(holder.stdout, 'data')
    return new MountSpace(holder)
  }

  async sh(command: string): Promise<string> {
    const result = await this.host.run(command)
    if (result.status !== 0) throw new Error(`${command}: ${result.stderr}`)
    return result.stdout
  }

  close(): void {
    this.#holder.kill('SIGKILL')
  }
}
