// A network namespace with programs in it, for tests of real rules. Only as root.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { LocalHost } from '../../src/host/local.ts'

export const canUseNamespaces =
  process.getuid?.() === 0 &&
  spawnSync('ip', ['netns', 'list']).status === 0 &&
  spawnSync('ipset', ['--version']).status === 0

export class Namespace {
  readonly name: string
  readonly host: LocalHost
  #children: ChildProcess[] = []

  constructor(name: string) {
    this.name = name
    sh(`ip netns add ${name}`)
    sh(`ip -n ${name} link set lo up`)
    // Not `ip netns exec`: that hides the cgroup file systems.
    this.host = new LocalHost({ wrap: this.wrap })
  }

  get wrap(): string[] {
    return ['nsenter', `--net=/run/netns/${this.name}`]
  }

  /** Joins two namespaces by a cable. */
  static cable(a: Namespace, addressesA: string[], b: Namespace, addressesB: string[]): void {
    sh(`ip -n ${a.name} link add eth0 type veth peer name eth0 netns ${b.name}`)
    for (const [space, addresses] of [
      [a, addressesA],
      [b, addressesB],
    ] as const) {
      for (const address of addresses) {
        sh(`ip -n ${space.name} addr add ${address} dev eth0 ${address.includes(':') ? 'nodad' : ''}`)
      }
      sh(`ip -n ${space.name} link set eth0 up`)
    }
  }

  sh(command: string): string {
    return sh([...this.wrap, 'sh', '-c', `'${command.replaceAll("'", `'\\''`)}'`].join(' '))
  }

  /** A TCP server on each port that says `<port> ` at once and echoes; returns when all listen. */
  async serve(ports: number[]): Promise<void> {
    const code = `
      const net = require('node:net'); let left = ${ports.length}
      for (const port of ${JSON.stringify(ports)}) net.createServer((s) => {
        s.on('error', () => {}); s.write(port + ' '); s.pipe(s)
      }).listen(port, '::', () => { if (--left === 0) console.log('up') })`
    const child = this.start(['-e', code])
    await once(child.stdout as NodeJS.EventEmitter, 'data')
  }

  /** What the first bytes of a connection are, or the error's code. `before` runs in the shell first. */
  dial(address: string, port: number, before: string = 'true'): string {
    const code = `
      const s = require('node:net').connect(${port}, '${address}')
      s.setTimeout(2000, () => { console.log('silent'); s.destroy() })
      s.on('data', (d) => { console.log(String(d).trim()); s.destroy() }).on('error', (e) => console.log(e.code))`
    return this.sh(`${before}; exec ${process.execPath} -e '${code.replaceAll("'", `'\\''`)}'`).trim()
  }

  start(args: string[]): ChildProcess {
    const [program = '', ...rest] = [...this.wrap, process.execPath, ...args]
    const child = spawn(program, rest, { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#children.push(child)
    return child
  }

  close(): void {
    for (const child of this.#children) child.kill('SIGKILL')
    sh(`ip netns del ${this.name}`)
  }
}

export function sh(command: string): string {
  const result = spawnSync('sh', ['-c', command], { encoding: 'utf8' })
  if (result.status !== 0) throw new Error(`${command}: ${result.stderr}`)
  return result.stdout
}
