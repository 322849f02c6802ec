// One host of a lab: a Debian with its own PID 1, network and disk, run by systemd-nspawn. The disk is an overlay on
// the base image and outlives a pulled plug, as a real one does.
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  openSync,
  closeSync,
  readFileSync,
  readdirSync,
  rmSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { cable, hostAddress, type Network, networkUnit } from './network.ts'
import { must, type Ran, run, type RunSettings, sleep, until } from './shell.ts'

const root = resolve(import.meta.dirname, '../..')

/** The folders that hold cgroups: both hierarchies of a hybrid machine, or the one of a unified machine. */
const hierarchies = existsSync('/sys/fs/cgroup/cgroup.controllers')
  ? ['/sys/fs/cgroup']
  : ['/sys/fs/cgroup/unified', '/sys/fs/cgroup/systemd'].filter((folder) => existsSync(folder))

export interface MachineSpec {
  readonly name: string
  /** Whether systemd-resolved runs, or a plain /etc/resolv.conf names the resolver. Default resolved. */
  readonly resolver?: 'resolved' | 'plain'
}

export class Machine {
  readonly name: string
  readonly address: string
  readonly address6: string
  readonly disk: string
  readonly #dir: string
  readonly #spec: MachineSpec
  readonly #network: Network
  readonly #index: number
  readonly #id: string

