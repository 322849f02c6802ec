// `meshctl context list|use|show|remove`
import type { Command } from 'commander'
import { examples, subcommand, type Cli } from '../cli.ts'
import { outputOption, printList, type Format } from '../output.ts'
import { contextStore } from '../context.ts'

export function register(program: Command, cli: Cli): void {
  const parent = subcommand(program, 'context').summary('choose between meshes')
  parent.description(
    'The meshes that this machine knows. One is current; --context NAME chooses for one command.',
  )
  examples(parent, ['meshctl context list', 'meshctl context use staging'])

  outputOption(subcommand(parent, 'list').description('Lists the contexts.')).action(
    (flags: { output: Format }) => list(cli, flags.output),
  )
  subcommand(parent, 'use <name>')
    .description('Makes a context the current one.')
    .action(async (name: string) => {
      await contextStore(cli).use(name)
      cli.terminal.say(`context ${name} is current`)
    })
  subcommand(parent, 'show')
    .description('Prints the name of the current context.')
    .action(async () => {
      const { name } = await contextStore(cli).choose(cli.globals().context)
      cli.terminal.out(name)
    })
  subcommand(parent, 'remove <name>')
    .description('Forgets a context; its folder with keys stays and is named.')
    .action(async (name: string) => {
      const store = contextStore(cli)
      await store.remove(name)
      cli.terminal.say(`forgot ${name}; its keys stay in ${store.meshFolder(name)}`)
    })
}

async function list(cli: Cli, format: Format): Promise<void> {
  const file = await contextStore(cli).read()
  printList(cli.terminal, format, {
    kind: 'ContextList',
    rows: Object.entries(file.contexts).map(([name, context]) => ({
      name,
      context,
      current: name === file.current,
    })),
    columns: [
      { title: 'CURRENT', value: (row) => (row.current ? '*' : '') },
      { title: 'NAME', value: (row) => row.name },
      { title: 'MESH', value: (row) => row.context.mesh },
      { title: 'CONTROL', value: (row) => row.context.signers.join(','), shrink: true },
      { title: 'REGISTRY', value: (row) => row.context.registry.kind },
      { title: 'OPERATOR', value: (row) => row.context.operator, wide: true },
      { title: 'TRUST DOMAIN', value: (row) => row.context.trustDomain, wide: true },
    ],
    name: (row) => row.name,
    // The token stays in the file.
    json: ({ name, context, current }) => ({
      name,
      current,
      mesh: context.mesh,
      trustDomain: context.trustDomain,
      operator: context.operator,
      signers: context.signers,
      registry: { kind: context.registry.kind, url: context.registry.url },
      control: context.control,
    }),
    empty: 'no context yet; meshctl init makes a mesh',
  })
}
