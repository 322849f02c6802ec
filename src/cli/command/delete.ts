// `meshctl delete -f FILE…` and `meshctl delete KIND NAME`
import type { Command } from 'commander'
import { MeshError } from '../../errors.ts'
import { isRecord } from '../../model/problem.ts'
import { parseText } from '../../model/text.ts'
import { confirm } from '../ask.ts'
import { collect, examples, subcommand, type Cli } from '../cli.ts'
import { readFiles } from '../files.ts'
import {
  commit,
  planChanges,
  printId,
  printStates,
  readKind,
  readShelf,
  showDiff,
  type ObjectId,
} from '../objects.ts'
import { withSession } from '../session.ts'

interface Flags {
  readonly file?: string[]
  readonly namespace: string
  readonly dryRun: boolean
  readonly ignoreNotFound: boolean
  readonly yes: boolean
}

export function register(program: Command, cli: Cli): void {
  const command = subcommand(program, 'delete [kind] [name]').summary('delete objects')
  command.description('Deletes objects by kind and name, or those that files name.')
  command
    .option('-f, --file <file>', 'a file, a folder or - for standard input', collect)
    .option('-n, --namespace <name>', 'where the objects name none', 'default')
    .option('--dry-run', 'show the difference, delete nothing', false)
    .option('--ignore-not-found', 'what is not there is no failure', false)
    .option('-y, --yes', 'do not ask', false)
  examples(command, ['meshctl delete vs web', 'meshctl delete -f routes.yaml --yes'])
  command.action(async (kind: string | undefined, name: string | undefined, flags: Flags) => {
    const ids = await readIds(kind, name, flags)
    await withSession(cli, async ({ registry, mesh }) => {
      const shelf = await readShelf(registry, mesh, cli.terminal)
      const present = ids.filter((id) => shelf.index.has(printId(id)) || !flags.ignoreNotFound)
      const planned = planChanges(shelf, [], present)
      showDiff(cli.terminal, planned)
      if (planned.length === 0) return
      if (!flags.dryRun) {
        const what =
          planned.length === 1 ? printId(planned[0] ?? ids[0] ?? fail()) : `${planned.length} objects`
        if (!(await confirm(cli.terminal, flags.yes, `delete ${what}?`))) {
          throw new MeshError('MSH0102', 'aborted, no changes made')
        }
        await commit(registry, mesh, planned)
      }
      printStates(cli.terminal, planned, flags.dryRun)
    })
  })
}

function fail(): never {
  throw new MeshError('MSH0101', 'nothing to delete', { hint: 'name KIND NAME or -f FILE' })
}

async function readIds(
  kind: string | undefined,
  name: string | undefined,
  flags: Flags,
): Promise<ObjectId[]> {
  if (flags.file === undefined) {
    if (kind === undefined || name === undefined) fail()
    return [{ kind: readKind(kind), namespace: flags.namespace, name }]
  }
  if (kind !== undefined) throw new MeshError('MSH0101', 'either -f FILE or KIND NAME, not both')
  // Only names count here: an object that would no longer pass the checks can still be deleted.
  const ids: ObjectId[] = []
  for (const { source, text } of await readFiles(flags.file)) {
    for (const { value } of parseText(text, source).documents) {
      const metadata = isRecord(value) ? value['metadata'] : undefined
      const written = isRecord(value) ? value['kind'] : undefined
      const own = isRecord(metadata) ? metadata['name'] : undefined
      if (typeof written !== 'string' || typeof own !== 'string' || !isRecord(metadata)) {
        throw new MeshError('MSH0201', `${source}: an object has no kind or name`)
      }
      const namespace = metadata['namespace']
      ids.push({
        kind: readKind(written),
        namespace: typeof namespace === 'string' ? namespace : flags.namespace,
        name: own,
      })
    }
  }
  return ids
}
