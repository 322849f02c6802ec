// `meshctl apply -f FILE|DIR|-`
import type { Command } from 'commander'
import { MeshError } from '../../errors.ts'
import { printProblem, refuse } from '../../model/problem.ts'
import { printYamlDocuments } from '../../model/text.ts'
import { collect, examples, subcommand, type Cli } from '../cli.ts'
import { readFiles } from '../files.ts'
import { commit, planChanges, printStates, readShelf, showDiff } from '../objects.ts'
import { outputOption, printData, type Format } from '../output.ts'
import { withSession } from '../session.ts'

interface Flags {
  readonly file?: string[]
  readonly namespace: string
  readonly dryRun: boolean
  readonly output: Format
}

export function register(program: Command, cli: Cli): void {
  const command = subcommand(program, 'apply').summary("write Istio's objects from files")
  command.description(
    "Writes Istio's objects (VirtualService, DestinationRule) from YAML or JSON.\nAll are checked first; when one is bad, all problems are told and nothing is\nwritten. Fields that are not honoured yet are refused by name.",
  )
  command
    .option('-f, --file <file>', 'a file, a folder or - for standard input', collect)
    .option('-n, --namespace <name>', 'for objects that name none', 'default')
    .option('--dry-run', 'check and show the difference, write nothing', false)
  outputOption(command, ['table', 'json', 'yaml', 'name'])
  examples(command, [
    'meshctl apply -f routes.yaml',
    'meshctl apply -f mesh/ --dry-run',
    'cat vs.yaml | meshctl apply -f -',
  ])
  command.action(async (flags: Flags) => {
    if (flags.file === undefined) throw new MeshError('MSH0101', 'nothing to apply', { hint: 'add -f FILE' })
    const files = await readFiles(flags.file)
    const { checkTexts } = await import('../../model/istio.ts')
    // Offline first: bad files are told even when the registry is away.
    refuse(checkTexts(files, { namespace: flags.namespace }).problems)
    await withSession(cli, async ({ registry, mesh }) => {
      const { terminal } = cli
      const shelf = await readShelf(registry, mesh, terminal)
      const checked = checkTexts(files, { namespace: flags.namespace, known: shelf.resources })
      refuse(checked.problems)
      for (const problem of checked.problems) terminal.say(printProblem(problem))
      if (checked.resources.length === 0) throw new MeshError('MSH0201', 'the files hold no object')
      const planned = planChanges(shelf, checked.resources, [])
      showDiff(terminal, planned)
      if (!flags.dryRun) await commit(registry, mesh, planned)
      if (flags.output === 'yaml') terminal.out(printYamlDocuments(checked.resources))
      else if (flags.output === 'json') {
        const items = planned.map(({ kind, namespace, name, state, after }) => ({
          kind,
          namespace,
          name,
          state,
          object: after,
        }))
        printData(terminal, 'json', 'ChangeList', { dryRun: flags.dryRun, items })
      } else printStates(terminal, planned, flags.dryRun)
    })
  })
}
