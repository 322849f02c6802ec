// Where the other processes' programs are: bundles beside this one, or the sources in a checkout.
import { existsSync, realpathSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { MeshError } from '../errors.ts'

export const partNames = ['agent', 'proxy', 'control'] as const
export type PartName = (typeof partNames)[number]

export function partPath(part: PartName): string {
  const here = import.meta.dirname
  const source = join(here, '..', part, 'main.ts')
  const candidates = import.meta.filename.endsWith('.ts')
    ? [source]
    : [join(here, `${part}.js`), join(dirname(realpathSync(process.argv[1] ?? here)), `${part}.js`)]
  const found = candidates.find((path) => existsSync(path))
  if (found === undefined) {
    throw new MeshError('MSH0109', `the program of ${part} is not at ${candidates[0] ?? here}`, {
      hint: 'run ./install.sh again, or npm run build in a checkout',
    })
  }
  return found
}
