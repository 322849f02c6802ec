// Installs the Debian packages that the lab, the tests and the benchmark need, only those that are missing.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'

/** What each use needs: a package and a file that shows it is there. */
const wanted = {
  lab: [
    ['debootstrap', '/usr/sbin/debootstrap'],
    ['systemd-container', '/usr/bin/systemd-nspawn'],
    ['iproute2', '/usr/bin/ip', '/sbin/ip'],
    ['openssh-client', '/usr/bin/ssh'],
    ['tcpdump', '/usr/bin/tcpdump', '/usr/sbin/tcpdump'],
    ['curl', '/usr/bin/curl'],
  ],
  bench: [
    ['wrk', '/usr/bin/wrk'],
    // The backend; as a peer it is there then, too.
    ['nginx', '/usr/sbin/nginx'],
    ['iptables', '/usr/sbin/iptables'],
    ['iproute2', '/usr/bin/ip', '/sbin/ip'],
    ['curl', '/usr/bin/curl'],
  ],
  // Parts of the benchmark: each may be missing, the others are measured without it.
  grpc: [
    ['nghttp2-client', '/usr/bin/h2load'],
    ['nghttp2-server', '/usr/sbin/nghttpd'],
  ],
  nginx: [['libnginx-mod-stream', '/usr/lib/nginx/modules/ngx_stream_module.so']],
  haproxy: [['haproxy', '/usr/sbin/haproxy']],
  envoy: [['python3-pip', '/usr/bin/pip3', '/usr/local/bin/pip3']],
  // test/proxy/instructions.test.ts.
  instructions: [['valgrind', '/usr/bin/valgrind']],
  // scripts/h2spec.ts builds it.
  h2spec: [['golang-go', '/usr/bin/go']],
} as const satisfies Record<string, readonly (readonly [string, ...string[]])[]>

export type Purpose = keyof typeof wanted

/** The packages of a purpose that this machine lacks. */
export function missing(purpose: Purpose): string[] {
  return wanted[purpose]
    .filter(([, ...files]) => !files.some((file) => existsSync(file)))
    .map(([name]) => name)
}

/**
 * Makes the machine fit for a purpose; throws an error that says what to do when it cannot. Returns what was
 * installed.
 */
export function ensure(purpose: Purpose, say: (line: string) => void): string[] {
  const lacking = missing(purpose)
  if (lacking.length === 0) return []
  if (process.getuid?.() !== 0) {
    throw new Error(
      `these Debian packages are missing: ${lacking.join(' ')}\nrun: sudo apt-get install ${lacking.join(' ')}`,
    )
  }
  if (!existsSync('/usr/bin/apt-get')) {
    throw new Error(`this machine has no apt-get; install by hand: ${lacking.join(' ')}`)
  }
  say(`Installing Debian packages: ${lacking.join(' ')}`)
  // Debian images often come without package lists, and old lists name versions that are gone: refresh on failure.
  let done = install(lacking)
  if (done.status !== 0) {
    const update = apt(['update', '-q'])
    if (update.status !== 0) {
      throw new Error(`apt-get update failed; are the apt sources reachable?\n${tail(update.stderr)}`)
    }
    done = install(lacking)
  }
  const still = missing(purpose)
  if (done.status !== 0 || still.length > 0) {
    throw new Error(`could not install ${still.join(' ') || lacking.join(' ')}\n${tail(done.stderr)}`)
  }
  return lacking
}

/** The first Debian mirror and release of the machine's own apt sources: debootstrap's default may not be reachable. */
export function debianMirror(): { url: string; suite: string } {
  const found = sources().find(({ url }) => /\/debian\/?$/.test(url))
  return found ?? { url: 'http://deb.debian.org/debian', suite: 'bookworm' }
}

function sources(): { url: string; suite: string }[] {
  const found: { url: string; suite: string }[] = []
  const deb822 = '/etc/apt/sources.list.d/debian.sources'
  if (existsSync(deb822)) {
    for (const stanza of readFileSync(deb822, 'utf8').split(/\n\s*\n/)) {
      const url = /^URIs:\s*(\S+)/m.exec(stanza)?.[1]
      const suite = /^Suites:\s*(\S+)/m.exec(stanza)?.[1]
      if (url !== undefined && suite !== undefined) found.push({ url, suite })
    }
  }
  if (existsSync('/etc/apt/sources.list')) {
    for (const line of readFileSync('/etc/apt/sources.list', 'utf8').split('\n')) {
      const match = /^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)/.exec(line)
      if (match?.[1] !== undefined && match[2] !== undefined) found.push({ url: match[1], suite: match[2] })
    }
  }
  return found
}

function install(packages: readonly string[]): { status: number | null; stderr: string } {
  return apt(['install', '-q', '-y', '--no-install-recommends', ...packages])
}

function apt(args: readonly string[]): { status: number | null; stderr: string } {
  // Another apt may be at work; it ends.
  return spawnSync('apt-get', ['-o', 'DPkg::Lock::Timeout=120', ...args], {
    encoding: 'utf8',
    stdio: ['ignore', 'ignore', 'pipe'],
    env: {
      ...process.env,
      DEBIAN_FRONTEND: 'noninteractive',
      // Debian starts what it installs; the benchmark wants the programs, not the services on their default ports.
      ...(existsSync('/run/systemd/system') ? {} : { RUNLEVEL: '1' }),
    },
  })
}

function tail(text: string): string {
  return text.trim().split('\n').slice(-5).join('\n')
}

if (import.meta.main) {
  try {
    const asked = process.argv.slice(2) as Purpose[]
    for (const purpose of asked.length > 0 ? asked : (['lab'] as const)) {
      const installed = ensure(purpose, (line) => console.error(line))
      console.log(`${purpose}: ${installed.length === 0 ? 'all there' : `installed ${installed.join(' ')}`}`)
    }
  } catch (error) {
    console.error(error instanceof Error ? error.message : error)
    process.exitCode = 1
  }
}
