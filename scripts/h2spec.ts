// h2spec and h2specd, the conformance tests of HTTP/2 servers and clients, built once into .cache/h2spec/ by Go's module proxy. Versions and hashes
// stand in scripts/h2spec/; they are old enough for the Go of Debian 12.
import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ensure } from './setup.ts'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const cache = join(root, '.cache', 'h2spec')
const module = 'github.com/summerwind/h2spec'

/** Go where it is in use, where its own archive puts it, where Debian does. */
const places = ['go', '/usr/local/go/bin/go', '/usr/lib/go/bin/go', '/usr/bin/go']

/** Path of `h2spec` or `h2specd`; builds both on the first call, which takes about a minute. */
export function h2specBinary(name: 'h2spec' | 'h2specd'): string {
  const programs = join(cache, 'bin')
  if (existsSync(programs)) return join(programs, name)
  mkdirSync(cache, { recursive: true })
  const go = findGo() ?? installGo()
  const work = mkdtempSync(join(cache, 'build-'))
  try {
    for (const file of ['go.mod', 'go.sum'])
      copyFileSync(join(root, 'scripts', 'h2spec', file), join(work, file))
    const built = join(work, 'bin')
    mkdirSync(built)
    execFileSync(
      go,
      ['build', '-trimpath', '-o', `${built}/`, `${module}/cmd/h2spec`, `${module}/cmd/h2specd`],
      {
        cwd: work,
        stdio: ['ignore', 'ignore', 'inherit'],
        timeout: 600_000,
        env: { ...process.env, GOFLAGS: '', GOTOOLCHAIN: 'local', CGO_ENABLED: '0' },
      },
    )
    renameSync(built, programs)
    return join(programs, name)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

function findGo(): string | undefined {
  return places.find((place) => spawnSync(place, ['version'], { stdio: 'ignore' }).status === 0)
}

function installGo(): string {
  ensure('h2spec', (line) => console.error(line))
  const go = findGo()
  if (go === undefined) throw new Error('Debian installed golang-go, and there is no go')
  return go
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(h2specBinary('h2spec'))
