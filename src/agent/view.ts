// What this host knows of the mesh, and its copy on disk: with the registry away the agent goes on, and boots, with it.
import { readFile, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import type { VirtualAddress } from '../compile/input.ts'
import type { MeshInstance } from '../model/instance.ts'
import { isRecord } from '../model/problem.ts'
import { storeFile } from '../pki/key.ts'

export interface View {
  /** Instances by the registry's service name. */
  readonly services: Readonly<Record<string, readonly MeshInstance[]>>
  /** Istio objects as they lie in the registry. */
  readonly resources: readonly unknown[]
  readonly vips: readonly VirtualAddress[]
  /** Keys under the config prefix that could not be read. */
  readonly unreadable: readonly string[]
}

export interface SavedView {
  readonly view: View
  /** When the registry last said that this is how things are, ms since the epoch. */
  readonly confirmedAt: number
}

export const emptyView: View = { services: {}, resources: [], vips: [], unreadable: [] }

const schema = 1

export function instancesOf(view: View): readonly MeshInstance[] {
  return Object.values(view.services).flat()
}

/** The view on disk; the time at which it was last known to be true is the file's own. */
export class ViewFile {
  readonly #path: string
  #saved = ''

  constructor(folder: string) {
    this.#path = join(folder, 'view.json')
  }

  /** Null where there is none, or none that this release can read. */
  async load(): Promise<SavedView | null> {
    try {
      const text = await readFile(this.#path, 'utf8')
      const read: unknown = JSON.parse(text)
      if (!isRecord(read) || read['schema'] !== schema || !isView(read['view'])) return null
      this.#saved = text
      return { view: read['view'], confirmedAt: (await stat(this.#path)).mtimeMs }
    } catch {
      // Absent or cut short: the registry will tell anew.
      return null
    }
  }

  async save(view: View): Promise<void> {
    const text = JSON.stringify({ schema, view })
    if (text === this.#saved) return await this.confirm(Date.now())
    await storeFile(this.#path, text, 0o600)
    this.#saved = text
  }

  /** Notes that the view still holds. */
  async confirm(now: number): Promise<void> {
    if (this.#saved !== '') await utimes(this.#path, now / 1000, now / 1000)
  }
}

function isView(value: unknown): value is View {
  return (
    isRecord(value) &&
    isRecord(value['services']) &&
    Object.values(value['services']).every(Array.isArray) &&
    Array.isArray(value['resources']) &&
    Array.isArray(value['vips']) &&
    Array.isArray(value['unreadable'])
  )
}
