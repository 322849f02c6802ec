// Two hosts as network namespaces with a cable between them; everything of a benchmark runs inside, on fixed cores.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export type Side = 'client' | 'server'

/** The proxies under test have a core of their own; load and backend share the other. */
export const cores = { proxy: '0', load: '1' } as const

export const addresses: Record<Side, string> = { client: '10.232.0.1', server: '10.232.0.2' }

export class Place {
  readonly dir: string = mkdtempSync(join(tmpdir(), 'meshctl-bench-'))
  readonly #children: ChildProcess[] = []
  readonly #tag = process.pid.toString(36)

  constructor() {
    try {
      for (const side of ['client', 'server'] as const) {
        this.#ip('netns', 'add', this.namespace(side))
        this.#ip('-n', this.namespace(side), 'link', 'set', 'lo', 'up')
      }
      const [client, server] = [this.namespace('client'), this.namespace('server')]
      this.#ip('-n', client, 'link', 'add', 'cable', 'type', 'veth', 'peer', 'name', 'cable', 'netns', server)
      for (const side of ['client', 'server'] as const) {
        this.#ip('-n', this.namespace(side), 'addr', 'add', `${addresses[side]}/24`, 'dev', 'cable')
        this.#ip('-n', this.namespace(side), 'link', 'set', 'cable', 'up')
      }
      this.#ip('-n', client, 'route', 'add', 'default', 'via', addresses.server)
    } catch (error) {
      this.close()
      throw error
    }
  }

  namespace(side: Side): string {
    return `mesh-bench-${this.#tag}-${side}`
  }

  /** Runs to the end on a side; throws with what it said when it fails. */
  run(side: Side, core: string, command: string, ...args: string[]): string {
    const done = spawnSync(
      'ip',
      ['netns', 'exec', this.namespace(side), 'taskset', '-c', core, command, ...args],
      {
        encoding: 'utf8',
        env: clean(),
      },
    )
    if (done.status !== 0) throw new Error(`${command} ${args.join(' ')}: ${done.stderr}${done.stdout}`)
    return done.stdout
  }

  /** Starts a program that stays; returns its pid. Its output goes to `<name>.log` in the folder. */
  start(name: string, side: Side, core: string, command: string, ...args: string[]): number {
    const log = openSync(join(this.dir, `${name}.log`), 'a')
    const child = spawn(
      'ip',
      ['netns', 'exec', this.namespace(side), 'taskset', '-c', core, command, ...args],
      {
        stdio: ['ignore', log, log],
        env: clean(),
      },
    )
    this.#children.push(child)
    if (child.pid === undefined) throw new Error(`could not start ${command}`)
    return child.pid
  }

  file(name: string, content: string): string {
    const path = join(this.dir, name)
    mkdirSync(join(path, '..'), { recursive: true })
    writeFileSync(path, content, { mode: 0o600 })
    return path
  }

  /** Waits until a request on a side is answered with the wanted status. */
  async answers(name: string, side: Side, url: string, wanted: string = '200'): Promise<void> {
    const end = performance.now() + 20_000
    for (;;) {
      const done = spawnSync(
        'ip',
        [
          'netns',
          'exec',
          this.namespace(side),
          'curl',
          '-s',
          '-o',
          '/dev/null',
          '-m',
          '2',
          '-w',
          '%{http_code}',
          url,
        ],
        { encoding: 'utf8', env: clean() },
      )
      if (done.stdout === wanted) return
      if (performance.now() > end) {
        throw new Error(`${name} answered ${done.stdout} instead of ${wanted} on ${url}\n${this.#logs(name)}`)
      }
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }

  /** Ends what was started, removes namespaces and files. Safe to call twice. */
  close(): void {
    for (const child of this.#children)
      for (const pid of child.pid === undefined ? [] : tree(child.pid)) kill(pid)
    this.#children.length = 0
    for (const side of ['client', 'server'] as const) spawnSync('ip', ['netns', 'del', this.namespace(side)])
    rmSync(this.dir, { recursive: true, force: true })
  }

  #logs(name: string): string {
    return ['', '-client', '-server']
      .flatMap((part) => {
        try {
          return readFileSync(join(this.dir, `${name}${part}.log`), 'utf8')
            .trim()
            .split('\n')
            .slice(-10)
        } catch {
          return []
        }
      })
      .join('\n')
  }

  #ip(...args: string[]): void {
    const done = spawnSync('ip', args, { encoding: 'utf8' })
    if (done.status !== 0) throw new Error(`ip ${args.join(' ')}: ${done.stderr.trim()}`)
  }
}

/** A process and all below it. `ip netns exec` and taskset replace themselves by the program. */
export function tree(pid: number): number[] {
  const below = (parent: number): number[] => {
    try {
      return readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8')
        .trim()
        .split(' ')
        .filter(Boolean)
        .map(Number)
    } catch {
      return []
    }
  }
  return [pid, ...below(pid).flatMap(tree)]
}

function clean(): NodeJS.ProcessEnv {
  return {
    PATH: process.env['PATH'],
    HOME: '/root',
    LD_LIBRARY_PATH: process.env['LD_LIBRARY_PATH'],
    MESHCTL_LOG: 'error',
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // ended meanwhile
  }
}
