// The Node runtime that is shipped: the binary of the npm package and the one library it needs that a small Debian
// does not have (libatomic.so.1; libstdc++ and libgcc_s are there with apt).
import { existsSync, realpathSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')

export type Arch = 'x64' | 'arm64'

const triplets: Record<Arch, string> = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' }

export function machineArch(): Arch {
  if (process.arch === 'x64' || process.arch === 'arm64') return process.arch
  throw new Error(`no runtime for ${process.arch}; x64 and arm64 are supported`)
}

/** Where npm put the runtime's binary. */
export function runtimeBinary(arch: Arch = machineArch()): string {
  const path = join(root, 'node_modules', `node-linux-${arch}`, 'bin', 'node')
  if (!existsSync(path))
    throw new Error(`the runtime for ${arch} is missing; run: npm install --no-save node-linux-${arch}@26`)
  return path
}

/** libatomic.so.1 of this machine. This process could not run without one, so there is one. */
export function atomicLibrary(arch: Arch = machineArch()): string {
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
