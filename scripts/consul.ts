// A real Consul agent for the contract tests: Debian 11's package `consul` (1.8.7), fetched with apt from a private
// sources list, so that the machine's own sources stay as they are. Nothing is installed: the package is unpacked into
// .cache/consul/.
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const cache = join(root, '.cache', 'consul')

/** The first mirror of the machine's own sources; the default host may not be reachable from here. */
function mirror(): string {
  const places = ['/etc/apt/sources.list.d/debian.sources', '/etc/apt/sources.list']
  for (const place of places) {
    if (!existsSync(place)) continue
    const text = readFileSync(place, 'utf8')
    const found = /^URIs:\s*(\S+)/m.exec(text) ?? /^deb\s+(?:\[[^\]]*\]\s+)?(\S+)/m.exec(text)
    if (found?.[1] !== undefined) return found[1]
  }
  throw new Error(`no Debian mirror found in ${places.join(' or ')}`)
}

/** Path of a `consul` program of version 1.8.x; downloads it once. */
export function consulBinary(): string {
  const binary = join(cache, 'consul')
  if (existsSync(binary)) return binary
  mkdirSync(cache, { recursive: true })
  const work = mkdtempSync(join(cache, 'fetch-'))
  try {
    for (const folder of ['lists/partial', 'archives/partial', 'parts', 'root']) {
      mkdirSync(join(work, folder), { recursive: true })
    }
    const list = join(work, 'bullseye.list')
    writeFileSync(
      list,
      `deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror()} bullseye main\n`,
    )
    const options = [
      `Dir::Etc::sourcelist=${list}`,
      `Dir::Etc::sourceparts=${join(work, 'parts')}`,
      `Dir::State::lists=${join(work, 'lists')}`,
      `Dir::Cache=${work}`,
      `Dir::Cache::archives=${join(work, 'archives')}`,
      'APT::Sandbox::User=root',
      'Acquire::Languages=none',
      // The suite is archived: its release file may be past its date, its signature is checked all the same.
      'Acquire::Check-Valid-Until=false',
    ].flatMap((option) => ['-o', option])
    execFileSync('apt-get', [...options, '-qq', 'update'], {
      stdio: ['ignore', 'ignore', 'inherit'],
      timeout: 180_000,
    })
    execFileSync('apt-get', [...options, '-qq', 'download', 'consul'], {
      cwd: work,
      stdio: ['ignore', 'ignore', 'inherit'],
      timeout: 180_000,
    })
    const deb = readdirSync(work).find((name) => name.startsWith('consul_') && name.endsWith('.deb'))
    if (deb === undefined) throw new Error('apt-get download brought no consul package')
    execFileSync('dpkg-deb', ['-x', join(work, deb), join(work, 'root')])
    const found = join(work, 'root', 'usr', 'bin', 'consul')
    const version = execFileSync(found, ['version'], { encoding: 'utf8' })
    if (!version.startsWith('Consul v1.8.') && !version.startsWith('Consul 1.8.')) {
      throw new Error(`unexpected Consul: ${version.split('\n')[0] ?? ''}`)
    }
    renameSync(found, binary)
    return binary
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(consulBinary())
