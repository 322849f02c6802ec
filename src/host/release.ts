// What is sent to a host: one release (bundles, templates, libatomic) and one Node runtime, each by the hash of its
// content, compressed once into a cache and sent only to hosts that lack it.
import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream, existsSync, globSync, readFileSync, statSync } from 'node:fs'
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { createGzip, gzipSync } from 'node:zlib'
import { MeshError } from '../errors.ts'
import { pathsUnder } from '../paths.ts'
import { quote, type Host } from './host.ts'
import { fileHash, must } from './local.ts'
import { pack } from './tar.ts'

export interface Payload {
  /** SHA-256 of the content, 32 hex digits of it; the folder's name on the host. */
  readonly hash: string
  /** Compressed file on this machine. */
  readonly file: string
  readonly bytes: number
}

export interface Release {
  readonly folder: string
  readonly version: string
  readonly release: Payload
  readonly runtime: Payload
}

const bundles = ['cli.js', 'agent.js', 'proxy.js', 'worker.js', 'control.js']
const paths = pathsUnder()

/** The release folder this command runs from: its own when bundled, dist/ in a checkout. */
export function releaseFolder(from: string = import.meta.dirname): string {
  for (const folder of [from, resolve(from, '../../dist')]) {
    if (bundles.every((name) => existsSync(join(folder, name)))) return folder
  }
  throw new MeshError('MSH0510', `no release beside ${from}`, { hint: 'npm run build' })
}

/** A file of templates/ in a release. */
export async function template(folder: string, name: string): Promise<string> {
  return await readFile(join(folder, 'templates', name), 'utf8').catch((error: unknown) => {
    throw new MeshError('MSH0510', `templates/${name} is missing in ${folder}`, { cause: error })
  })
}

/** Packs what a host of this architecture needs; what the cache holds is not packed again. */
export async function prepareRelease(
  folder: string,
  arch: string,
  cache: string = cacheFolder(),
): Promise<Release> {
  await mkdir(cache, { recursive: true, mode: 0o700 })
  const versionFile = join(folder, 'version')
  return {
    folder,
    version: existsSync(versionFile) ? readFileSync(versionFile, 'utf8').trim() : '',
    release: await packRelease(folder, arch, cache),
    runtime: await packRuntime(runtimeBinary(folder, arch), cache),
  }
}

/** Sends what the host lacks and unpacks it, checked by hash; true when something was sent. */
export async function sendRelease(
  host: Host,
  release: Release,
  progress?: (done: number, total: number) => void,
): Promise<boolean> {
  const { runtime, release: bundle } = release
  const there = await host.run(
    `[ -x ${paths.opt}/runtime/${runtime.hash}/node ] && echo runtime; [ -e ${paths.opt}/release/${bundle.hash}/cli.js ] && echo release; true`,
    { root: true },
  )
  const lacks = { runtime: !there.stdout.includes('runtime'), release: !there.stdout.includes('release') }
  const total = (lacks.runtime ? runtime.bytes : 0) + (lacks.release ? bundle.bytes : 0)
  let before = 0
  const send = async (payload: Payload, path: string): Promise<void> => {
    await host.upload(payload.file, path, {
      mode: 0o600,
      progress: (bytes) => progress?.(before + bytes, total),
    })
    before += payload.bytes
  }
  await must(host, `make ${paths.opt}`, `umask 022; mkdir -p ${paths.opt}/runtime ${paths.opt}/release`)
  if (lacks.runtime) {
    const folder = `${paths.opt}/runtime/${runtime.hash}`
    await send(runtime, `${folder}.gz`)
    // Unpacked beside and renamed: a folder that is there is whole.
    await must(
      host,
      'unpack the runtime',
      `set -e; umask 022; rm -rf ${folder}.new; mkdir ${folder}.new; gzip -dc ${folder}.gz > ${folder}.new/node; ` +
        `[ "$(sha256sum < ${folder}.new/node | cut -c1-32)" = ${runtime.hash} ]; chmod 0755 ${folder}.new/node; sync ${folder}.new/node; ` +
        `rm -f ${folder}.gz; mv -T ${folder}.new ${folder}`,
      { timeoutMs: 300_000 },
    )
  }
  const folder = `${paths.opt}/release/${bundle.hash}`
  if (lacks.release) {
    await send(bundle, `${folder}.tar.gz`)
    await must(
      host,
      'unpack the release',
      `set -e; umask 022; rm -rf ${folder}.new; mkdir ${folder}.new; tar -C ${folder}.new --no-same-owner -xzf ${folder}.tar.gz; ` +
        `rm -f ${folder}.tar.gz; mv -T ${folder}.new ${folder}`,
      { timeoutMs: 300_000 },
    )
  }
  await must(host, 'link the runtime', `ln -sfn ../../runtime/${runtime.hash}/node ${folder}/node`)
  const works = await host.run(`LD_LIBRARY_PATH=${folder} ${folder}/node --version`, {
    root: true,
    timeoutMs: 30_000,
  })
  if (works.status !== 0) {
    throw new MeshError(
      'MSH0507',
      `${host.label}: the runtime does not start: ${works.stderr.trim().split('\n')[0] ?? ''}`,
      {
        hint: 'the host needs glibc 2.28 or newer and libstdc++6 (apt-get install libstdc++6)',
      },
    )
  }
  return lacks.runtime || lacks.release
}

