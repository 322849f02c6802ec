// `npm run build`: one ES module per program in dist/, with the unit templates and the library the runtime needs.
// Does nothing when dist/ already stands for the same sources.
import { createHash } from 'node:crypto'
import {
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { build as bundle, type Plugin } from 'esbuild'
import { withConstants } from './constants.ts'
import { type Arch, atomicLibrary, runtimeBinary } from './runtime.ts'

const root = resolve(import.meta.dirname, '..')
/** Bundle → what it begins with. */
const programs = {
  cli: 'cli/main.ts',
  agent: 'agent/main.ts',
  proxy: 'proxy/main.ts',
  worker: 'proxy/worker.ts',
  control: 'control/main.ts',
} as const

/** Runs the same code millions of times; the others run theirs once. */
const hot = 'worker'

export interface Built {
  readonly dir: string
  /** False when dist/ was up to date. */
  readonly fresh: boolean
  readonly files: readonly { name: string; bytes: number }[]
}

/** Builds into `out` (default dist/) when the sources changed since; throws with esbuild's own messages. */
export async function build(out: string = join(root, 'dist')): Promise<Built> {
  const stamp = sourceHash()
  const stampFile = join(out, 'stamp')
  if (existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp)
    return { dir: out, fresh: false, files: sizes(out) }

  // Built beside and swapped in whole: a failed or interrupted build leaves the last good one.
  const next = join(root, '.cache', `dist-${process.pid}`)
  rmSync(next, { recursive: true, force: true })
  mkdirSync(next, { recursive: true })
  try {
    await Promise.all(
      Object.entries(programs).map(([name, entry]) =>
        bundleTo(join(next, `${name}.js`), join(root, 'src', entry), name === hot),
      ),
    )
    cpSync(join(root, 'templates'), join(next, 'templates'), { recursive: true })
    cpSync(atomicLibrary(), join(next, 'libatomic.so.1'), { dereference: true })
    writeFileSync(join(next, 'version'), `${version()}\n`)
    writeFileSync(join(next, 'stamp'), stamp)
    rmSync(out, { recursive: true, force: true })
    renameSync(next, out)
  } finally {
    rmSync(next, { recursive: true, force: true })
  }
  return { dir: out, fresh: true, files: sizes(out) }
}

/** What install.sh installs: dist/ and a runtime in one folder. Returns the folder. */
export async function release(arch: Arch): Promise<string> {
  const { dir } = await build()
  const folder = join(root, '.cache', `release-${arch}`)
  rmSync(folder, { recursive: true, force: true })
  cpSync(dir, folder, { recursive: true })
  rmSync(join(folder, 'stamp'))
  cpSync(runtimeBinary(arch), join(folder, 'node'))
  cpSync(atomicLibrary(arch), join(folder, 'libatomic.so.1'))
  return folder
}

export function version(): string {
  return (JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }).version
}

/** Writes one program as one file, as those that are installed are written. `isHot`: it runs the same code over and over. */
export async function bundleTo(outfile: string, entry: string, isHot: boolean): Promise<void> {
  const { outputFiles } = await bundle({
    absWorkingDir: root,
    entryPoints: [entry],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node26',
    legalComments: 'none',
    write: false,
    logLevel: 'silent',
    plugins: [withoutNativeAddons],
    // CommonJS packages in the bundle call require() for Node's own modules and ask where they lie.
    banner: {
      js: [
        "import { createRequire as __createRequire } from 'node:module'",
        'const require = __createRequire(import.meta.url)',
        'const { dirname: __dirname, filename: __filename } = import.meta',
      ].join('\n'),
    },
  })
  for (const { path, text } of outputFiles) {
    const code = isHot ? withConstants(path, text) : text
    writeFileSync(path, code.replaceAll(beyondAscii, escaped))
  }
}

/** In comments and patterns only, where an escape says the same; every process would keep its source at two bytes a character for them. */
const beyondAscii = /[^\n -~\t]/g

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
}

/**
 * ssh2 speeds itself up with native addons where they load and goes on in JavaScript where not. They are built for one
 * Node and one machine, so bundles go without: the require stays and fails at run time, inside ssh2's own try.
 */
const withoutNativeAddons: Plugin = {
  name: 'without-native-addons',
  setup(builder) {
    builder.onResolve({ filter: /\.node$|^cpu-features$/ }, ({ path }) => ({ path, external: true }))
  },
}

function sourceHash(): string {
  const files = [
    ...globSync('src/**/*.ts', { cwd: root }),
    ...globSync('templates/**/*', { cwd: root }),
    'package.json',
    'package-lock.json',
    'scripts/build.ts',
    'scripts/constants.ts',
  ]
  const hash = createHash('sha256')
  for (const file of files.toSorted()) {
    const path = join(root, file)
    if (!statSync(path).isFile()) continue
    hash.update(`${file}\0`)
    hash.update(readFileSync(path))
  }
  return hash.digest('hex')
}

function sizes(dir: string): { name: string; bytes: number }[] {
  return Object.keys(programs).map((name) => ({
    name: `${name}.js`,
    bytes: statSync(join(dir, `${name}.js`)).size,
  }))
}

if (import.meta.main) {
  try {
    const began = performance.now()
    const built = await build()
    const listed = built.files.map(({ name, bytes }) => `${name} ${(bytes / 1024).toFixed(0)} KB`).join('  ')
    const how = built.fresh ? `built in ${Math.round(performance.now() - began)} ms` : 'up to date'
    const asked = process.argv.indexOf('--release')
    if (asked > 0) await release(process.argv[asked + 1] === 'arm64' ? 'arm64' : 'x64')
    console.log(`${dirname(join(built.dir, 'x')).slice(root.length + 1)}: ${how}  ${listed}`)
  } catch (error) {
    console.error(error instanceof Error ? error.message : error)
    process.exitCode = 1
  }
}
