// Files named on the command line: a file, every YAML or JSON file of a folder, or - for standard input.
import { readFile, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { MeshError } from '../errors.ts'

export interface SourceText {
  readonly source: string
  readonly text: string
}

/** Far above any hand-written file; a wrong path (a disk image) is no reason to run out of memory. */
const maxBytes = 8 * 1024 * 1024

/** In the order given; files of a folder by name, folders inside it too. Throws MSH0101 naming the path. */
export async function readFiles(paths: readonly string[]): Promise<SourceText[]> {
  const found: SourceText[] = []
  for (const path of paths) {
    if (path === '-') found.push({ source: 'stdin', text: await readStdin() })
    else found.push(...(await readPath(path)))
  }
  return found
}

async function readPath(path: string): Promise<SourceText[]> {
  try {
    const about = await stat(path)
    if (!about.isDirectory()) {
      if (about.size > maxBytes) throw new MeshError('MSH0101', `${path} is larger than 8 MiB`)
      return [{ source: path, text: await readFile(path, 'utf8') }]
    }
    const names = (await readdir(path, { recursive: true })).filter((name) => /\.(ya?ml|json)$/.test(name))
    if (names.length === 0) throw new MeshError('MSH0101', `${path} holds no .yaml or .json file`)
    return (await Promise.all(names.toSorted().map((name) => readPath(join(path, name))))).flat()
  } catch (error) {
    if (error instanceof MeshError) throw error
    throw new MeshError('MSH0101', `${path} cannot be read`, { cause: error })
  }
}

async function readStdin(): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of process.stdin) {
    const bytes = Buffer.from(chunk as Uint8Array)
    size += bytes.length
    if (size > maxBytes) throw new MeshError('MSH0101', 'standard input is larger than 8 MiB')
    chunks.push(bytes)
  }
  return Buffer.concat(chunks).toString('utf8')
}
