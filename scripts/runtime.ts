// The Node runtime that is shipped: the binary of the npm package and the one library it needs that a small Debian
// does not have (libatomic.so.1; libstdc++ and libgcc_s are there with apt).
import { spawnSync } from 'node:child_process'
import { existsSync, globSync, mkdirSync, realpathSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')

export type Arch = 'x64' | 'arm64'

const triplets: Record<Arch, string> = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' }

export function machineArch(): Arch {
  if (process.arch === 'x64' || process.arch === 'arm64') return process.arch
  throw new Error(`no runtime for ${process.arch}; x64 and arm64 are supported`)
}

/** The runtime's binary; another architecture's is fetched from npm at the version of our own. */
export function runtimeBinary(arch: Arch = machineArch()): string {
  const path = join(root, 'node_modules', `node-linux-${arch}`, 'bin', 'node')
  if (existsSync(path)) return path
  const wanted = join(root, '.cache', `runtime-${arch}-${process.version}`)
  const fetched = join(wanted, 'node_modules', `node-linux-${arch}`, 'bin', 'node')
  if (existsSync(fetched)) return fetched
  mkdirSync(wanted, { recursive: true })
  writeFileSync(join(wanted, 'package.json'), '{ "private": true }\n')
  const name = `node-linux-${arch}@${process.version.slice(1)}`
  const args = [
    'install',
    '--force',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    '--no-save',
    '--loglevel=error',
    name,
  ]
  must('npm', args, wanted)
  if (!existsSync(fetched)) throw new Error(`npm did not bring ${name}`)
  return fetched
}

/** libatomic.so.1 for an architecture: this machine's own, or out of Debian's package for another. */
export function atomicLibrary(arch: Arch = machineArch()): string {
  if (arch !== machineArch()) return foreignAtomicLibrary(arch)
  // This process could not run without one, so there is one.
  const folders = [
    dirname(realpathSync(process.execPath)),
    ...(process.env['LD_LIBRARY_PATH'] ?? '').split(':').filter(Boolean),
    `/usr/lib/${triplets[arch]}`,
    `/lib/${triplets[arch]}`,
    '/usr/lib64',
    '/usr/lib',
  ]
  const found = folders.map((folder) => join(folder, 'libatomic.so.1')).find((path) => existsSync(path))
  if (found === undefined) throw new Error('libatomic.so.1 is missing; run: apt-get install libatomic1')
  return realpathSync(found)
}

/** apt downloads the other architecture's package into a folder of its own; the machine's apt is not changed. */
function foreignAtomicLibrary(arch: Arch): string {
  const folder = join(root, '.cache', `libatomic-${arch}`)
  const found = join(folder, 'root/usr/lib', triplets[arch], 'libatomic.so.1')
  if (existsSync(found)) return realpathSync(found)
  for (const part of ['lists/partial', 'cache/archives/partial', 'root'])
    mkdirSync(join(folder, part), { recursive: true })
  writeFileSync(join(folder, 'status'), '')
  const debian = arch === 'x64' ? 'amd64' : 'arm64'
  const options = [
    `APT::Architecture=${debian}`,
    `APT::Architectures=${debian}`,
    `Dir::State::lists=${join(folder, 'lists')}`,
    `Dir::State::status=${join(folder, 'status')}`,
    `Dir::Cache=${join(folder, 'cache')}`,
  ].flatMap((option) => ['-o', option])
  must('apt-get', ['-q', ...options, 'update'], folder)
  must('apt-get', ['-q', ...options, 'download', `libatomic1:${debian}`], folder)
  const deb = globSync('libatomic1_*.deb', { cwd: folder })[0]
  if (deb === undefined) throw new Error(`apt did not bring libatomic1 for ${debian}`)
  must('dpkg-deb', ['-x', deb, 'root'], folder)
  return realpathSync(found)
}

function must(command: string, args: readonly string[], cwd: string): void {
  const done = spawnSync(command, [...args], { cwd, encoding: 'utf8' })
  if (done.status === 0) return
  const said = (done.error?.message ?? done.stderr).trim().split('\n').slice(-4).join('\n')
  throw new Error(`${command} ${args.join(' ')} failed: ${said}`)
}
