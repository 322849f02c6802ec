// Two hosts as network namespaces with a cable between them; everything of a benchmark runs inside, on fixed cores.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'

export type Side = 'client' | 'server'

/** The proxies under test have a core of their own; load and backend share the other. */
export const cores = { proxy: '0', load: '1' } as const

export const addresses: Record<Side, string> = { client: '10.232.0.1', server: '10.232.0.2' }

/** All of 10.233.0.0/16 is the server's too: a mesh of thousands of instances without thousands of hosts. */
export const instanceAddress = (index: number): string => `10.233.${index >> 8}.${index & 255}`

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
      this.#ip('-n', server, 'route', 'add', 'local', '10.233.0.0/16', 'dev', 'lo')
      // A connection per request for minutes must not run out of ports, nor the table of connections fill up.
      for (const side of ['client', 'server'] as const) {
        for (const [name, value] of [
          ['net/ipv4/ip_local_port_range', '20000 65000'],
          ['net/ipv4/tcp_tw_reuse', '1'],
          ['net/ipv4/tcp_max_syn_backlog', '8192'],
          ['net/core/somaxconn', '8192'],
          ['net/netfilter/nf_conntrack_tcp_timeout_time_wait', '1'],
        ] as const) {
          this.run(
            side,
            cores.load,
            'sh',
            '-c',
            `[ ! -e /proc/sys/${name} ] || echo ${value} > /proc/sys/${name}`,
          )
        }
      }
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
        timeout: 300_000,
      },
    )
    if (done.status !== 0) {
      const said = `${done.stderr}${done.stdout}`.trim().split('\n').slice(-5).join('\n')
      const what = basename(args.find((arg) => arg.endsWith('.ts')) ?? command)
      throw new Error(`${what}: ${said || (done.signal ?? done.error?.message ?? `status ${done.status}`)}`)
    }
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

  file(name: string, content: string | Uint8Array): string {
    const path = join(this.dir, name)
    mkdirSync(join(path, '..'), { recursive: true })
    writeFileSync(path, content, { mode: 0o600 })
    return path
  }

  /** Repeats a check that throws until it does not; after 10 s throws what it said last, with the logs of `name`. */
  async until(name: string, check: () => void): Promise<void> {
    const end = performance.now() + 10_000
    for (;;) {
      try {
        return check()
      } catch (error) {
        if (performance.now() > end) {
          throw new Error(
            `${error instanceof Error ? error.message : String(error)}\n${this.#logs(name)}`.trim(),
            {
              cause: error,
            },
          )
        }
      }
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }

  /** What a program of ours has said so far. */
  log(name: string): string {
    return readFileSync(join(this.dir, `${name}.log`), 'utf8')
  }

  /** Ends programs that `start` started, with all below them. */
  end(pids: readonly number[]): void {
    for (const pid of pids.flatMap(tree)) kill(pid)
  }

  /** Ends what was started, removes namespaces and files. Safe to call twice. */
  close(): void {
    this.end(
      this.#children.flatMap(({ pid, exitCode, signalCode }) => {
        return pid === undefined || exitCode !== null || signalCode !== null ? [] : [pid]
      }),
    )
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