  constructor(dir: string, network: Network, index: number, spec: MachineSpec) {
    this.name = spec.name
    this.#spec = spec
    this.#network = network
    this.#index = index
    this.#dir = join(dir, 'hosts', spec.name)
    this.disk = join(this.#dir, 'root')
    this.#id = `m${network.number}-${spec.name}`
    const { v4, v6 } = hostAddress(network, index)
    this.address = v4
    this.address6 = v6
  }

  /** Lays the disk: overlay, names, address, keys. `authorized` is the operator's public key. */
  async make(base: string, authorized: string, neighbours: readonly Machine[]): Promise<void> {
    for (const part of ['upper', 'work', 'root']) mkdirSync(join(this.#dir, part), { recursive: true })
    await this.#mount(base)
    const put = (path: string, text: string, mode = 0o644): void => {
      mkdirSync(dirname(join(this.disk, path)), { recursive: true })
      writeFileSync(join(this.disk, path), text, { mode })
    }
    put('/etc/hostname', `${this.name}\n`)
    put('/etc/machine-id', `${randomBytes(16).toString('hex')}\n`)
    const hosts = neighbours.map((host) => `${host.address} ${host.name}`).join('\n')
    put('/etc/hosts', `127.0.0.1 localhost\n::1 localhost\n${hosts}\n`)
    put('/etc/systemd/network/10-host0.network', networkUnit(this.#network, this.#index))
    put('/root/.ssh/authorized_keys', authorized, 0o600)
    mkdirSync(join(this.disk, 'home/deploy/.ssh'), { recursive: true })
    put('/home/deploy/.ssh/authorized_keys', authorized, 0o600)
    await must('chown', ['-R', '1000:1000', join(this.disk, 'home/deploy/.ssh')])
    if (this.#spec.resolver === 'plain') {
      rmSync(join(this.disk, 'etc/systemd/system/multi-user.target.wants/systemd-resolved.service'), {
        force: true,
      })
      rmSync(join(this.disk, 'etc/systemd/system/dbus-org.freedesktop.resolve1.service'), { force: true })
      rmSync(join(this.disk, 'etc/systemd/system/sysinit.target.wants/systemd-resolved.service'), {
        force: true,
      })
      rmSync(join(this.disk, 'etc/resolv.conf'), { force: true })
      put('/etc/resolv.conf', `nameserver ${this.#network.address}\n`)
    }
    const key = join(this.disk, 'etc/ssh/ssh_host_ed25519_key')
    await must('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', this.name, '-f', key])
  }

  /** The public SSH host key, `ssh-ed25519 AAAA…`. */
  get hostKey(): string {
    const text = readFileSync(join(this.disk, 'etc/ssh/ssh_host_ed25519_key.pub'), 'utf8')
    return text.trim().split(' ').slice(0, 2).join(' ')
  }

  get running(): boolean {
    return this.#leader() !== null
  }

  /** Boots and waits until sshd answers, systemd has started everything and the network is set up. */
  async boot(): Promise<void> {
    await this.plug()
    const cgroups = hierarchies.map((folder) => join(folder, `meshctl-lab-${this.#id}`))
    const nspawn = [
      'systemd-nspawn',
      '--quiet',
      `--directory=${this.disk}`,
      `--machine=${this.#id}`,
      `--hostname=${this.name}`,
      `--network-bridge=${this.#network.bridge}`,
      '--register=no',
      '--keep-unit',
      '--boot',
      '--console=read-only',
      '--resolv-conf=off',
      '--timezone=off',
      '--link-journal=no',
      `--bind-ro=${dirname(process.execPath)}:/lab/node`,
      `--bind-ro=${join(root, 'test/lab/app')}:/lab/app`,
      `--bind-ro=${dirname(join(this.#dir, '..'))}/lib:/lab/lib`,
    ]
    // Each host gets a cgroup of its own: in a shared one, systemd inside would take its neighbours' processes for its
    // own. Status 133 is nspawn's word for "the host asked to be rebooted".
    const script = `
cgroups='${cgroups.join(' ')}'
while :; do
  for cgroup in $cgroups; do
    [ ! -d "$cgroup" ] || find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null
    mkdir -p "$cgroup"
  done
  sh -c 'for cgroup in '"$cgroups"'; do echo $$ > "$cgroup/cgroup.procs"; done; exec "$@"' nspawn ${nspawn.map((word) => `'${word}'`).join(' ')}
  [ $? = 133 ] || exit
done`
    const log = openSync(join(this.#dir, 'console.log'), 'a')
    const child = spawn('sh', ['-c', script, `meshctl-lab-${this.#id}`], {
      detached: true,
      stdio: ['ignore', log, log],
    })
    closeSync(log)
    child.unref()
    writeFileSync(join(this.#dir, 'pid'), String(child.pid))
    await this.ready()
  }

  /** Waits until sshd answers, systemd is done with booting and the host has its addresses. */
  async ready(): Promise<void> {
    const state = await until(
      `${this.name} to boot (see ${this.#dir}/console.log)`,
      async () => {
        if (this.#supervisor() === null) return 'stopped'
        if (this.#leader() === null) return false
        const asked = await this.enter(
          'systemctl is-system-running; ss -Hltn sport = :22; ip -o addr show dev host0',
          { timeoutMs: 5000 },
        )
        const isUp =
          /^(running|degraded)\n/.test(asked.stdout) &&
          asked.stdout.includes(':22') &&
          asked.stdout.includes(` ${this.address}/`) &&
          !asked.stdout.includes('tentative')
        return isUp ? 'up' : false
      },
      { timeoutMs: 120_000 },
    )
    if (state === 'up') return
    const said = readFileSync(join(this.#dir, 'console.log'), 'utf8').trim().split('\n').slice(-5).join('\n')
    throw new Error(`${this.name} stopped while booting: ${said}`)
  }

  /** Runs a shell command in the host without the network, as root or another user: works while a host is cut off. */
  async enter(command: string, settings: RunSettings & { user?: string } = {}): Promise<Ran> {
    const leader = this.#leader()
    if (leader === null) return { status: -1, stdout: '', stderr: `${this.name} is not running` }
    const shell = [
      'env',
      '-i',
      'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      'HOME=/root',
      'LANG=C.UTF-8',
    ]
    const as = settings.user === undefined ? [] : ['runuser', '-u', settings.user, '--']
    return await run('nsenter', ['-t', String(leader), '-a', ...shell, ...as, 'sh', '-c', command], settings)
  }

  /** Cuts the host off behind its switch: its own link stays up, so its addresses and routes stay too. */
  async cut(): Promise<void> {
    await must('ip', ['link', 'set', cable(this.#mustLead()), 'nomaster'])
  }

  async heal(): Promise<void> {
    await must('ip', ['link', 'set', cable(this.#mustLead()), 'master', this.#network.bridge])
  }

  /** Pulls the power plug: every process ends at once, nothing is written any more. */
  async plug(): Promise<void> {
    const supervisor = this.#supervisor()
    if (supervisor !== null) kill(supervisor)
    for (const folder of hierarchies) {
      const cgroup = join(folder, `meshctl-lab-${this.#id}`)
      if (existsSync(join(cgroup, 'cgroup.kill'))) writeFileSync(join(cgroup, 'cgroup.kill'), '1')
    }
    for (const pid of this.#processes()) kill(pid)
    await until(`${this.name} to be gone`, () => this.#processes().length === 0, {
      timeoutMs: 15_000,
      everyMs: 20,
    })
    for (const folder of hierarchies) await removeCgroup(join(folder, `meshctl-lab-${this.#id}`))
    // The kernel takes its time with a dead host's network; its cable would be in the way of the next one of this name.
    const cableName = `vb-${this.#id}`
    if (existsSync(`/sys/class/net/${cableName}`)) await run('ip', ['link', 'del', cableName])
  }

  async reboot(): Promise<void> {
    const before = this.#mustLead()
    await this.enter('systemctl reboot')
    await until(`${this.name} to go down`, () => this.#leader() !== before, {
      timeoutMs: 60_000,
      everyMs: 50,
    })
    await this.ready()
  }

  /** Removes everything of this host from the machine. */
  async destroy(): Promise<void> {
    await this.plug()
    for (const path of mountsUnder(this.#dir)) await run('umount', ['-l', path])
    for (const kind of ['propagate', 'unix-export']) {
      rmSync(`/run/systemd/nspawn/${kind}/${this.#id}`, { recursive: true, force: true })
    }
    rmSync(this.#dir, { recursive: true, force: true })
  }

  async #mount(base: string): Promise<void> {
    const part = (name: string): string => join(this.#dir, name)
    const overlay = (): Promise<Ran> => {
      const options = `lowerdir=${base},upperdir=${part('upper')},workdir=${part('work')}`
      return run('mount', ['-t', 'overlay', 'overlay', '-o', options, part('root')])
    }
    const done = await overlay()
    if (done.status === 0) return
    // A disk that is itself an overlay (a container) cannot carry another's upper layer: memory can.
    await must('mount', ['-t', 'tmpfs', '-o', 'size=3g', 'tmpfs', this.#dir])
    for (const name of ['upper', 'work', 'root']) mkdirSync(part(name), { recursive: true })
    const again = await overlay()
    if (again.status !== 0) throw new Error(`could not mount the disk of ${this.name}: ${again.stderr}`)
  }

  #supervisor(): number | null {
    const file = join(this.#dir, 'pid')
    if (!existsSync(file)) return null
    const pid = Number(readFileSync(file, 'utf8'))
    return commandLine(pid).includes(`meshctl-lab-${this.#id}`) ? pid : null
  }

  /** The host's PID 1 as this machine sees it. */
  #leader(): number | null {
    const supervisor = this.#supervisor()
    if (supervisor === null) return null
    for (const nspawn of children(supervisor)) {
      if (!commandLine(nspawn).startsWith('systemd-nspawn')) continue
      for (const leader of children(nspawn)) {
        if (/systemd|init/.test(commandLine(leader)) && !commandLine(leader).startsWith('systemd-nspawn'))
          return leader
      }
    }
    return null
  }

  #mustLead(): number {
    const leader = this.#leader()
    if (leader === null) throw new Error(`${this.name} is not running`)
    return leader
  }

  /** Every process of the host, by its cgroup. */
  #processes(): number[] {
    const found: number[] = []
    for (const folder of hierarchies) {
      const cgroup = join(folder, `meshctl-lab-${this.#id}`)
      if (!existsSync(cgroup)) continue
      for (const entry of readdirSync(cgroup, { recursive: true })) {
        if (!String(entry).endsWith('cgroup.procs')) continue
        try {
          found.push(
            ...readFileSync(join(cgroup, String(entry)), 'utf8')
              .split('\n')
              .filter(Boolean)
              .map(Number),
          )
        } catch {
          // the cgroup went away meanwhile
        }
      }
    }
    return found.filter((pid) => pid > 0)
  }
}

/** Mount points at or below a folder, deepest first. */
export function mountsUnder(folder: string): string[] {
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((path) => path === folder || path.startsWith(`${folder}/`))
    .toReversed()
}

function children(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
      .trim()
      .split(' ')
      .filter(Boolean)
      .map(Number)
  } catch {
    return []
  }
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
  } catch {
    return ''
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // gone already
  }
}

async function removeCgroup(folder: string): Promise<void> {
  if (!existsSync(folder)) return
  for (let tries = 0; tries < 50; tries++) {
    const inside = readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name))
    try {
      for (const path of [...inside.toSorted((a, b) => b.length - a.length), folder]) rmdirSync(path)
      return
    } catch {
      await sleep(50) // the kernel needs a moment after the last process
    }
  }
}