/** Makes a sent release the current one, in one step. */
export async function useRelease(host: Host, release: Release): Promise<void> {
  const target = `release/${release.release.hash}`
  await must(
    host,
    'switch the release',
    `ln -sfn ${target} ${paths.current}.new && mv -fT ${paths.current}.new ${paths.current}`,
  )
}

/** The release in use on a host by its hash; '' where there is none. */
export async function currentRelease(host: Host): Promise<string> {
  const link = await host.run(`readlink ${quote(paths.current)}`, { root: true })
  return link.stdout.trim().split('/').at(-1) ?? ''
}

/** Removes releases and runtimes that are neither in use nor the one before. */
export async function pruneReleases(host: Host, keep: readonly string[]): Promise<void> {
  const used = keep.filter((hash) => hash !== '').join('|') || 'none'
  await host.run(
    `cd ${paths.opt}/release && for one in *; do case "$one" in ${used}) ;; *) rm -rf "./$one" ;; esac; done; ` +
      `cd ${paths.opt}/runtime && for one in *; do ls -l ${paths.opt}/release/*/node | grep -q "runtime/$one/" || rm -rf "./$one"; done`,
    { root: true },
  )
}

function cacheFolder(): string {
  return join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'meshctl')
}

async function packRelease(folder: string, arch: string, cache: string): Promise<Payload> {
  const names = [...bundles, ...globSync('templates/*', { cwd: folder }).toSorted()]
  if (existsSync(join(folder, 'version'))) names.push('version')
  const contents = names.map((name) => ({
    name,
    mode: modeOf(name),
    content: readFileSync(join(folder, name)),
  }))
  const library = libraryFor(folder, arch)
  if (library !== null) contents.push({ name: 'libatomic.so.1', mode: 0o644, content: readFileSync(library) })
  const hash = createHash('sha256')
  for (const { name, mode, content } of contents) {
    hash.update(`${name}\0${mode}\0${content.length}\0`)
    hash.update(content)
  }
  const digest = hash.digest('hex').slice(0, 32)
  const file = join(cache, `release-${digest}.tar.gz`)
  if (!existsSync(file)) {
    const temporary = `${file}.${process.pid}`
    await writeFile(temporary, gzipSync(pack(contents), { level: 6 }), { mode: 0o600 })
    await rename(temporary, file)
  }
  return { hash: digest, file, bytes: (await stat(file)).size }
}

function modeOf(name: string): number {
  return /(\.sh|templates\/meshctl)$/.test(name) ? 0o755 : 0o644
}

/** Node for the host: this very one, or one laid beside the release, or npm's in a checkout. */
function runtimeBinary(folder: string, arch: string): string {
  const beside = [
    join(folder, `runtime/linux-${arch}/node`),
    join(folder, `../runtime/linux-${arch}/node`),
    resolve(folder, `../node_modules/node-linux-${arch}/bin/node`),
  ]
  if (process.platform === 'linux' && process.arch === arch) beside.unshift(process.execPath)
  const found = beside.find((path) => existsSync(path))
  if (found !== undefined) return found
  throw new MeshError('MSH0510', `there is no Node runtime for linux-${arch} beside ${folder}`, {
    hint: `npm install --no-save --force node-linux-${arch}@26`,
  })
}

/** libatomic.so.1 for the host's architecture, which small systems lack; null: the host must have its own. */
function libraryFor(folder: string, arch: string): string | null {
  const own = process.arch === arch ? [join(folder, 'libatomic.so.1')] : []
  return (
    [join(folder, `runtime/linux-${arch}/libatomic.so.1`), ...own].find((path) => existsSync(path)) ?? null
  )
}

/** Hashing and packing 120 MB takes seconds, so both are remembered by path, size and time. */
async function packRuntime(binary: string, cache: string): Promise<Payload> {
  const { size, mtimeMs } = statSync(binary)
  const key = createHash('sha256').update(`${binary}\0${size}\0${mtimeMs}`).digest('hex').slice(0, 16)
  const note = join(cache, `runtime-${key}`)
  let hash = existsSync(note) ? readFileSync(note, 'utf8').trim() : ''
  if (!/^[0-9a-f]{32}$/.test(hash)) {
    hash = (await fileHash(binary)).slice(0, 32)
    await writeFile(note, hash)
  }
  const file = join(cache, `runtime-${hash}.gz`)
  if (!existsSync(file)) {
    const temporary = `${file}.${process.pid}`
    try {
      await pipeline(
        createReadStream(binary),
        createGzip({ level: 6 }),
        createWriteStream(temporary, { mode: 0o600 }),
      )
      await rename(temporary, file)
    } finally {
      await rm(temporary, { force: true })
    }
  }
  return { hash, file, bytes: (await stat(file)).size }
}
